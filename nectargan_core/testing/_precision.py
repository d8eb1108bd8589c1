"""Checks of the precision that a loss is given: half, double, and what autocast makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nectargan_core.losses import module_of
from nectargan_core.testing._call import Call, explained
from nectargan_core.testing._comparing import (
    check_gradients,
    difference_of,
    dtype_word,
    nonfinite_word,
    shapes,
    term_words,
)
from nectargan_core.testing._inputs import CASES, Case, mapped, prepared, tensors_of
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable
from nectargan_core.testing._subject import LossSubject, moved, usable


def float16(loss: LossSubject) -> None:
    """It takes float16, and gives finite numbers close to those in float32."""
    _check_half(loss, torch.float16)


def bfloat16(loss: LossSubject) -> None:
    """It takes bfloat16, and gives finite numbers close to those in float32."""
    _check_half(loss, torch.bfloat16)


def float64(loss: LossSubject) -> None:
    """It takes float64, and computes in it."""
    usable(loss)
    call = _call_in(loss, torch.float64)
    for name, term in call.terms.items():
        if term.dtype is not torch.float64:
            raise CheckFailed(
                f"{term_words(name)} is {dtype_word(term.dtype)} where all inputs are float64; compute in "
                "torch.promote_types(y_fake.dtype, torch.float32), which .float() is not, and give the result in the "
                "dtype of the inputs"
            )
    check_gradients(call, " in float64")


def autocast(loss: LossSubject) -> None:
    """It works under autocast, with a generated input in bfloat16 beside a target in float32."""
    plain = usable(loss)
    mixed = " where the generated input is bfloat16, as a network gives it, and the others are float32"
    for dtype, where in ((torch.float32, ""), (torch.bfloat16, mixed)):
        try:
            inputs = loss.inputs(dtype=dtype, others=torch.float32)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                call = loss.call(inputs=inputs)
            check_gradients(call, f" under autocast{where}")
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            raise CheckFailed(
                f"under autocast it raised {explained(error)}{where}; bring the inputs to one dtype with "
                "torch.promote_types, or switch autocast off inside: with torch.autocast(device_type, enabled=False)"
            ) from error
        _check_close(loss, call, plain, torch.bfloat16, f"under autocast{where}")


# What the checks share


def _call_in(loss: LossSubject, dtype: torch.dtype, case: Case = "random") -> Call:
    """Call a loss with inputs in a dtype, as it is, or moved to the dtype where it does not work as it is."""
    try:
        return loss.call(inputs=loss.inputs(case, dtype=dtype))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 # a plugin may raise anything
        failure = error
    if module_of(loss.function) is not None:
        try:
            return loss.call(moved(loss, dtype=dtype), loss.inputs(case, dtype=dtype))
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
    raise CheckFailed(f"with inputs in {dtype_word(dtype)} it raised {explained(failure)}; {advice}") from failure


def _check_half(loss: LossSubject, dtype: torch.dtype) -> None:
    usable(loss)
    name = dtype_word(dtype)
    call = _call_in(loss, dtype)
    rounded = mapped(
        loss.values() or {}, lambda tensor: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
    )
    for each, term in call.terms.items():
        if term.dtype not in (dtype, torch.float32):
            raise CheckFailed(
                f"{term_words(each)} is {dtype_word(term.dtype)} where all inputs are {name}; a constant, such as "
                "one from NumPy, has that dtype: make it in the dtype of the inputs, or convert the result to it"
            )
        if not bool(term.isfinite().all()):
            limit = "; float16 ends at 65504" if dtype is torch.float16 else ""
            raise CheckFailed(
                f"with inputs in {name} {term_words(each)} is {nonfinite_word(term)}{limit}: compute in float32, with "
                "inputs converted by .float(), and give the mean instead of the sum"
            )
    if any(term.dtype is not dtype for term in call.terms.values()) and (operator := _promotes(loss, dtype)):
        raise CheckFailed(
            f"with inputs in {name} it becomes float32 in {operator}(), by a constant in float32, which takes twice "
            "the memory: make the constant in the dtype of the inputs, or convert the inputs to float32 first"
        )
    check_gradients(call, f" with inputs in {name}")
    if not loss.is_random:
        _check_close(loss, call, loss.call(inputs=prepared(rounded)), dtype, f"with inputs in {name}")
    for case in loss.cases():
        if case == "equal":
            advice = f"; an epsilon such as 1e-8 becomes 0 in {name}: compute in float32"
            check_gradients(_call_in(loss, dtype, case), f" in {name}{CASES[case]}{advice}")


def _promotes(loss: LossSubject, dtype: torch.dtype) -> str:
    """Return the operator in which a constant makes half precision float32, also where the loss is moved to it."""
    if module_of(loss.function) is not None:
        function = moved(loss, dtype=dtype)
        try:
            return _mixing_operator(lambda: loss.call(function, loss.inputs(dtype=dtype)))
        except Exception:  # noqa: BLE001 # it is not to be moved
            return ""
    return _mixing_operator(lambda: loss.call(inputs=loss.inputs(dtype=dtype)))


def _check_close(loss: LossSubject, call: Call, exact: Call, dtype: torch.dtype, where: str) -> None:
    if loss.is_random:
        return
    for name, term in call.terms.items():
        if name not in exact.terms or term.shape != exact.terms[name].shape:
            raise CheckFailed(f"{where} it returns {shapes(call)}, and {shapes(exact)} otherwise; return the same")
    difference = difference_of(call, exact, relative=0.1, absolute=8 * torch.finfo(dtype).eps)
    if difference:
        raise CheckFailed(
            f"{where} {difference}, which is not the rounding of one number; compute in float32, with autocast off, "
            "where sums, variances and small differences are taken"
        )


# Where a constant makes the result another dtype


class _Mixing(TorchDispatchMode):  # type: ignore[no-untyped-call] # untyped in torch
    """Takes note of the first operator that takes floating-point tensors of several dtypes, and of those with sizes.

    A scalar tensor makes no difference to the dtype of a result.
    """

    _ALLOWED = ("aten::_to_copy", "aten::copy_")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # untyped in torch
        self.found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [*tensors_of(args), *tensors_of(kwargs)]
        dtypes = {each.dtype for each in tensors if each.dim() and each.is_floating_point()}
        name = func._schema.name
        if not self.found and len(dtypes) > 1 and name not in self._ALLOWED:
            self.found = name.partition("::")[2]
        return func(*args, **kwargs)


def _mixing_operator(call: Callable[[], object]) -> str:
    """Return the first operator that mixes dtypes in a call; empty where none does."""
    mode = _Mixing()
    with torch.enable_grad(), mode:
        call()
    return mode.found
