"""Checks of a loss function, and what runs them: `check_loss`, and `LossTests` for pytest."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nectargan_core._messages import listed, name_of, one_line, shown
from nectargan_core.errors import WeightsError
from nectargan_core.losses import LMLoss
from nectargan_core.testing._call import Call, Parameters, called, explained, plain_tensors, seeded
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._inputs import (
    CASES,
    Case,
    Inputs,
    MakeInputs,
    in_case,
    made,
    mapped,
    prepared,
    tensors_of,
)
from nectargan_core.testing._outcomes import (
    Check,
    CheckFailed,
    NotApplicable,
    named,
    raise_failures,
    run_checks,
)

_BATCH = 2
_ELSE = {
    "equal": "; the gradient of a square root, and of a norm, is infinite at 0: add an epsilon inside of it",
    "zero": "; add an epsilon where it divides, takes a square root or a logarithm",
    "unmasked": "; divide by the sum of the mask clamped to 1 at least",
    "random": "",
}
_DIRECTIONS = 3
_DISTANCE = 1e-6
_UNCALLABLE = "it cannot be called, as the check `finite` tells"

# Operators that need the values of a tensor on the host, or make a result whose size depends on them.
_WAITS = (
    "cannot be called on meta tensors",
    "Cannot copy out of meta tensor",
    "can't convert meta device type tensor",
    "unsupported format string passed to Tensor",
    "torch.nonzero()",
    "cannot repeat_interleave a meta tensor",
    *(
        f"aten::{name}:"
        for name in ("_local_scalar_dense", "bincount", "equal", "masked_select", "_unique2", "unique_consecutive")
    ),
)


@dataclass(eq=False)
class LossSubject:
    """One loss function, as the checks look at it.

    Args:
        function: The function or module.
        reads: The names of its inputs, in the order of its parameters, or by parameter.
        make_inputs: Makes them for a batch size; None for the vocabulary.
        gradcheck: Whether its gradient is compared with a numerical one.
        numberless: Why there are no numbers to check; the function is then on the meta device.
    """

    function: Callable[..., Any]
    reads: Parameters
    make_inputs: MakeInputs | None = None
    gradcheck: bool = False
    numberless: str = ""
    _made: dict[int, dict[str, object]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return tuple(self.reads.values() if isinstance(self.reads, Mapping) else self.reads)

    def fresh(self) -> Callable[..., Any]:
        """Return a copy of the function, in the state in which it was given; itself where it cannot be copied."""
        try:
            return copy.deepcopy(self.function)
        except Exception:  # noqa: BLE001 # a module may hold anything; the check `picklable` tells
            return self.function

    def values(self, case: Case = "random", batch: int = _BATCH) -> dict[str, object] | None:
        """Return inputs as they are made; None where the case is none of these inputs."""
        if batch not in self._made:
            with seeded(batch):
                self._made[batch] = made(self.names, self.make_inputs, batch)
        return in_case(self._made[batch], case, vocabulary=self._from_vocabulary)

    def inputs(self, case: Case = "random", batch: int = _BATCH, **conversion: Any) -> Inputs:
        """Return copies of the inputs for one call; `conversion` as for `prepared`."""
        values = self.values(case, batch)
        if values is None:
            raise NotApplicable(f"no input can be such as{CASES[case]}")
        return prepared(values, **conversion)

    def cases(self) -> Iterator[Case]:
        """Yield the cases that its inputs can be."""
        return (case for case in CASES if self.values(case) is not None)

    def call(self, function: Callable[..., Any] | None = None, inputs: Inputs | None = None, seed: int = 1) -> Call:
        """Call the function, or another in its place, with the inputs given, or random ones."""
        with seeded(seed), warnings.catch_warnings():
            # Such as that of a variance over one sample, whose nan is found.
            warnings.simplefilter("ignore")
            return called(
                self.fresh() if function is None else function,
                self.reads,
                self.inputs() if inputs is None else inputs,
            )

    @functools.cached_property
    def plain(self) -> Call | Exception:
        """The call with random inputs in float32 on the CPU, or what it raised."""
        try:
            return self.call()
        except Exception as error:  # noqa: BLE001 # a plugin may raise anything
            return error

    @functools.cached_property
    def is_random(self) -> bool:
        """Whether two calls with the same inputs differ."""
        if isinstance(self.plain, Exception):
            return False
        return bool(_difference(self.call(seed=2), self.plain))

    @property
    def _from_vocabulary(self) -> bool:
        return self.make_inputs is None or self.make_inputs(1) is None


def finite(loss: LossSubject) -> None:
    """It gives finite numbers, also where the generated input equals its target."""
    _needs_numbers(loss)
    if isinstance(loss.plain, WeightsError):
        raise NotApplicable(one_line(loss.plain))
    if isinstance(loss.plain, (CheckFailed, NotApplicable)):
        raise loss.plain
    if isinstance(loss.plain, Exception):
        raise CheckFailed(
            f"calling it with {_described(loss)} raised {explained(loss.plain)}; accept them, or say with make_inputs "
            "what it accepts"
        )
    for case in loss.cases():
        try:
            call = loss.call(inputs=loss.inputs(case))
        except Exception as error:
            if isinstance(error, (CheckFailed, NotApplicable)):
                raise
            raise CheckFailed(f"calling it raised {explained(error)}{CASES[case]}") from error
        for name, term in call.terms.items():
            if not bool(term.isfinite().all()):
                raise CheckFailed(f"{_term(name)} is {_nonfinite(term)}{CASES[case]}{_ELSE[case]}")
            if term.dtype is not torch.float32:
                raise CheckFailed(
                    f"{_term(name)} is {_dtype(term)} where all inputs are float32; a constant, such as one from "
                    "NumPy, has another dtype: make it with dtype=torch.float32, or convert the result"
                )


def differentiable(loss: LossSubject) -> None:
    """A finite gradient reaches the generated input, also where it equals its target."""
    plain = _callable(loss)
    names = tuple(plain.inputs.leaves)
    if not names:
        raise NotApplicable("none of its inputs is a tensor of floating-point numbers")
    if not plain.total.requires_grad:
        raise CheckFailed(
            f"no gradient of its result reaches {listed(names)}; remove detach(), torch.no_grad(), .item(), "
            "torch.tensor(...) and NumPy between the input and the result"
        )
    gradients = plain.gradients()
    trains_module = _trains_module(plain)
    for name in names:
        found = gradients[name]
        if all(each is None for each in found) and not trains_module and _must_reach(name, gradients):
            raise CheckFailed(f"no gradient reaches {name!r}; remove detach() or torch.no_grad() on its way")
    if not trains_module and not any(
        bool(each.count_nonzero()) for found in gradients.values() for each in found if each is not None
    ):
        raise CheckFailed(
            f"its gradient with respect to {listed(names)} is 0 everywhere; comparisons, round(), sign() and argmax() "
            "have no gradient: use a smooth function in their place"
        )
    for case in loss.cases():
        _check_gradients(loss.call(inputs=loss.inputs(case)), f"{CASES[case]}{_ELSE[case]}")


def gradcheck(loss: LossSubject) -> None:
    """Its gradient in float64 is that of finite differences."""
    if not loss.gradcheck:
        raise NotApplicable("ask for it with gradcheck=True")
    _callable(loss)
    function = _moved(loss, dtype=torch.float64)
    inputs = loss.inputs(dtype=torch.float64)
    # Not torch.autograd.gradcheck(), which takes minutes to describe what is wrong with a gradient of an image.
    call = loss.call(copy.deepcopy(function), inputs)
    generator = torch.Generator().manual_seed(0)
    for name, gradients in call.gradients().items():
        for place, gradient in enumerate(gradients):
            if gradient is None:
                continue  # It is held constant.
            for _ in range(_DIRECTIONS):
                direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
                totals = []
                for distance in (_DISTANCE, -_DISTANCE):
                    moved = _shifted(inputs, name, place, direction * distance)
                    totals.append(loss.call(copy.deepcopy(function), moved).total.item())
                expected = (totals[0] - totals[1]) / (2 * _DISTANCE)
                found = (gradient * direction).sum().item()
                tolerance = 1e-3 * gradient.norm().item() + 1e-9 * max(1.0, abs(totals[0]))
                if not abs(found - expected) <= tolerance:
                    raise CheckFailed(
                        f"its gradient with respect to {name!r} in float64 is not that of finite differences: "
                        f"{found:.6g} in a direction in which they give {expected:.6g}; correct the derivative, "
                        "compute in the dtype of the inputs, and detach nothing that depends on them"
                    )


def float16(loss: LossSubject) -> None:
    """It takes float16, and gives finite numbers close to those in float32."""
    _check_half(loss, torch.float16)


def bfloat16(loss: LossSubject) -> None:
    """It takes bfloat16, and gives finite numbers close to those in float32."""
    _check_half(loss, torch.bfloat16)


def float64(loss: LossSubject) -> None:
    """It takes float64, and computes in it."""
    _callable(loss)
    call = _call_in(loss, torch.float64)
    for name, term in call.terms.items():
        if term.dtype is not torch.float64:
            raise CheckFailed(
                f"{_term(name)} is {_dtype(term)} where all inputs are float64; compute in "
                "torch.promote_types(y_fake.dtype, torch.float32), which .float() is not, and give the result in the "
                "dtype of the inputs"
            )
    _check_gradients(call, " in float64")


def autocast(loss: LossSubject) -> None:
    """It works under autocast, with a generated input in bfloat16 beside a target in float32."""
    plain = _callable(loss)
    mixed = " where the generated input is bfloat16, as a network gives it, and the others are float32"
    for dtype, where in ((torch.float32, ""), (torch.bfloat16, mixed)):
        try:
            inputs = loss.inputs(dtype=dtype, others=torch.float32)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                call = loss.call(inputs=inputs)
            _check_gradients(call, f" under autocast{where}")
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            raise CheckFailed(
                f"under autocast it raised {explained(error)}{where}; bring the inputs to one dtype with "
                "torch.promote_types, or switch autocast off inside: with torch.autocast(device_type, enabled=False)"
            ) from error
        _check_close(loss, call, plain, torch.bfloat16, f"under autocast{where}")


def channels_last(loss: LossSubject) -> None:
    """It gives the same numbers for tensors in channels_last, which are not contiguous."""
    plain = _callable(loss)
    if not any(tensor.dim() == 4 for value in plain.inputs.values.values() for tensor in tensors_of(value)):
        raise NotApplicable("none of its inputs has four dimensions")
    try:
        call = loss.call(inputs=loss.inputs(channels_last=True))
        difference = _difference(call, plain, relative=1e-3, absolute=1e-5) or _gradient_difference(call, plain)
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:
        raise CheckFailed(
            f"with inputs in channels_last it raised {explained(error)}; use reshape() or flatten() instead of view()"
        ) from error
    if difference and not loss.is_random:
        raise CheckFailed(
            f"with inputs in channels_last {difference}; it reads memory in the order in which it lies: use reshape() "
            "or flatten(), not as_strided() or data_ptr()"
        )


def batch_size(loss: LossSubject) -> None:
    """It works for a batch of 1 and of 8."""
    _callable(loss)
    calls = {}
    for size in (1, 8):
        try:
            calls[size] = loss.call(inputs=loss.inputs(batch=size))
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            raise CheckFailed(
                f"with a batch of {size} it raised {explained(error)}; squeeze() without a dimension removes that of a "
                "batch of 1, and a size must not be written down"
            ) from error
        for name, term in calls[size].terms.items():
            if not bool(term.isfinite().all()):
                raise CheckFailed(
                    f"with a batch of {size} {_term(name)} is {_nonfinite(term)}; a variance over one sample is nan: "
                    "use correction=0, or compare within the sample"
                )
        _check_gradients(calls[size], f" with a batch of {size}")
    one, eight = calls[1].terms, calls[8].terms
    if one.keys() != eight.keys():
        raise CheckFailed(
            f"it returns the components {listed(one)} for a batch of 1 and {listed(eight)} for one of 8; return the "
            "same, with a zero where there is nothing to add"
        )
    for name in one:
        if one[name].dim() != eight[name].dim():
            raise CheckFailed(
                f"{_term(name)} has the shape {tuple(one[name].shape)} for a batch of 1, and "
                f"{tuple(eight[name].shape)} for one of 8; squeeze() without a dimension removes that of a batch of "
                "1: say which, as squeeze(1)"
            )


def device(loss: LossSubject) -> None:
    """It works on another device after `.to()`, without tensors that stay behind."""
    call = _on_meta(loss, everything=False)
    if isinstance(call, _Elsewhere):
        attributes = plain_tensors(loss.function)
        if attributes:
            raise CheckFailed(
                f"{listed(attributes)} stays on the CPU when the loss is moved by .to(); register it: "
                f"self.register_buffer({attributes[0].rpartition('.')[2]!r}, ..., persistent=False)"
            )
        raise CheckFailed(
            f"on another device it {call}; make tensors with device=y_fake.device, or register them as buffers of a "
            "module"
        )
    if isinstance(call, Exception):
        raise NotApplicable("it reads values on the host, as the check `no_wait` tells")
    for name, term in call.terms.items():
        if term.device.type != "meta":
            raise CheckFailed(
                f"{_term(name)} is on {term.device} where all inputs are on another device; make it with "
                "device=y_fake.device, or with y_fake.new_zeros(())"
            )


def no_wait(loss: LossSubject) -> None:
    """It does not wait for the device: it reads no value on the host."""
    call = _on_meta(loss, everything=True)
    if isinstance(call, _Elsewhere):
        raise NotApplicable("it does not work on another device, as the check `device` tells")
    if isinstance(call, Exception):
        raise CheckFailed(
            f"it reads values of a tensor on the host, for which training waits at every step: {explained(call)}; "
            "without .item(), float(), .cpu(), NumPy, `if` on a tensor, and indexing by a boolean mask: torch.where "
            "and multiplication by the mask do the same on the device"
        )


def compiles(loss: LossSubject) -> None:
    """`torch.compile(fullgraph=True)` takes it, and it gives the same numbers."""
    plain = _callable(loss)
    with warnings.catch_warnings():
        # What torch deprecates inside of its compiler is no fault of the loss.
        warnings.simplefilter("ignore")
        # Code that was compiled often, such as that of torch.nn.L1Loss, would be refused at some point.
        torch.compiler.reset()
        try:
            compiled = torch.compile(loss.fresh(), fullgraph=True, backend="aot_eager")
            call = loss.call(compiled)
            difference = _difference(call, plain, relative=1e-3, absolute=1e-5) or _gradient_difference(call, plain)
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            if "not supported on Python" in str(error):
                raise NotApplicable(one_line(error)) from error
            raise CheckFailed(
                f"torch.compile(fullgraph=True) does not take it: {_graph_break(error)}; use operations of torch only, "
                "and decide by shapes, not by values"
            ) from error
        finally:
            torch.compiler.reset()
    if difference and not loss.is_random:
        raise CheckFailed(
            f"compiled {difference}; it depends on what changes between calls and is no tensor: keep such a state in a "
            "buffer"
        )


def deterministic(loss: LossSubject) -> None:
    """It gives the same numbers for the same inputs, and leaves the seed of random numbers alone."""
    plain = _callable(loss)
    function = loss.fresh()
    advice = 'if that is meant, as in a gradient penalty, give the reason: skip={"deterministic": "..."}'
    states = []
    with seeded():
        for seed in (1, 2):
            torch.default_generator.manual_seed(seed)
            called(function, loss.reads, loss.inputs())
            states.append(torch.get_rng_state())
    if torch.equal(*states):
        raise CheckFailed(
            "it sets the seed of torch's random numbers, so that all else that is random repeats itself; draw from a "
            "torch.Generator of its own"
        )
    again = loss.call()
    if difference := _difference(again, plain):
        raise CheckFailed(
            f"two calls with the same inputs and the same seed differ: {difference}; draw random numbers from torch "
            "only, so that a seed repeats a run"
        )
    if difference := _gradient_difference(again, plain, relative=0.0, absolute=0.0):
        raise CheckFailed(f"two calls with the same inputs and the same seed differ: {difference}")
    if loss.is_random:
        raise CheckFailed(f"it gives other numbers for the same inputs when the seed is another; {advice}")
    function = loss.fresh()
    first, second = loss.call(function), loss.call(function)
    if difference := _difference(second, first):
        raise CheckFailed(f"a second call with the same inputs differs from the first: {difference}; {advice}")


def inputs_unchanged(loss: LossSubject) -> None:
    """It leaves its inputs as they were given."""
    _callable(loss)
    inputs = loss.inputs()
    before = {name: [*map(_state_of, tensors_of(value))] for name, value in inputs.values.items()}
    modes = [(each, each.training) for module in inputs.modules for each in module.modules()]
    frozen = [(each, each.requires_grad) for module in inputs.modules for each in module.parameters()]
    call = loss.call(inputs=inputs)
    for name, value in inputs.values.items():
        after = [*map(_state_of, tensors_of(value))]
        if len(after) != len(before[name]):
            raise CheckFailed(f"it changes how many tensors {name!r} holds; copy the list first: list({name})")
        for (value_before, version, required), (value_after, version_after, required_after) in zip(
            before[name], after, strict=True
        ):
            if version != version_after or not torch.equal(value_before, value_after):
                raise CheckFailed(
                    f"it changes {name!r} in place; other losses read it, too: use the functions without `_` at the "
                    f"end, and {name} = {name} - 1 instead of {name} -= 1"
                )
            if required != required_after:
                raise CheckFailed(
                    f"it changes requires_grad of {name!r}; take a copy: {name}.detach().requires_grad_()"
                )
    if any(module.training != training for module, training in modes):
        raise CheckFailed("it switches a network that it is given between train() and eval(); leave it as it is")
    if any(parameter.requires_grad != required for parameter, required in frozen):
        raise CheckFailed("it changes requires_grad of the parameters of a network that it is given; leave it as it is")
    if any(leaf.grad is not None for leaves in call.inputs.leaves.values() for leaf in leaves):
        raise CheckFailed("it calls backward(); return the loss, which the training loop differentiates")


def state_dict(loss: LossSubject) -> None:
    """What it keeps between calls is in its `state_dict`, which another of its kind can load."""
    _callable(loss)
    if not isinstance(loss.function, nn.Module):
        raise NotApplicable("it is no module, and has no state_dict")
    _must_copy(loss)
    used, other = loss.fresh(), loss.fresh()
    assert isinstance(used, nn.Module)  # noqa: S101 # for type checkers: they are copies
    assert isinstance(other, nn.Module)  # noqa: S101
    for size in (1, 8):
        loss.call(used, loss.inputs(batch=size))
    file = io.BytesIO()
    try:
        torch.save(used.state_dict(), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    except Exception as error:
        raise CheckFailed(
            f"its state_dict cannot be saved and loaded: {one_line(error)}; it may hold tensors and plain data only"
        ) from error
    try:
        other.load_state_dict(state)
    except Exception as error:
        raise CheckFailed(
            f"a new one cannot load the state_dict of one that was called: {_lines(error)}; register all buffers and "
            "parameters in __init__"
        ) from error
    if difference := _difference(loss.call(other), loss.call(used)):
        raise CheckFailed(
            f"after load_state_dict() it gives other numbers than the one that was saved: {difference}; keep what "
            "changes between calls in buffers: self.register_buffer(...)"
        )


def picklable(loss: LossSubject) -> None:
    """It can be copied and pickled, and the copy gives the same numbers."""
    plain = _callable(loss)
    _must_copy(loss)
    try:
        copied = pickle.loads(pickle.dumps(loss.function))  # noqa: S301 # what was pickled just now
    except Exception as error:
        raise CheckFailed(
            f"it cannot be pickled, as for a process that trains on another device: {one_line(error)}; make it a "
            "module, or a function at the top of its file instead of a lambda or a function in a function"
        ) from error
    if difference := _difference(loss.call(copied), plain):
        raise CheckFailed(
            f"after pickling it gives other numbers: {difference}; let __reduce__ or __getstate__ keep all that counts"
        )


CHECKS: tuple[Check[LossSubject], ...] = tuple(
    named(each)
    for each in (
        finite,
        differentiable,
        gradcheck,
        float16,
        bfloat16,
        float64,
        autocast,
        channels_last,
        batch_size,
        device,
        no_wait,
        compiles,
        deterministic,
        inputs_unchanged,
        state_dict,
        picklable,
    )
)
"""The checks of a loss function."""


def check_loss(
    function: Callable[..., Any],
    make_inputs: MakeInputs | None = None,
    *,
    inputs: Sequence[str] | Mapping[str, str] = ("y_fake", "y"),
    gradcheck: bool = False,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Check a loss function as training uses it, and say of each fault what to change.

    The checks, by the names that `skip` takes: `finite`, `differentiable`, `gradcheck`, `float16`, `bfloat16`,
    `float64`, `autocast`, `channels_last`, `batch_size`, `device`, `no_wait`, `compiles`, `deterministic`,
    `inputs_unchanged`, `state_dict`, `picklable`. The random state of the process stays as it is.

    Args:
        function: The module or function.
        make_inputs: Makes the inputs for a batch size: a dict of CPU tensors in float32 by name, of lists or dicts of
            them, of modules and of functions. Those made with `requires_grad` are the generated ones. None for the
            inputs that have a name of the vocabulary, such as images (N, 3, 32, 32) from -1 to 1.
        inputs: The names of what the function reads, in the order of its parameters, or a mapping from parameter to
            name.
        gradcheck: Whether to compare its gradient with finite differences in float64.
        skip: Reasons for leaving out checks, by their names.

    Raises:
        CheckFailed: If a check fails; the message lists all that failed.
        TypeError: If `function` cannot be called, or is a class of modules.
        ValueError: If `skip` has the name of no check.

    Example:
        >>> import torch
        >>> check_loss(torch.nn.L1Loss())
        >>> def wrong(y_fake, y):
        ...     return (y_fake - y).pow(2).mean().sqrt()
        >>> check_loss(wrong, skip={"picklable": "it is an example"})
        Traceback (most recent call last):
        nectargan_core.testing._outcomes.CheckFailed: ...
    """
    subject = LossSubject(_function(function), _reads(inputs), make_inputs, gradcheck)
    raise_failures(name_of(function), run_checks(CHECKS, subject, skip or {}))


@with_tests_of(CHECKS)
class LossTests(CheckCases):
    """A class of tests of a loss function, one for each check of `check_loss`.

    Attributes:
        function: The module or function.
        inputs: The names of what it reads, as for `check_loss`.
        gradcheck: Whether to compare its gradient with finite differences in float64.
        skip: Reasons for leaving out checks, by their names.

    Example:
        >>> import torch
        >>> class TestL1(LossTests):
        ...     function = torch.nn.L1Loss()
        >>> TestL1().test_finite()
    """

    function: ClassVar[Callable[..., Any]]
    inputs: ClassVar[Sequence[str] | Mapping[str, str]] = ("y_fake", "y")
    gradcheck: ClassVar[bool] = False

    def make_inputs(self, batch_size: int) -> Mapping[str, object] | None:
        """Make the inputs for a batch size, as for `check_loss`; None for the vocabulary."""
        return None

    def subject(self) -> LossSubject:
        """Return what the checks look at, the same for all of them."""
        kind = type(self)
        if "_subject" not in vars(kind):
            # Not self.function: a function would become a method.
            function = inspect.getattr_static(kind, "function", None)
            if isinstance(function, (staticmethod, classmethod)):
                function = function.__func__
            kind._subject = LossSubject(_function(function), _reads(self.inputs), self.make_inputs, self.gradcheck)  # type: ignore[attr-defined] # an attribute of each subclass
        subject: LossSubject = vars(kind)["_subject"]
        return subject


# What is given


def _function(function: object) -> Callable[..., Any]:
    if isinstance(function, LMLoss):
        raise TypeError(f"give the function of the loss {function.name!r}, not the LMLoss: {function.name}.function")
    if isinstance(function, type) and issubclass(function, nn.Module):
        raise TypeError(f"{function.__name__} is a class of loss functions; make one of it: {function.__name__}()")
    if not callable(function):
        raise TypeError(f"the loss must be a module or a function, got {shown(function)}")
    return function


def _reads(inputs: object) -> Parameters:
    if isinstance(inputs, Mapping):
        return {str(parameter): str(name) for parameter, name in inputs.items()}
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise TypeError(f"inputs is a tuple of names, or a mapping from parameter to name; got {shown(inputs)}")
    return tuple(inputs)


# What the checks share


def _needs_numbers(loss: LossSubject) -> None:
    if loss.numberless:
        raise NotApplicable(loss.numberless)


def _callable(loss: LossSubject) -> Call:
    """Return the call with random inputs; a check has nothing to look at where there is none."""
    _needs_numbers(loss)
    if isinstance(loss.plain, WeightsError):
        raise NotApplicable(one_line(loss.plain))
    if isinstance(loss.plain, NotApplicable):
        raise loss.plain
    if isinstance(loss.plain, Exception):
        raise NotApplicable(_UNCALLABLE)
    return loss.plain


def _shifted(inputs: Inputs, name: str, place: int, step: Tensor) -> Inputs:
    """Return inputs of which one tensor, the floating-point one at a place of an input, is shifted."""
    places = itertools.count()

    def shift(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or next(places) != place:
            return tensor
        return tensor.detach() + step

    return Inputs({**inputs.values, name: mapped(inputs.values[name], shift)}, {})


def _must_copy(loss: LossSubject) -> None:
    try:
        copy.deepcopy(loss.function)
    except Exception as error:
        raise CheckFailed(
            f"it cannot be copied: {one_line(error)}; keep files, locks, generators and results of earlier calls out "
            "of it"
        ) from error


def _moved(loss: LossSubject, **where: Any) -> Callable[..., Any]:
    """Return a copy of the function moved by `.to()`, if it is a module."""
    if not isinstance(loss.function, nn.Module):
        return loss.function
    _must_copy(loss)
    return copy.deepcopy(loss.function).to(**where)


def _call_in(loss: LossSubject, dtype: torch.dtype, case: Case = "random") -> Call:
    """Call a loss with inputs in a dtype, as it is, or moved to the dtype where it does not work as it is."""
    try:
        return loss.call(inputs=loss.inputs(case, dtype=dtype))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 # a plugin may raise anything
        failure = error
    if isinstance(loss.function, nn.Module):
        try:
            return loss.call(_moved(loss, dtype=dtype), loss.inputs(case, dtype=dtype))
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:  # noqa: BLE001
            failure = error
    if dtype is torch.float64:
        advice = "make constants in the dtype of the inputs, or register them as buffers, which .to() converts"
    else:
        advice = (
            "compute in float32: convert the inputs with .to(torch.promote_types(y_fake.dtype, torch.float32)), and "
            "make constants in that dtype"
        )
    raise CheckFailed(f"with inputs in {_named(dtype)} it raised {explained(failure)}; {advice}") from failure


def _check_half(loss: LossSubject, dtype: torch.dtype) -> None:
    _callable(loss)
    name = _named(dtype)
    call = _call_in(loss, dtype)
    rounded = mapped(
        loss.values() or {}, lambda tensor: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
    )
    for each, term in call.terms.items():
        if term.dtype not in (dtype, torch.float32):
            raise CheckFailed(
                f"{_term(each)} is {_dtype(term)} where all inputs are {name}; a constant, such as one from NumPy, has "
                "that dtype: make it in the dtype of the inputs, or give the result in that of the inputs"
            )
        if not bool(term.isfinite().all()):
            limit = "; float16 ends at 65504" if dtype is torch.float16 else ""
            raise CheckFailed(
                f"with inputs in {name} {_term(each)} is {_nonfinite(term)}{limit}: compute in float32, with inputs "
                "converted by .float(), and give the mean instead of the sum"
            )
    _check_gradients(call, f" with inputs in {name}")
    if not loss.is_random:
        _check_close(loss, call, loss.call(inputs=prepared(rounded)), dtype, f"with inputs in {name}")
    for case in loss.cases():
        if case == "equal":
            advice = f"; an epsilon such as 1e-8 becomes 0 in {name}: compute in float32"
            _check_gradients(_call_in(loss, dtype, case), f" in {name}{CASES[case]}{advice}")


def _check_close(loss: LossSubject, call: Call, exact: Call, dtype: torch.dtype, where: str) -> None:
    if loss.is_random:
        return
    for name, term in call.terms.items():
        if name not in exact.terms or term.shape != exact.terms[name].shape:
            raise CheckFailed(f"{where} it returns {_shapes(call)}, and {_shapes(exact)} otherwise; return the same")
    difference = _difference(call, exact, relative=0.1, absolute=8 * torch.finfo(dtype).eps)
    if difference:
        raise CheckFailed(
            f"{where} {difference}, which is not the rounding of one number; compute in float32, with autocast off, "
            "where sums, variances and small differences are taken"
        )


def _check_gradients(call: Call, where: str) -> None:
    """Raise `CheckFailed` where a gradient is not finite, or of another dtype than its input."""
    for name, gradients in call.gradients().items():
        for gradient in gradients:
            if gradient is not None and not bool(gradient.isfinite().all()):
                raise CheckFailed(f"its gradient with respect to {name!r} is {_nonfinite(gradient)}{where}")


def _must_reach(name: str, gradients: Mapping[str, Sequence[Tensor | None]]) -> bool:
    # A loss that compares predictions may hold that of the target constant.
    others = [found for other, found in gradients.items() if other != name]
    return name != "pred_real" or not any(each is not None for found in others for each in found)


def _trains_module(call: Call) -> bool:
    """Whether a gradient reaches the parameters of a network that the loss is given."""
    parameters = [each for module in call.inputs.modules for each in module.parameters() if each.requires_grad]
    if not parameters or not call.total.requires_grad:
        return False
    found = torch.autograd.grad(call.total, parameters, allow_unused=True, retain_graph=True)
    return any(gradient is not None for gradient in found)


def _difference(call: Call, other: Call, relative: float = 0.0, absolute: float = 0.0) -> str:
    """Say which term of two calls differs; empty where none does."""
    if call.terms.keys() != other.terms.keys():
        return f"it returns {_shapes(call)} instead of {_shapes(other)}"
    for name, term in call.terms.items():
        expected = other.terms[name]
        if term.shape != expected.shape:
            return f"{_term(name)} has the shape {tuple(term.shape)} instead of {tuple(expected.shape)}"
        found, wanted = term.detach().double(), expected.detach().double()
        if not torch.allclose(found, wanted, rtol=relative, atol=absolute, equal_nan=True):
            return f"{_term(name)} is {_mean(found)} instead of {_mean(wanted)}"
    return ""


def _gradient_difference(call: Call, other: Call, relative: float = 1e-2, absolute: float = 1e-5) -> str:
    others = other.gradients()
    for name, gradients in call.gradients().items():
        for gradient, expected in zip(gradients, others[name], strict=True):
            if (gradient is None) != (expected is None):
                return f"a gradient with respect to {name!r} is only there in one of two calls"
            if gradient is None or expected is None:
                continue
            if not torch.allclose(gradient, expected, rtol=relative, atol=absolute, equal_nan=True):
                return f"the gradient with respect to {name!r} differs"
    return ""


def _state_of(tensor: Tensor) -> tuple[Tensor, int, bool]:
    return tensor.detach().clone(), tensor._version, tensor.requires_grad


# The meta device


class _Elsewhere(Exception):  # noqa: N818 # what is found is no error of ours
    """Raised where tensors on two devices meet."""


class _OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call] # untyped in torch
    """Raises where a tensor with dimensions on the CPU meets one on the meta device.

    Not all operators on meta tensors look at that by themselves, as a convolution does not.
    """

    _ALLOWED = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put", "aten::index_put_")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name not in self._ALLOWED:
            tensors = [*tensors_of(args), *tensors_of(kwargs)]
            if any(each.is_meta for each in tensors) and any(not each.is_meta and each.dim() for each in tensors):
                raise _Elsewhere(f"uses a tensor on the CPU in {func._schema.name.partition('::')[2]}()")
        return func(*args, **kwargs)


def _on_meta(loss: LossSubject, *, everything: bool) -> Call | Exception:
    """Call a loss on the meta device and differentiate it.

    Args:
        loss: The loss.
        everything: Whether to move what `.to()` leaves behind, too.

    Returns:
        The call; `_Elsewhere` where a tensor is on the CPU; or what a tensor on the meta device raised when its values
        were asked for.

    Raises:
        NotApplicable: If it cannot be called on the CPU, or uses what PyTorch cannot do on the meta device.
    """
    if not loss.numberless:
        _callable(loss)
    try:
        function = _moved(loss, device="meta")
    except CheckFailed as failure:
        raise NotApplicable("it cannot be copied, as the check `picklable` tells") from failure
    if everything and isinstance(function, nn.Module):
        for module in function.modules():
            for name, value in list(vars(module).items()):
                if not name.startswith("_"):
                    vars(module)[name] = _onto_meta(value)
    inputs = loss.inputs(device="meta")
    try:
        with _OneDevice():  # type: ignore[no-untyped-call] # untyped in torch
            call = loss.call(function, inputs)
            if call.total.requires_grad and call.total.is_meta:
                call.gradients()
    except _Elsewhere as error:
        return _Elsewhere(explained(error).partition(": ")[2] or str(error))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:
        text = str(error)
        if any(each in text for each in _WAITS):
            return error
        if "not on the expected device" in text or "same device" in text:
            return _Elsewhere(f"raised {explained(error)}")
        if isinstance(error, NotImplementedError):
            raise NotApplicable(f"PyTorch cannot do on the meta device what it does: {one_line(error)}") from error
        raise CheckFailed(
            f"on another device it raised {explained(error)}; make tensors with device=y_fake.device"
        ) from error
    return call


def _onto_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.to("meta")
    if type(value) in (list, tuple):
        return type(value)(map(_onto_meta, value))
    if type(value) is dict:
        return {key: _onto_meta(each) for key, each in value.items()}
    return value


# Words


def _described(loss: LossSubject) -> str:
    values = loss.values() or {}
    shapes = []
    for name in dict.fromkeys(loss.names):
        tensors = [tuple(tensor.shape) for tensor in tensors_of(values.get(name))]
        shapes.append(f"{name} {', '.join(map(str, tensors))}" if tensors else name)
    return ", ".join(shapes)


def _term(name: str) -> str:
    return f"its component {name!r}" if name else "its result"


def _shapes(call: Call) -> str:
    return ", ".join(f"{_term(name)} of shape {tuple(term.shape)}" for name, term in call.terms.items())


def _nonfinite(tensor: Tensor) -> str:
    return "nan" if bool(tensor.isnan().any()) else "infinite"


def _mean(tensor: Tensor) -> str:
    return f"{tensor.mean().item():.6g}{' in the mean' if tensor.dim() else ''}"


def _named(dtype: torch.dtype) -> str:
    return str(dtype).partition(".")[2]


def _dtype(tensor: Tensor) -> str:
    return _named(tensor.dtype)


def _lines(error: BaseException) -> str:
    return " ".join(map(str.strip, str(error).splitlines()))[:300]


def _graph_break(error: BaseException) -> str:
    """Say what the compiler refused, out of its message of many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Explanation:", "Developer debug context:"))]
    code = [line for line in lines if line.startswith("File ")]
    return "; ".join([*(lines[:1] or [type(error).__name__]), *told[:1], *code[-1:]])[:400]
