"""The inputs that a loss is checked with: made, and brought to a dtype, a device or a memory format."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nectargan_core._messages import listed, shown
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable
from nectargan_core.testing._vocabulary import VOCABULARY

MakeInputs = Callable[[int], "Mapping[str, object] | None"]
"""Makes the inputs for a batch size, in float32 on the CPU; None for those of the plugin and of the vocabulary."""

ExampleInputs = Callable[[int], Mapping[str, object]]
"""Makes inputs of a plugin by name for a batch size, in float32 on the CPU; `CheckFailed` where it has a fault."""

Case = Literal["random", "equal", "zero", "unmasked"]

CASES: Mapping[Case, str] = {
    "random": "",
    "equal": " where the generated input equals its target",
    "zero": " where all images are zero, as black ones",
    "unmasked": " where the mask is zero everywhere",
}
"""What inputs can be like, in words to append to a message."""

# Which input a generated one may become equal to.
_TARGETS = {"y_fake": "y", "pred_fake": "pred_real", "features_fake": "features_real"}
_IMAGES = ("x", "y", "y_fake")
# Above every batch size.
_SEED = 1_000_000


@dataclass(frozen=True)
class Inputs:
    """The inputs of one call.

    Args:
        values: The inputs by name. A generated one is no leaf, as what a network returns.
        leaves: The leaves of each generated input; their gradients are those with respect to the input.
    """

    values: Mapping[str, Any]
    leaves: Mapping[str, Sequence[Tensor]]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules among the inputs."""
        return [value for value in self.values.values() if isinstance(value, nn.Module)]


@dataclass(frozen=True)
class Made:
    """Inputs as they were made.

    Args:
        values: The inputs by name.
        of_vocabulary: The names of those that were made by the vocabulary, so that what they may be is known.
    """

    values: Mapping[str, object]
    of_vocabulary: Collection[str] = ()


def made(
    names: Sequence[str], make_inputs: MakeInputs | None, batch_size: int, examples: ExampleInputs | None = None
) -> Made:
    """Make the inputs that a loss reads.

    Args:
        names: Their names.
        make_inputs: Makes all of them; None, or what returns None, for `examples` and the vocabulary.
        batch_size: The batch size.
        examples: Makes those that the vocabulary does not have, or has in another shape; None where there is no plugin.

    Raises:
        CheckFailed: If `make_inputs` does not make them all, or `examples` has a fault.
        NotApplicable: If there is no `make_inputs`, and neither `examples` nor the vocabulary have them all.
    """
    given = None if make_inputs is None else make_inputs(batch_size)
    if given is None:
        return _by_name(names, None if examples is None else examples(batch_size), batch_size)
    if not isinstance(given, Mapping):
        raise CheckFailed(f"make_inputs returned {shown(given)}; return a dict of inputs by their names")
    missing = [name for name in names if name not in given]
    if missing:
        raise CheckFailed(
            f"make_inputs made {listed(map(str, given))}, without {listed(missing)}, which the loss reads; return all "
            "that it reads, by name"
        )
    return Made({name: given[name] for name in names})


def _by_name(names: Sequence[str], own: Mapping[str, object] | None, batch_size: int) -> Made:
    """Take inputs of the plugin, if there is one, and make the others by the vocabulary."""
    taken = {name: own[name] for name in names if name in own} if own else {}
    others = [name for name in names if name not in taken]
    for name in others:
        if name not in VOCABULARY:
            how = "say with make_inputs how it is made"
            if own is not None:
                how += ", or with the function example_inputs in the module of the spec"
            how += f", which makes {listed(map(str, own))}" if own else ""
            raise NotApplicable(f"it reads {name!r}, which is an input of its own; {how}")
    # Another seed than that of the plugin, whose first random image would be the first of the vocabulary, too.
    generator = torch.Generator().manual_seed(batch_size + bool(taken) * _SEED)
    values: dict[str, object] = {name: VOCABULARY[name].make(batch_size, generator) for name in others}
    if any(tensor.requires_grad for value in taken.values() for tensor in _floating(value)):
        # Where the plugin says which of its inputs are generated, those of the vocabulary must not cease to be.
        values = {
            name: mapped(value, lambda tensor: tensor.requires_grad_()) if VOCABULARY[name].generated else value
            for name, value in values.items()
        }
    return Made({name: taken[name] if name in taken else values[name] for name in names}, frozenset(others))


def generated_among(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return which inputs a network made: those made with `requires_grad`, or as the vocabulary has it, or all."""
    asked = [name for name, value in values.items() if any(each.requires_grad for each in _floating(value))]
    known = [name for name in values if name in VOCABULARY and VOCABULARY[name].generated]
    anything = [name for name, value in values.items() if any(True for _ in _floating(value))]
    return tuple(asked or known or anything)


def in_case(made: Made, case: Case) -> dict[str, object] | None:
    """Return inputs as a case has them; None where the case is none of these inputs."""
    values = made.values
    if case == "random":
        return dict(values)
    if case == "equal":
        changed = {name: target for name in generated_among(values) if (target := _target(name, values)) is not None}
        return {**values, **changed} if changed else None
    names = [name for name in made.of_vocabulary if name in (_IMAGES if case == "zero" else ("mask",))]
    if not names:
        return None
    return {**values, **{name: mapped(values[name], torch.zeros_like) for name in names}}


def prepared(
    values: Mapping[str, object],
    *,
    dtype: torch.dtype = torch.float32,
    others: torch.dtype | None = None,
    device: str = "cpu",
    channels_last: bool = False,
) -> Inputs:
    """Return copies of inputs for one call.

    Args:
        values: Inputs as they were made.
        dtype: The dtype of what is floating.
        others: The dtype of inputs that are not generated; None for the same.
        device: Where they are.
        channels_last: Whether tensors with four dimensions are in that memory format.

    Raises:
        NotApplicable: If an input is a function, and would have to be converted.
    """
    generated = generated_among(values)
    result: dict[str, Any] = {}
    leaves: dict[str, list[Tensor]] = {}
    for name, value in values.items():
        kind = dtype if others is None or name in generated else others
        plain = kind is torch.float32 and device == "cpu"
        if isinstance(value, nn.Module):
            result[name] = copy.deepcopy(value) if plain else copy.deepcopy(value).to(device=device, dtype=kind)
            continue
        if callable(value) and not isinstance(value, Tensor):
            if not plain:
                raise NotApplicable(f"the input {name!r} is a function, which cannot be converted; give a module")
            result[name] = value
            continue

        def convert(tensor: Tensor, name: str = name, kind: torch.dtype = kind) -> Tensor:
            if tensor.is_complex() and kind is not torch.float32:
                raise NotApplicable(f"the input {name!r} has complex numbers, which are not converted")
            tensor = tensor.detach().to(device=device, dtype=kind if tensor.is_floating_point() else tensor.dtype)
            channels = channels_last and tensor.dim() == 4
            return tensor.clone(memory_format=torch.channels_last if channels else torch.preserve_format)

        converted = mapped(value, convert)
        if name in generated:
            leaves[name] = [tensor.requires_grad_() for tensor in _floating(converted)]
            # No leaves, since what a network returns is none, and can be edited in place.
            converted = mapped(converted, lambda tensor: tensor.clone() if tensor.requires_grad else tensor)
        result[name] = converted
    return Inputs(result, leaves)


def tensors_of(value: object) -> Iterator[Tensor]:
    """Yield the tensors of an input: itself, or those in a list, tuple, dict or dataclass."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_of(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_of(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_of(getattr(value, field.name))


def _floating(value: object) -> Iterator[Tensor]:
    return (tensor for tensor in tensors_of(value) if tensor.is_floating_point())


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a value with each of its tensors replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(each, function) for each in value))
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(each, function) for each in value)
    if isinstance(value, Mapping):
        return {key: mapped(each, function) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        copied = copy.copy(value)
        for field in dataclasses.fields(value):
            # Also where it is frozen.
            object.__setattr__(copied, field.name, mapped(getattr(value, field.name), function))
        return copied
    return value


def _target(name: str, values: Mapping[str, object]) -> Any | None:
    """Return the input that a generated one is compared with, as far as that is known; None where it is not."""
    if _TARGETS.get(name) in values:
        names = [_TARGETS[name]]
    elif name in VOCABULARY:
        return None
    else:
        names = [other for other in values if other not in generated_among(values)]
    tensors = list(tensors_of(values[name]))
    for other in names:
        targets = list(tensors_of(values[other]))
        if tensors and len(targets) == len(tensors) and all(map(_may_equal, tensors, targets)):
            # Only the tensors: the target may be a tensor where this is a dict that holds one.
            # The tensor that it replaces is the default of next(), of which there are as many as targets.
            return mapped(values[name], functools.partial(next, iter(targets)))
    return None


def _may_equal(tensor: Tensor, target: Tensor) -> bool:
    """Whether a generated tensor can have the values of another.

    One that is above 0 everywhere may be a variance, a rate or a probability, and one that is below it a logarithm.
    """
    if tensor.shape != target.shape or tensor.dtype != target.dtype:
        return False
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if bool((tensor > 0).all()):
        return bool((target > 0).all())
    return bool((target < 0).all()) if bool((tensor < 0).all()) else True
