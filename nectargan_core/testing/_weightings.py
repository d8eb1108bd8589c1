"""Checks of a weighting: factors that can be trained with, whatever the losses are, and a state that can be resumed."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nectargan_core._messages import listed, one_line, shown
from nectargan_core.catalog import WEIGHTINGS, Plugin
from nectargan_core.errors import NectarganError, WeightingError
from nectargan_core.testing import _callables as callables
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._generators import watched
from nectargan_core.testing._installed import for_subjects
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable, Outcome, named, raise_failures, run_checks
from nectargan_core.testing._weighting_run import NAMES, Run, Values, WeightingSubject, falling
from nectargan_core.weightings import Weighting

# How often it is called before it is looked at whether it does more than before: gradients cost more than values.
_CALLS = {"values": (200, 400, 800), "gradients": (16, 32, 64)}


# The checks


def params(subject: WeightingSubject) -> None:
    """It takes its params by name, with defaults that JSON can hold."""
    callables.check_params(subject.load, subject.params, ())


def factors(subject: WeightingSubject) -> None:
    """There is a finite factor of at least 0 for each loss, in their order, whatever the losses are.

    Losses fall, are 0, negative, tiny, huge, and once not finite. At one that is not finite a weighting may raise a
    `ValueError` that names the loss.
    """
    _ready(subject)
    run = Run(subject)
    for values in falling(8):
        run.factors(values)
    if run.bound.needs == "gradients" and not run.takes_gradients:
        raise CheckFailed(
            "it declares needs = 'gradients', for which users must give wrt=, and took none; declare needs = 'values'"
        )
    _check_order(subject)
    if not subject.params:
        _check_dots(subject)
    for what, value in {"0": 0.0, "negative": -2.0, "tiny": 1e-12, "huge": 1e12}.items():
        for names in (("G_L1",), NAMES):
            for before in (0, 3):
                _check_with(subject, dict.fromkeys(names, value), before, f"after losses that were {what}")
    for value in (math.nan, math.inf):
        for before in (0, 3):
            _check_not_finite(subject, value, before)


def subsets(subject: WeightingSubject) -> None:
    """Losses come and go from step to step, and one may be the only one."""
    _ready(subject)
    _runs(subject)
    gan, l1, vgg = NAMES
    for pattern in (
        [(gan, l1, vgg), (gan, vgg), (l1,), (gan, l1, vgg), (l1, vgg), (vgg,), (gan, l1, vgg)],
        [(gan,), (gan, l1), (l1, vgg), (gan, l1, vgg), (gan, l1, vgg)],
        [(vgg,), (l1, vgg), (gan, l1, vgg)],
    ):
        run = Run(subject)
        for values, names in zip(falling(len(pattern)), pattern, strict=True):
            try:
                run.factors(Values({name: values.of[name] for name in names}, values.step))
            except CheckFailed as failure:
                raise CheckFailed(
                    f"with the losses {listed(names)} of {listed(NAMES)} at a step (a loss whose own weight is 0 does "
                    f"not run): {failure}; keep what is kept by name, and give factors for step.names"
                ) from failure
    try:
        alone = Run(subject, (gan,))
    except CheckFailed:
        return  # It says so when it is set, and not in mid-training.
    for values in falling(4):
        try:
            alone.factors(Values({gan: values.of[gan]}, values.step))
        except CheckFailed as failure:
            raise CheckFailed(
                f"with one loss only: {failure}; refuse that in begin(names), or let it work"
            ) from failure


def state(subject: WeightingSubject) -> None:
    """A new object that is given the state goes on with the same factors; the state is plain data, and not shared."""
    _ready(subject)
    steps = list(falling(12))
    with watched("draw from one of its own, such as torch.Generator().manual_seed(seed + step.step)"):
        expected = _runs(subject, steps)
    if (again := _runs(subject, steps)) != expected:
        raise CheckFailed(
            f"two objects of it gave {_difference(expected, again)} for the same losses; keep what is kept in the "
            "object, not in the class or module, and draw from a generator that is made of a seed and step.step"
        )
    first = Run(subject)
    for values in steps[:6]:
        first.factors(values)
    saved = _saved(first)
    resumed = Run(subject)
    _resume(resumed, first, copy.deepcopy(saved))
    found = [resumed.factors(values) for values in steps[6:]]
    if found != expected[6:]:
        if isinstance(first.object, nn.Module):
            advice = "what a module keeps beside its parameters is lost; keep it in buffers (register_buffer)"
        else:
            kept = "state_dict() lacks something that they depend on" if saved is not None else "it has no state_dict()"
            advice = f"{kept}; let state_dict() return all of that, and load_state_dict(state) take it"
        raise CheckFailed(f"a resumed run gave {_difference(expected[6:], found)}: {advice}")
    if saved is not None:
        handed = copy.deepcopy(saved)
        other = Run(subject)
        other.object.load_state_dict(handed)
        for values in steps[6:]:
            other.factors(values)
        if handed != saved:
            raise CheckFailed(
                "load_state_dict(state) keeps the dicts or lists of the state, so that the state changes as the run "
                "goes on; copy them, as in dict(state['means'])"
            )


def cost(subject: WeightingSubject) -> None:
    """One that needs values takes no gradients, and neither what it does at a step nor what it keeps grows."""
    _ready(subject)
    run = Run(subject)
    calls = _CALLS[run.bound.needs]
    counted, kept = [], []
    done = 0
    for count in calls:
        *before, last = falling(count - done, begin=done)
        with _ordinary():
            for values in before:
                run.factors(values)
            with _Counting() as counting:
                run.factors(last)
        done = count
        counted.append(counting.count)
        kept.append(_size(run.object))
    if run.bound.needs == "values" and run.takes_gradients:
        raise CheckFailed("it declares needs = 'values', and takes gradients; declare needs = 'gradients'")
    if kept[0] < kept[1] < kept[2]:
        raise CheckFailed(
            f"what it keeps grows with the steps: {kept[0]}, {kept[1]} and {kept[2]} values after {calls[0]}, "
            f"{calls[1]} and {calls[2]} steps; keep a sum, a mean or a fixed number of the last values"
        )
    if counted[0] < counted[1] < counted[2]:
        raise CheckFailed(
            f"what it computes grows with the steps: {counted[0]}, {counted[1]} and {counted[2]} calls of torch at "
            f"step {calls[0]}, {calls[1]} and {calls[2]}; compute from the step and a fixed number of values"
        )


def docstring(subject: WeightingSubject) -> None:
    """Its docstring says what it does, and what each of its params is."""
    callables.check_docstring(subject.load, (), '"""Divide each loss by the running mean of its value."""')


CHECKS = tuple(map(named, (params, factors, subsets, state, cost, docstring)))
"""The checks of any weighting."""
WEIGHTING_CHECKS = (*for_subjects(), *CHECKS)
"""Those, and the checks of any installed plugin."""


# Runs of ordinary losses


def _runs(subject: WeightingSubject, steps: Iterable[Values] | None = None) -> list[dict[str, float]]:
    """Return the factors of a run of ordinary losses."""
    with _ordinary():
        run = Run(subject)
        return [run.factors(values) for values in (falling(4) if steps is None else steps)]


@contextlib.contextmanager
def _ordinary() -> Iterator[None]:
    """Raise `NotApplicable` in the place of `CheckFailed`, where the check `factors` says why."""
    try:
        yield
    except CheckFailed:
        raise NotApplicable("it fails for ordinary losses, as the check `factors` tells") from None


# Factors


def _check_dots(subject: WeightingSubject) -> None:
    """Ask for factors of losses whose names no attribute and no parameter may have."""
    try:
        Run(subject, ("G_GAN", "G_L1")).factors(Values({"G_GAN": 1.0, "G_L1": 2.0}, 0))
    except CheckFailed:
        return  # The names are not to blame; the check `subsets` tells what is.
    name = "face.G_L1"
    try:
        Run(subject, ("G_GAN", name)).factors(Values({"G_GAN": 1.0, name: 2.0}, 0))
    except CheckFailed as failure:
        raise CheckFailed(
            f"with a loss of the name {name!r}: {failure}; names of losses may have dots, which names of parameters "
            "and attributes may not, so keep the place of each loss in a dict, and one vector of parameters"
        ) from failure


def _check_with(subject: WeightingSubject, special: Mapping[str, float], before: int, what: str) -> None:
    run = Run(subject)
    steps = list(falling(before + 3))
    for values in steps:
        is_special = values.step == before
        of = {**values.of, **special} if is_special else values.of
        try:
            run.factors(Values(of, values.step))
        except CheckFailed as failure:
            raise failure if is_special or values.step < before else CheckFailed(f"{what}: {failure}") from failure


def _check_not_finite(subject: WeightingSubject, value: float, before: int) -> None:
    run = Run(subject)
    for values in falling(before + 3):
        is_special = values.step == before
        of = {**values.of, "G_L1": value} if is_special else values.of
        try:
            run.factors(Values(of, values.step))
        except CheckFailed as failure:
            if is_special and _names_loss(failure.__cause__):
                continue
            if is_special:
                raise CheckFailed(
                    f"one loss that is {value} ends the run: {failure}. Keep the factors of the step before, leave "
                    "that value out, or raise a ValueError that names the loss"
                ) from failure
            if values.step < before:
                raise
            raise CheckFailed(
                f"one loss that was {value} spoils the steps after it: {failure}; leave such a value out of what "
                "is kept"
            ) from failure


def _names_loss(error: BaseException | None) -> bool:
    """Whether a weighting itself refused a loss, by its name."""
    own = error.__cause__ if isinstance(error, WeightingError) else None
    return isinstance(own, ValueError) and "G_L1" in str(own)


def _check_order(subject: WeightingSubject) -> None:
    """Compare with a run in which the losses of every second step stand in another order."""
    alike = Run(subject)
    for step in range(3):
        given = alike.factors(Values(dict.fromkeys(NAMES, 1.0 - 0.1 * step), step, is_apart=True))
        if max(given.values()) > (1.0 + 1e-4) * min(given.values()):
            return  # It treats like losses differently, by name, by place or at random: nothing tells which is right.
    straight, turned = Run(subject), Run(subject)
    for values in falling(6):
        apart = Values(values.of, values.step, is_apart=True)
        expected = straight.factors(apart)
        found = turned.factors(apart, NAMES[::-1] if values.step % 2 else NAMES)
        for name in NAMES:
            if not math.isclose(found[name], expected[name], rel_tol=1e-3, abs_tol=1e-6):
                raise CheckFailed(
                    f"the factor of {name!r} is {found[name]:g} at {values} where step.names is turned round, and "
                    f"{expected[name]:g} where it is not; return factors in the order of step.names, and keep what is "
                    "kept by name"
                )


def _difference(expected: list[dict[str, float]], found: list[dict[str, float]]) -> str:
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        for name in one:
            if one[name] != other[name]:
                return f"the factor {other[name]!r} in the place of {one[name]!r} for {name!r}, {index} steps later"
    return "other factors"


# State


def _saved(run: Run) -> Any:
    """Return the state of a weighting as JSON gives it back; None of one without."""
    try:
        state = run.bound.object.state()
    except NectarganError as error:
        raise CheckFailed(str(error)) from error
    if state is None:
        return None
    try:
        read = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckFailed(
            f"its state_dict() cannot be written as JSON ({one_line(error)}); return dicts with str keys, lists, text, "
            "finite numbers, True, False and None only, such as tensor.tolist()"
        ) from error
    if read != state:
        raise CheckFailed(
            f"JSON gives its state_dict() back as something else: {shown(state)} became {shown(read)}; return lists "
            "and not tuples, and dicts with str keys"
        )
    if not callable(getattr(run.object, "load_state_dict", None)):
        raise CheckFailed("it has state_dict() and no load_state_dict(state), so that no run can be resumed; add it")
    return read


def _resume(resumed: Run, first: Run, saved: Any) -> None:
    """Let a weighting go on where another one is, as a manager and the checkpoint of its modules do."""
    try:
        resumed.bound.object.load_state(saved)
        if first.bound.parameters is not None and resumed.bound.parameters is not None:
            resumed.bound.parameters.load_state_dict(copy.deepcopy(first.bound.parameters.state_dict()))
    except (NectarganError, RuntimeError) as error:
        raise CheckFailed(f"a new object does not take the state: {one_line(error)}") from error


# Cost


class _Counting(TorchFunctionMode):
    """Counts calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _size(thing: object) -> int:
    """Return how many numbers and other single values are reached through the attributes and items of an object."""
    seen: set[int] = set()
    waiting, count = deque([thing]), 0
    while waiting:
        each = waiting.pop()
        if isinstance(each, (int, float, str, bytes, bool, type(None))):
            count += 1
        elif id(each) in seen or isinstance(each, (type, ModuleType)):
            continue
        elif isinstance(each, Tensor):
            seen.add(id(each))
            count += each.numel()
        else:
            seen.add(id(each))
            waiting.extend(_inside(each))
    return count


def _inside(thing: Any) -> Collection[Any]:
    if isinstance(thing, Mapping):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, (list, tuple, set, frozenset, deque)):
        return list(thing)
    attributes = list(getattr(thing, "__dict__", {}).values())
    return attributes + [getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if hasattr(thing, name)]


def _ready(subject: WeightingSubject) -> None:
    callables.ready(subject.load, subject.params, ())


# What authors and commands call


def weighting_subject(weighting: object, params: Mapping[str, Any]) -> WeightingSubject:
    """Make what the checks look at from a class or the name of an installed weighting.

    Raises:
        PluginNotFoundError: If no weighting of the name is installed.
        pydantic.ValidationError: If a param cannot be written as JSON.
        TypeError: If it is neither.
    """
    plain = Weighting("checked", params=dict(params)).params
    if isinstance(weighting, str):
        return WeightingSubject(None, plain, callables.installed(WEIGHTINGS, weighting, "weighting"))
    if not callable(weighting):
        raise TypeError(
            f"a weighting is a class with a method factors(step), or the name of one, got {shown(weighting)}"
        )
    return WeightingSubject(weighting, plain)


def examine_weighting(
    plugin: Plugin, skip: Mapping[str, str], params: Mapping[str, Any], options: Mapping[str, Any]
) -> list[Outcome]:
    """Run all checks of an installed weighting."""
    if options:
        raise ValueError(f"a weighting takes params and no options, got {shown(dict(options))}")
    return run_checks(
        WEIGHTING_CHECKS, WeightingSubject(None, Weighting("checked", params=dict(params)).params, plugin), skip
    )


def check_weighting(
    weighting: Callable[..., Any] | str,
    *,
    params: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Check a weighting: its factors, losses that come and go, its state, and that its cost does not grow.

    It balances generated losses with the names `G_GAN`, `G_L1` and `G_VGG`, which have values and gradients of one
    size. They fall, are 0, negative, 1e-12, 1e12, and once nan or infinite, where it may also raise a `ValueError` that
    names the loss.

    Args:
        weighting: The class, or the name of an installed weighting, `"provider/name"` where several offer it. Of a
            name the entry point and the metadata of its distribution are checked, too.
        params: Keyword arguments of the class; those without a default must be given.
        skip: Reasons for leaving out checks, by their names: `params`, `factors`, `subsets`, `state`, `cost`,
            `docstring`; of an installed one `entry_point`, `metadata` and `imports`, too.

    Raises:
        CheckFailed: If a check fails; the message lists what to change.
        PluginNotFoundError: If no weighting of the name is installed.
        pydantic.ValidationError: If a param cannot be written as JSON.
        ValueError: If `skip` has the name of no check.
        TypeError: If it is neither a class nor a name.

    Example:
        >>> from nectargan_core import WeightingStep
        >>> class Inverse:
        ...     '''Divide each loss by its value, but by `floor` at least, above 0.'''
        ...
        ...     needs = "values"
        ...
        ...     def __init__(self, *, floor: float = 1e-3) -> None:
        ...         self.floor = floor
        ...
        ...     def factors(self, step: WeightingStep) -> list[float]:
        ...         return [1.0 / value if value > self.floor else 1.0 / self.floor for value in step.values]
        >>> check_weighting(Inverse)
    """
    subject = weighting_subject(weighting, params or {})
    raise_failures(subject.label, run_checks(WEIGHTING_CHECKS, subject, skip or {}))


@with_tests_of(WEIGHTING_CHECKS)
class WeightingTests(CheckCases):
    """Tests of a weighting, one for each check of `check_weighting`; pytest runs those of a subclass.

    Attributes:
        weighting: The class, or the name of an installed weighting.
        params: Keyword arguments of the class.
        skip: Reasons for leaving out checks, by their names.

    Example:
        >>> class Equal:
        ...     '''Leave all losses as they are.'''
        ...
        ...     needs = "values"
        ...
        ...     def factors(self, step):
        ...         return [1.0] * len(step.names)
        >>> class TestEqual(WeightingTests):
        ...     weighting = Equal
        >>> TestEqual().test_factors()
    """

    weighting: ClassVar[Any]
    params: ClassVar[Mapping[str, Any]] = {}

    def subject(self) -> WeightingSubject:
        """Make what the checks look at."""
        weighting = type(self).weighting
        return weighting_subject(weighting, self.params)
