"""What is wrong with the numbers of a call of a loss, and what differs between two calls, in words."""

from __future__ import annotations

import torch
from torch import Tensor

from nectargan_core.testing._call import Call
from nectargan_core.testing._outcomes import CheckFailed


def difference_of(call: Call, other: Call, relative: float = 0.0, absolute: float = 0.0) -> str:
    """Say which term of two calls differs; empty where none does."""
    if call.terms.keys() != other.terms.keys():
        return f"it returns {shapes(call)} instead of {shapes(other)}"
    for name, term in call.terms.items():
        expected = other.terms[name]
        if term.shape != expected.shape:
            return f"{term_words(name)} has the shape {tuple(term.shape)} instead of {tuple(expected.shape)}"
        found, wanted = term.detach().double(), expected.detach().double()
        if not torch.allclose(found, wanted, rtol=relative, atol=absolute, equal_nan=True):
            return f"{term_words(name)} is {_mean(found)} instead of {_mean(wanted)}"
    return ""


def gradient_difference(call: Call, other: Call, relative: float = 1e-2, absolute: float = 1e-5) -> str:
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


def check_gradients(call: Call, where: str) -> None:
    """Raise `CheckFailed` where a gradient is not finite, or of another dtype than its input."""
    for name, gradients in call.gradients().items():
        for gradient in gradients:
            if gradient is not None and not bool(gradient.isfinite().all()):
                raise CheckFailed(f"its gradient with respect to {name!r} is {nonfinite_word(gradient)}{where}")


def term_words(name: str) -> str:
    return f"its component {name!r}" if name else "its result"


def shapes(call: Call) -> str:
    return ", ".join(f"{term_words(name)} of shape {tuple(term.shape)}" for name, term in call.terms.items())


def nonfinite_word(tensor: Tensor) -> str:
    return "nan" if bool(tensor.isnan().any()) else "infinite"


def dtype_word(dtype: torch.dtype) -> str:
    return str(dtype).partition(".")[2]


def _mean(tensor: Tensor) -> str:
    return f"{tensor.mean().item():.6g}{' in the mean' if tensor.dim() else ''}"
