"""The check of a loss on a CUDA device, where there is one: its numbers, and that it does not wait."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from nectargan_core._messages import one_line
from nectargan_core.testing._call import Call, explained
from nectargan_core.testing._comparing import check_gradients, difference_of, nonfinite_word
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable
from nectargan_core.testing._subject import LossSubject, moved, usable

Gradients: TypeAlias = Mapping[str, Sequence[Tensor | None]]

_RELATIVE = 1e-2
_ABSOLUTE = 1e-4
# Of a deep network the gradient is another one where rounding brings a value to the other side of a kink.
_OF_GRADIENTS = 5e-2


def cuda(loss: LossSubject) -> None:
    """On a CUDA device it gives the numbers of the CPU, does not wait, and is finite under autocast in float16."""
    plain = usable(loss)
    if not torch.cuda.is_available():
        raise NotApplicable("there is no CUDA device here")
    try:
        function = moved(loss, device="cuda")
        with _without_tf32():
            # The first call may make constants on the device, for which it has to wait.
            call = loss.call(function, loss.inputs(device="cuda"))
            gradients = call.gradients()
        inputs = loss.inputs(device="cuda")
        with _waiting_is_an_error():
            loss.call(function, inputs).gradients()
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:
        if "synchronizing CUDA operation" in str(error):
            raise CheckFailed(
                f"on a CUDA device it waits at every call: {explained(error)}; make tensors on the device of the "
                "inputs, and read none of their values"
            ) from error
        raise CheckFailed(f"on a CUDA device it raised {explained(error)}") from error
    if loss.is_random:
        return
    difference = difference_of(_on_cpu(call), plain, _RELATIVE, _ABSOLUTE)
    if difference:
        raise CheckFailed(f"on a CUDA device {difference}, which it is on the CPU")
    _compare_gradients(gradients, plain.gradients())
    _check_autocast(loss)


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Let convolutions and matrix products keep the digits of float32, to compare them with the CPU's."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextlib.contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _on_cpu(call: Call) -> Call:
    return Call({name: term.cpu() for name, term in call.terms.items()}, call.total.cpu(), call.inputs)


def _compare_gradients(found: Gradients, expected: Gradients) -> None:
    for name, gradients in found.items():
        for gradient, other in zip(gradients, expected[name], strict=True):
            if (gradient is None) != (other is None):
                raise CheckFailed(f"the gradient with respect to {name!r} is there on one of CPU and CUDA only")
            if gradient is None or other is None:
                continue
            distance, length = float((gradient.cpu() - other).norm()), float(other.norm())
            if not distance <= _OF_GRADIENTS * length + 1e-7:
                raise CheckFailed(
                    f"on a CUDA device the gradient with respect to {name!r} differs from the CPU's, "
                    f"by {distance / max(length, 1e-12):.2g} of its length"
                )


def _check_autocast(loss: LossSubject) -> None:
    """Under autocast in float16, as a network gives the generated input, results and gradients are finite."""
    inputs = loss.inputs(dtype=torch.float16, others=torch.float32, device="cuda")
    try:
        with torch.autocast("cuda", dtype=torch.float16):
            call = loss.call(moved(loss, device="cuda"), inputs)
    except Exception as error:
        raise CheckFailed(f"under autocast on a CUDA device it raised {one_line(error)}") from error
    for term in call.terms.values():
        if not bool(term.isfinite().all()):
            raise CheckFailed(f"under autocast on a CUDA device it is {nonfinite_word(term)}; compute in float32")
    check_gradients(call, " under autocast in float16 on a CUDA device")
