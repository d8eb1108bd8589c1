"""The kit finds what is wrong with a weighting, says what to change, and finds nothing wrong with sound ones."""

import dataclasses
import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nectargan_core.errors import PluginNotFoundError
from nectargan_core.testing import CheckFailed, WeightingTests, check_weighting


class Equal:
    """Leave all losses as they are."""

    needs = "values"

    def factors(self, step):
        return [1.0] * len(step.names)


class Means:
    """Divide each loss by the running mean of its size, with `decay`, from 0 to 1."""

    needs = "values"

    def __init__(self, *, decay=0.9):
        self.decay = decay
        self.means = {}

    def factors(self, step):
        for name, value in zip(step.names, step.values, strict=True):
            if math.isfinite(value):
                self.means[name] = self.decay * self.means.get(name, abs(value)) + (1 - self.decay) * abs(value)
        return [1.0 / max(self.means.get(name, 1.0), 1e-6) for name in step.names]

    def state_dict(self):
        return {"means": dict(self.means)}

    def load_state_dict(self, state):
        self.means = dict(state["means"])


class Sizes:
    """Divide the gradient of each loss by its size."""

    needs = "gradients"

    def factors(self, step):
        return [1.0 / max(norm, 1e-3) if math.isfinite(norm) else 1.0 for norm in step.norms().tolist()]


class Refusing(Sizes):
    """Divide the gradient of each loss by its size, and refuse one that is not finite."""

    def factors(self, step):
        for name, norm in zip(step.names, step.norms().tolist(), strict=True):
            if not math.isfinite(norm):
                raise ValueError(f"the gradient of {name} is not finite")
        return super().factors(step)


class Pair(Equal):
    """Balance two losses at least."""

    def begin(self, names):
        if len(names) < 2:
            raise ValueError("there must be two losses")


class Learned(nn.Module):
    """Learn a positive factor for each loss, of any start."""

    needs = "values"

    def begin(self, names):
        self.places = {name: place for place, name in enumerate(names)}
        self.logarithms = nn.Parameter(0.1 * torch.randn(len(names)))

    def factors(self, step):
        return self.logarithms[[self.places[name] for name in step.names]].exp()

    def extra(self, step):
        return -self.logarithms[[self.places[name] for name in step.names]].sum()


class Drawn:
    """Draw factors that the step determines."""

    needs = "values"

    def factors(self, step):
        return torch.rand(len(step.names), generator=torch.Generator().manual_seed(step.step)).tolist()


class Window:
    """Weigh by the last values of each loss."""

    needs = "values"

    def __init__(self):
        self.last = {}

    def factors(self, step):
        for name, value in zip(step.names, step.values, strict=True):
            if math.isfinite(value):
                self.last[name] = [*self.last.get(name, []), abs(value)][-5:]
        return [1.0 / (1.0 + sum(self.last.get(name, []))) for name in step.names]

    def state_dict(self):
        return self.last

    def load_state_dict(self, state):
        self.last = {name: list(values) for name, values in state.items()}


@pytest.mark.parametrize("weighting", [Equal, Means, Sizes, Refusing, Pair, Learned, Drawn, Window])
def test_a_sound_weighting_passes(weighting):
    check_weighting(weighting)


def test_params_are_given_to_a_sound_weighting():
    check_weighting(Means, params={"decay": 0.0})


# Planted faults: each is found by one check at least, with a message that says what to change.


class AnyParams(Equal):
    """Leave all losses as they are."""

    def __init__(self, **params):
        pass


class Required(Equal):
    """Leave all losses but `loss` as they are."""

    def __init__(self, *, loss):
        pass


class TensorDefault(Equal):
    """Leave all losses as they are, whatever the scale."""

    def __init__(self, *, scale=torch.ones(1)):  # noqa: B008 # the fault
        pass


class NoNeeds:
    """Say nothing of what it needs."""

    def factors(self, step):
        return [1.0] * len(step.names)


class NoFactors:
    """Have no method."""

    needs = "values"


class Inverse:
    """Divide by the value."""

    needs = "values"

    def factors(self, step):
        return [1.0 / value for value in step.values]


class Signed:
    """Divide by the value, whatever its sign."""

    needs = "values"

    def factors(self, step):
        return [1.0 / value if value and math.isfinite(value) else 1.0 for value in step.values]


class Squared:
    """Divide by the square, which may be too small."""

    needs = "values"

    def factors(self, step):
        return [1.0 / (value * value) if value and math.isfinite(value) else 1.0 for value in step.values]


class Exponential:
    """Grow with the value, beyond all numbers."""

    needs = "values"

    def factors(self, step):
        return [math.exp(value) if math.isfinite(value) else 1.0 for value in step.values]


class Absorbing(Means):
    """Let one nan stay in the mean."""

    def factors(self, step):
        for name, value in zip(step.names, step.values, strict=True):
            self.means[name] = 0.5 * self.means.get(name, 1.0) + 0.5 * abs(value)
        return [1.0 / max(self.means[name], 1e-6) if math.isfinite(value) else 1.0
                for name, value in zip(step.names, step.values, strict=True)]  # fmt: skip


class Sorted:
    """Give the factors in the order of the names."""

    needs = "values"

    def factors(self, step):
        factors = {name: 1.0 / (1.0 + abs(value)) for name, value in zip(step.names, step.values, strict=True)}
        return [factors[name] if math.isfinite(factors[name]) else 1.0 for name in sorted(factors)]


class ByPlace:
    """Keep means by place."""

    needs = "values"

    def __init__(self):
        self.means = [1.0] * 3

    def factors(self, step):
        for place, value in enumerate(step.values):
            if math.isfinite(value):
                self.means[place] = 0.5 * self.means[place] + 0.5 * abs(value)
        return [1.0 / (0.1 + mean) for mean in self.means[: len(step.names)]]

    def state_dict(self):
        return {"means": list(self.means)}

    def load_state_dict(self, state):
        self.means = list(state["means"])


class TooFew:
    """Give one factor."""

    needs = "values"

    def factors(self, step):
        return [1.0]


class Nothing:
    """Forget to return."""

    needs = "values"

    def factors(self, step):
        pass


class Undeclared:
    """Take gradients without a word."""

    needs = "values"

    def factors(self, step):
        return [1.0 / (1e-3 + norm) for norm in step.norms().tolist()]


class Behind:
    """Take gradients behind the back of the step."""

    needs = "values"

    def factors(self, step):
        for result in step._results:
            result.backward(retain_graph=True)
        return [1.0] * len(step.names)


class Needless(Equal):
    """Declare gradients, and take none."""

    needs = "gradients"


class Unlearned(nn.Module):
    """Have parameters that nothing depends on."""

    needs = "values"

    def __init__(self):
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros(()))

    def factors(self, step):
        return [float(self.logarithm.detach().exp())] * len(step.names)


class NanExtra(Equal):
    """Add nan to the total."""

    def extra(self, step):
        return torch.tensor(math.nan)


class Dotted(nn.Module):
    """Name parameters like losses."""

    needs = "values"

    def begin(self, names):
        self.logarithms = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in names})

    def factors(self, step):
        return torch.stack([self.logarithms[name] for name in step.names]).exp()


class Fixed:
    """Give three factors."""

    needs = "values"

    def factors(self, step):
        return [1.0, 1.0, 1.0]


class Known:
    """Know only losses that ran at the first step."""

    needs = "values"

    def __init__(self):
        self.first = None

    def factors(self, step):
        if self.first is None:
            self.first = dict.fromkeys(step.names, 1.0)
        return [self.first[name] for name in step.names]


class OthersOnly:
    """Weigh each loss by the mean of the others."""

    needs = "values"

    def factors(self, step):
        count = len(step.names) - 1
        return [(sum(map(abs, step.values)) - abs(value)) / count if math.isfinite(sum(step.values)) else 1.0
                for value in step.values]  # fmt: skip


class Forgetting(Means):
    """Have no state."""

    state_dict = load_state_dict = None


class Partial(Means):
    """Keep only a part of the state."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def factors(self, step):
        self.calls += 1
        return [factor * (1.0 + 1.0 / self.calls) for factor in super().factors(step)]


class Unbuffered(nn.Module):
    """Keep means beside the parameters of a module."""

    needs = "values"

    def __init__(self):
        super().__init__()
        self.calls = 0

    def factors(self, step):
        self.calls += 1
        return [1.0 / self.calls] * len(step.names)


class Unloadable(Means):
    """Have a state that cannot be loaded."""

    load_state_dict = None


class TensorState(Means):
    """Keep tensors."""

    def state_dict(self):
        return {"means": {name: torch.tensor(mean) for name, mean in self.means.items()}}


class TupleState(Means):
    """Keep tuples."""

    def state_dict(self):
        return {"means": tuple(self.means.items())}


class NumberedState(Means):
    """Keep numbers for keys."""

    def state_dict(self):
        return {index: list(pair) for index, pair in enumerate(self.means.items())}


class NanState(Means):
    """Keep nan."""

    def state_dict(self):
        return {"means": self.means, "last": math.nan}


class SharedState(Means):
    """Go on with the dict that it was given."""

    def load_state_dict(self, state):
        self.means = state["means"]


class Classwide(Means):
    """Keep means in the class."""

    kept: ClassVar = {}

    def __init__(self):
        super().__init__()
        self.means = self.kept


class AtRandom:
    """Draw from the generator of the process."""

    needs = "values"

    def factors(self, step):
        return torch.rand(len(step.names)).tolist()


class Seeding:
    """Seed the generator of the process."""

    needs = "values"

    def factors(self, step):
        torch.manual_seed(step.step)
        return torch.rand(len(step.names)).tolist()


class Hoarding(Window):
    """Keep all values."""

    def __init__(self):
        super().__init__()
        self.all = []

    def factors(self, step):
        self.all.append(step.values)
        return super().factors(step)


class Slowing(Equal):
    """Compute more at each step."""

    def factors(self, step):
        for _ in range(step.step // 8):
            torch.zeros(1).add(1.0)
        return super().factors(step)


class Undocumented:
    needs = "values"

    def factors(self, step):
        return [1.0] * len(step.names)


@dataclasses.dataclass
class Generated:
    needs: ClassVar = "values"
    scale: float = 1.0

    def factors(self, step):
        return [self.scale] * len(step.names)


class HalfDocumented(Equal):
    """Leave all losses as they are."""

    def __init__(self, *, alpha=1.0):
        pass


FAULTS = [
    ("params", AnyParams, r"\*\*params takes any name, so that a misspelt param is ignored"),
    ("params", Required, r"cannot be checked without values for loss, .* params=\{\"loss\": ...\}, or --param loss"),
    ("params", TensorDefault, "the default of scale is nothing that JSON can hold"),
    ("factors", NoNeeds, "has needs = None; expected 'values' or 'gradients'"),
    ("factors", NoFactors, r"which has no method factors\(step\)"),
    (
        "factors",
        Inverse,
        r"failed in factors: ZeroDivisionError: .* \(at step 0, where the losses were .*G_L1: 0",
    ),
    ("factors", Signed, r"gave the factor -0\.5 for loss 'G_L1' at step 0, .* a factor is at least 0"),
    ("factors", Exponential, r"OverflowError: .* \(at step 0, where .* G_L1: 1e\+12"),
    ("factors", Absorbing, "one loss that was nan spoils the steps after it: .* leave such a value out"),
    ("factors", Sorted, "return factors in the order of step.names, and keep what is kept by name"),
    ("factors", ByPlace, "return factors in the order of step.names, and keep what is kept by name"),
    ("factors", TooFew, "gave 1 factors for 3 losses"),
    ("factors", Nothing, "gave None as factors; expected a number for each loss, in the order of step.names"),
    ("factors", Undeclared, "needs = 'values' has no gradients; it must declare needs = 'gradients'"),
    ("factors", Needless, "declares needs = 'gradients', .* and took none; declare needs = 'values'"),
    ("factors", Unlearned, "nothing is learned; return the factors as a tensor with a graph"),
    ("factors", NanExtra, r"extra\(step\) gave nan at step 0"),
    ("factors", Dotted, "with a loss of the name 'face.G_L1': .*keep the place of each loss in a dict"),
    ("subsets", Fixed, "with the losses G_GAN, G_VGG of G_GAN, G_L1, G_VGG at a step .* give factors for step.names"),
    ("subsets", Known, "failed in factors: KeyError: 'G_L1' .*keep what is kept by name"),
    ("subsets", OthersOnly, r"with the losses G_L1 .*ZeroDivisionError"),
    ("state", Forgetting, r"a resumed run gave .* 0 steps later: it has no state_dict\(\)"),
    ("state", Partial, r"state_dict\(\) lacks something that they depend on; let state_dict\(\) return all of that"),
    ("state", Unbuffered, r"beside its parameters is lost; keep it in buffers \(register_buffer\)"),
    ("state", Unloadable, r"it has state_dict\(\) and no load_state_dict\(state\), so that no run can be resumed"),
    ("state", TensorState, r"cannot be written as JSON \(TypeError: .*\); return dicts with str keys"),
    ("state", TupleState, "JSON gives its state_dict.* back as something else: .*return lists and not tuples"),
    ("state", NumberedState, "JSON gives its state_dict.* back as something else: .*dicts with str keys"),
    ("state", NanState, r"cannot be written as JSON \(ValueError: .*finite numbers"),
    ("state", SharedState, r"keeps the dicts or lists of the state, .*copy them, as in dict\(state\['means'\]\)"),
    ("state", Classwide, "two objects of it gave .* keep what is kept in the object, not in the class or module"),
    ("state", AtRandom, "draws from, or seeds, the generator of torch, which belongs to the training"),
    ("state", Seeding, "draws from, or seeds, the generator of torch, .*draw from one of its own"),
    ("cost", Behind, "declares needs = 'values', and takes gradients; declare needs = 'gradients'"),
    ("cost", Hoarding, "what it keeps grows with the steps: .* after 200, 400 and 800 steps; keep a sum"),
    ("cost", Slowing, "what it computes grows with the steps: .* calls of torch at step 200, 400 and 800"),
    ("docstring", Undocumented, "Undocumented has no docstring, whose first line `nectargan plugins` shows"),
    ("docstring", Generated, "Generated has no docstring"),
    ("docstring", HalfDocumented, "the docstring of HalfDocumented says nothing about alpha; say under Args"),
]


@pytest.mark.parametrize(("check", "weighting", "message"), FAULTS, ids=[fault[1].__name__ for fault in FAULTS])
def test_a_fault_is_found_and_the_message_says_what_to_change(check, weighting, message):
    with pytest.raises(CheckFailed, match=rf"(?s)^weighting {weighting.__name__}:\n.*  {check}: [^\n]*{message}"):
        check_weighting(weighting)


def test_each_check_has_a_planted_fault():
    from nectargan_core.testing._weightings import CHECKS

    assert {check for check, _, _ in FAULTS} == {check.name for check in CHECKS}


def test_what_has_no_fault_but_one_has_one_message():
    with pytest.raises(CheckFailed, match=r"^weighting SharedState:\n  state: [^\n]*$"):
        check_weighting(SharedState)


def test_params_that_are_refused_are_quoted():
    class Refused(Equal):
        """Leave all losses as they are, with `alpha` above 0."""

        def __init__(self, *, alpha=1.0):
            if not alpha > 0:
                raise ValueError(f"alpha must be above 0, got {alpha!r}")

    check_weighting(Refused)
    with pytest.raises(CheckFailed, match="factors: .* cannot be made with the params .*alpha must be above 0, got -1"):
        check_weighting(Refused, params={"alpha": -1})
    with pytest.raises(CheckFailed, match='params: params has alhpa, and it takes alpha. Did you mean "alpha"?'):
        check_weighting(Refused, params={"alhpa": 1})


def test_the_training_goes_on_as_if_nothing_was_checked():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    check_weighting(Learned)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_neither_a_class_nor_a_name_is_refused():
    with pytest.raises(TypeError, match="a weighting is a class .*, got 3"):
        check_weighting(3)
    with pytest.raises(ValidationError, match="params may hold"):
        check_weighting(Means, params={"decay": object()})
    with pytest.raises(PluginNotFoundError, match="no weighting 'nothing-of-that-name' is installed"):
        check_weighting("nothing-of-that-name")


class TestMeans(WeightingTests):
    weighting = Means
    params: ClassVar = {"decay": 0.5}


def test_the_class_fails_where_the_function_does_and_skips_with_the_reason():
    class Faulty(WeightingTests):
        weighting = Fixed
        skip: ClassVar = {"state": "it has none"}

    Faulty().test_factors()
    with pytest.raises(pytest.fail.Exception, match="gave 3 factors for 2 losses"):
        Faulty().test_subsets()
    with pytest.raises(pytest.skip.Exception, match="it has none"):
        Faulty().test_state()
