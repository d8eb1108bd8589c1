"""One call of a loss by the kit: its terms, its gradients, and what it raised in words."""

from __future__ import annotations

import contextlib
import linecache
import os
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nectargan_core._arguments import is_unicode
from nectargan_core._messages import one_line, shown
from nectargan_core.losses import module_of
from nectargan_core.testing._inputs import Inputs
from nectargan_core.testing._outcomes import CheckFailed

Parameters = Sequence[str] | Mapping[str, str]
"""What a loss reads: the names of its inputs in order, or a mapping from parameter to name."""

# Each with what reads it and what sets it.
_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.autograd.set_detect_anomaly": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "the current directory": (os.getcwd, os.chdir),
}
_KIT = str(pathlib.Path(__file__).parent)
_TORCH = str(pathlib.Path(torch.__file__).parent)


@dataclass(frozen=True)
class Call:
    """What one call returned.

    Args:
        terms: The tensors that it returned, by the names of components, or under "" where there are none.
        total: The sum of their means.
        inputs: What it was called with.
    """

    terms: Mapping[str, Tensor]
    total: Tensor
    inputs: Inputs

    def gradients(self) -> dict[str, list[Tensor | None]]:
        """Return the gradients with respect to each generated input; None where the loss does not depend on it."""
        names = list(self.inputs.leaves)
        leaves = [leaf for name in names for leaf in self.inputs.leaves[name]]
        if not self.total.requires_grad or not leaves:
            return {name: [None] * len(self.inputs.leaves[name]) for name in names}
        found = iter(torch.autograd.grad(self.total, leaves, allow_unused=True, retain_graph=True))
        return {name: [next(found) for _ in self.inputs.leaves[name]] for name in names}


def called(function: Callable[..., Any], reads: Parameters, inputs: Inputs) -> Call:
    """Call a loss function.

    Raises:
        CheckFailed: If it returned anything but tensors of floating-point numbers.
    """
    with torch.enable_grad():
        if isinstance(reads, Mapping):
            result = function(**{parameter: inputs.values[name] for parameter, name in reads.items()})
        else:
            result = function(*(inputs.values[name] for name in reads))
        if not torch.is_grad_enabled():
            raise CheckFailed("it switches gradients off for all that follows; write `with torch.no_grad():` instead")
        terms = _terms(result)
        means = [term.mean() if term.dim() else term for term in terms.values()]
        total = means[0]
        for mean in means[1:]:
            total = total + mean
    return Call(terms, total, inputs)


@contextlib.contextmanager
def settings_restored() -> Iterator[Callable[[], list[str]]]:
    """Put the settings of the process that a loss may change back; yield what says which have changed so far."""
    before = {name: read() for name, (read, _) in _SETTINGS.items()}

    def changed() -> list[str]:
        return [name for name, (read, _) in _SETTINGS.items() if read() != before[name]]

    try:
        yield changed
    finally:
        for name in changed():
            _SETTINGS[name][1](before[name])


def explained(error: BaseException) -> str:
    """Say in one line what was raised, and at which line of the plugin."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_KIT, _TORCH))
    ]
    frames = [frame for frame in frames if not frame.filename.startswith("<")]
    if not frames or frames[-1].lineno is None:
        return one_line(error)
    last = frames[-1]
    code = linecache.getline(last.filename, last.lineno or 0).strip()
    return f"{one_line(error)} ({pathlib.Path(last.filename).name}, line {last.lineno}: {code[:100]})"


def plain_tensors(function: Callable[..., Any]) -> list[str]:
    """Return the attributes of a module that hold tensors which `.to()` does not move: no parameters, no buffers."""
    whole = module_of(function)
    if whole is None:
        return []
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in whole.named_modules()
        for name, value in vars(module).items()
        if not name.startswith(("_parameters", "_buffers", "_modules")) and _holds_tensor(value)
    ]


def _holds_tensor(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return isinstance(value, Tensor)


def _terms(result: object) -> dict[str, Tensor]:
    terms: dict[Any, Any] = dict(result) if isinstance(result, Mapping) else {"": result}
    if not terms:
        raise CheckFailed("it returned an empty dict; return a tensor, or a dict of at least one tensor")
    for name, term in terms.items():
        what = f"a dict with {shown(name)}: " if isinstance(result, Mapping) else ""
        if not isinstance(name, str):
            raise CheckFailed(
                f"it returned a dict with the key {shown(name)}; the keys are names of components, as str"
            )
        if isinstance(result, Mapping) and (not name or "/" in name or not is_unicode(name)):
            raise CheckFailed(
                f"it returned a dict with the key {shown(name)}; the keys are names of components: not empty, without "
                "'/', that UTF-8 can write"
            )
        if not isinstance(term, Tensor):
            hint = " (.item() and float() lose the gradient)" if isinstance(term, (float, int)) else ""
            raise CheckFailed(
                f"it returned {what}{type(term).__name__} ({shown(term)}); return a tensor, or a dict of tensors by "
                f"name{hint}"
            )
        if not term.is_floating_point():
            raise CheckFailed(f"it returned {what}a tensor of {term.dtype}; return one of floating-point numbers")
        if term.layout is not torch.strided or term.is_nested:
            raise CheckFailed(
                f"it returned {what}a {'nested ' * term.is_nested}tensor in the layout {term.layout}; return a "
                "dense one"
            )
        if not term.numel():
            raise CheckFailed(
                f"it returned {what}an empty tensor, the mean of which is nan; return at least one number"
            )
    return terms
