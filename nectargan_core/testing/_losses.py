"""Checks of a loss function, and what runs them: `check_loss`, and `LossTests` for pytest."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor, nn

from nectargan_core._messages import listed, name_of, one_line, shown
from nectargan_core.errors import WeightsError
from nectargan_core.losses import LMLoss
from nectargan_core.testing._call import Call, Parameters, called, explained, settings_restored
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._comparing import (
    check_gradients,
    difference_of,
    dtype_word,
    gradient_difference,
    nonfinite_word,
    term_words,
)
from nectargan_core.testing._cuda import cuda
from nectargan_core.testing._generators import seeded, states
from nectargan_core.testing._inputs import CASES, Inputs, MakeInputs, mapped, tensors_of
from nectargan_core.testing._meta import device, no_wait
from nectargan_core.testing._outcomes import Check, CheckFailed, NotApplicable, named, raise_failures, run_checks
from nectargan_core.testing._precision import autocast, bfloat16, float16, float64
from nectargan_core.testing._recorded import recorded
from nectargan_core.testing._subject import LossSubject, moved, must_copy, needs_numbers, usable

_ELSE = {
    "equal": "; the gradient of a square root, and of a norm, is infinite at 0: add an epsilon inside of it",
    "zero": "; add an epsilon where it divides, takes a square root or a logarithm",
    "unmasked": "; divide by the sum of the mask clamped to 1 at least",
    "random": "",
}
_DIRECTIONS = 3
_DISTANCE = 1e-6


def finite(loss: LossSubject) -> None:
    """It gives finite numbers, also where the generated input equals its target."""
    needs_numbers(loss)
    if isinstance(loss.plain, WeightsError):
        raise NotApplicable(one_line(loss.plain))
    if isinstance(loss.plain, (CheckFailed, NotApplicable)):
        raise loss.plain
    if isinstance(loss.plain, Exception):
        raise CheckFailed(
            f"calling it with {_described(loss)} raised {explained(loss.plain)}; accept them, or say with inputs= and "
            "make_inputs= what it accepts"
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
                raise CheckFailed(f"{term_words(name)} is {nonfinite_word(term)}{CASES[case]}{_ELSE[case]}")
            if term.dtype is not torch.float32:
                raise CheckFailed(
                    f"{term_words(name)} is {dtype_word(term.dtype)} where all inputs are float32; a constant, such as "
                    "one from NumPy, has another dtype: make it with dtype=torch.float32, or convert the result"
                )


def differentiable(loss: LossSubject) -> None:
    """A finite gradient reaches the generated input, also where it equals its target."""
    plain = usable(loss)
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
        check_gradients(loss.call(inputs=loss.inputs(case)), f"{CASES[case]}{_ELSE[case]}")
    function = loss.fresh()
    for _ in range(2):
        try:
            loss.call(function).total.backward()  # type: ignore[no-untyped-call] # untyped in torch
        except RuntimeError as error:
            if "second time" not in str(error):
                raise
            raise CheckFailed(
                "backward() fails in the second step, since it keeps the graph of the first; detach() what it keeps "
                "between calls"
            ) from error


def gradcheck(loss: LossSubject) -> None:
    """Its gradient in float64 is that of finite differences."""
    if not loss.gradcheck:
        raise NotApplicable("ask for it with gradcheck=True")
    usable(loss)
    function = moved(loss, dtype=torch.float64)
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
                    near = _shifted(inputs, name, place, direction * distance)
                    totals.append(loss.call(copy.deepcopy(function), near).total.item())
                expected = (totals[0] - totals[1]) / (2 * _DISTANCE)
                found = (gradient * direction).sum().item()
                tolerance = 1e-3 * gradient.norm().item() + 1e-9 * max(1.0, abs(totals[0]))
                if not abs(found - expected) <= tolerance:
                    raise CheckFailed(
                        f"its gradient with respect to {name!r} in float64 is not that of finite differences: "
                        f"{found:.6g} in a direction in which they give {expected:.6g}; correct the derivative, "
                        "compute in the dtype of the inputs, and detach nothing that depends on them"
                    )


def channels_last(loss: LossSubject) -> None:
    """It gives the same numbers for tensors in channels_last, which are not contiguous."""
    plain = usable(loss)
    if not any(tensor.dim() == 4 for value in plain.inputs.values.values() for tensor in tensors_of(value)):
        raise NotApplicable("none of its inputs has four dimensions")
    try:
        call = loss.call(inputs=loss.inputs(channels_last=True))
        difference = difference_of(call, plain, relative=1e-3, absolute=1e-5) or gradient_difference(call, plain)
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
    usable(loss)
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
                    f"with a batch of {size} {term_words(name)} is {nonfinite_word(term)}; a variance over one sample "
                    "is nan: use correction=0, or compare within the sample"
                )
        check_gradients(calls[size], f" with a batch of {size}")
    one, eight = calls[1].terms, calls[8].terms
    if one.keys() != eight.keys():
        raise CheckFailed(
            f"it returns the components {listed(one)} for a batch of 1 and {listed(eight)} for one of 8; return the "
            "same, with a zero where there is nothing to add"
        )
    for name in one:
        if one[name].dim() != eight[name].dim():
            raise CheckFailed(
                f"{term_words(name)} has the shape {tuple(one[name].shape)} for a batch of 1, and "
                f"{tuple(eight[name].shape)} for one of 8; squeeze() without a dimension removes that of a batch of "
                "1: say which, as squeeze(1)"
            )


def compiles(loss: LossSubject) -> None:
    """`torch.compile(fullgraph=True)` takes it, and it gives the same numbers."""
    plain = usable(loss)
    with warnings.catch_warnings():
        # What torch deprecates inside of its compiler is no fault of the loss.
        warnings.simplefilter("ignore")
        # Code that was compiled often, such as that of torch.nn.L1Loss, would be refused at some point.
        torch.compiler.reset()
        try:
            compiled = torch.compile(loss.fresh(), fullgraph=True, backend="aot_eager")
            call = loss.call(compiled)
            difference = difference_of(call, plain, relative=1e-3, absolute=1e-5) or gradient_difference(call, plain)
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            if "not supported on Python" in str(error):
                raise NotApplicable(one_line(error)) from error
            if "using `torch.autograd.grad`" in str(error) or _takes_gradients(loss):
                raise NotApplicable(
                    "torch.compile(fullgraph=True) does not take torch.autograd.grad(), as a gradient penalty needs it"
                ) from error
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


def _takes_gradients(loss: LossSubject) -> bool:
    """Whether it calls `torch.autograd.grad()`, also where it keeps that from the compiler."""
    with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as grad:
        loss.call()
    return grad.called


def deterministic(loss: LossSubject) -> None:
    """It gives the same numbers for the same inputs, and leaves seeds and settings of the process alone."""
    plain = usable(loss)
    function = loss.fresh()
    advice = 'if that is meant, as in a gradient penalty, give the reason: skip={"deterministic": "..."}'
    found: list[dict[str, object]] = []
    for seed in (1, 2):
        inputs = loss.inputs()
        with seeded(seed), settings_restored() as changed:
            called(function, loss.reads, inputs)
            found.append(states())
            if names := changed():
                raise CheckFailed(
                    f"it changes {listed(names)}, for all that runs in the process; do without, or in a `with` block"
                )
    for name, state in found[0].items():
        if state == found[1][name]:
            raise CheckFailed(
                f"it sets the seed of the random numbers of {name}, so that all else that is random repeats itself; "
                "draw from a torch.Generator of its own"
            )
    again = loss.call()
    if difference := difference_of(again, plain):
        raise CheckFailed(
            f"two calls with the same inputs and the same seed differ: {difference}; draw random numbers from torch "
            "only, so that a seed repeats a run"
        )
    if difference := gradient_difference(again, plain, relative=0.0, absolute=0.0):
        raise CheckFailed(f"two calls with the same inputs and the same seed differ: {difference}")
    if loss.is_random:
        raise CheckFailed(f"it gives other numbers for the same inputs when the seed is another; {advice}")
    function = loss.fresh()
    first, second = loss.call(function), loss.call(function)
    if difference := difference_of(second, first):
        raise CheckFailed(
            f"a second call with the same inputs differs from the first: {difference}; if that is meant, as of a "
            'running mean, give the reason: skip={"deterministic": "..."}'
        )


def inputs_unchanged(loss: LossSubject) -> None:
    """It leaves its inputs as they were given."""
    usable(loss)
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
    usable(loss)
    if not isinstance(loss.function, nn.Module):
        raise NotApplicable("it is no module, and has no state_dict")
    must_copy(loss)
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
    if difference := difference_of(loss.call(other), loss.call(used)):
        raise CheckFailed(
            f"after load_state_dict() it gives other numbers than the one that was saved: {difference}; keep what "
            "changes between calls in buffers: self.register_buffer(...)"
        )


def picklable(loss: LossSubject) -> None:
    """It can be copied and pickled, and the copy gives the same numbers."""
    plain = usable(loss)
    must_copy(loss)
    try:
        copied = pickle.loads(pickle.dumps(loss.function))  # noqa: S301 # what was pickled just now
    except Exception as error:
        if re.search(r"local object|lambda|not found as|not the same object", str(error)):
            advice = (
                "make it a module, or a function at the top of its file instead of a lambda or a function in a function"
            )
        else:
            advice = "keep what cannot be pickled out of it, or say with __reduce__ how another is made"
        raise CheckFailed(
            f"it cannot be pickled, as for a process that trains on another device: {one_line(error)}; {advice}"
        ) from error
    if difference := difference_of(loss.call(copied), plain):
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
        cuda,
        compiles,
        deterministic,
        inputs_unchanged,
        state_dict,
        picklable,
        recorded,
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
    `float64`, `autocast`, `channels_last`, `batch_size`, `device`, `no_wait`, `cuda`, `compiles`, `deterministic`,
    `inputs_unchanged`, `state_dict`, `picklable`, `recorded`. The random state of the process stays as it is.

    Args:
        function: The module or function.
        make_inputs: Makes the inputs for a batch size: a dict of CPU tensors in float32 by name, of lists, dicts or
            dataclasses of them, of modules and of functions. Those made with `requires_grad` are the generated ones.
            None for the inputs that have a name of the vocabulary, such as images (N, 3, 32, 32) from -1 to 1.
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
    label = type(function).__name__ if isinstance(function, nn.Module) else name_of(function)
    raise_failures(label, run_checks(CHECKS, subject, skip or {}))


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
        """Make what the checks look at."""
        # Not self.function: a function would become a method.
        function = inspect.getattr_static(type(self), "function", None)
        if isinstance(function, (staticmethod, classmethod)):
            function = function.__func__
        return LossSubject(_function(function), _reads(self.inputs), self.make_inputs, self.gradcheck)


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


def _shifted(inputs: Inputs, name: str, place: int, step: Tensor) -> Inputs:
    """Return inputs of which one tensor, the floating-point one at a place of an input, is shifted."""
    places = itertools.count()

    def shift(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or next(places) != place:
            return tensor
        return tensor.detach() + step

    return Inputs({**inputs.values, name: mapped(inputs.values[name], shift)}, {})


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


def _state_of(tensor: Tensor) -> tuple[Tensor, int, bool]:
    return tensor.detach().clone(), tensor._version, tensor.requires_grad


# Words


def _described(loss: LossSubject) -> str:
    values = loss.values() or {}
    shapes = []
    for name in dict.fromkeys(loss.names):
        tensors = [tuple(tensor.shape) for tensor in tensors_of(values.get(name))]
        shapes.append(f"{name} {', '.join(map(str, tensors))}" if tensors else name)
    return ", ".join(shapes)


def _lines(error: BaseException) -> str:
    return " ".join(map(str.strip, str(error).splitlines()))[:300]


def _graph_break(error: BaseException) -> str:
    """Say what the compiler refused, out of its message of many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Explanation:", "Developer debug context:"))]
    code = [line for line in lines if line.startswith("File ")]
    return "; ".join([*(lines[:1] or [type(error).__name__]), *told[:1], *code[-1:]])[:400]
