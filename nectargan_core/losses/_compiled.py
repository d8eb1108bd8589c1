"""Losses inside `torch.compile`: their weights are an input of the graph, and one operator records what is computed.

So a graph stays the same while weights, steps and epochs change.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_core.errors import LossResultError, WeightingError
from nectargan_core.history import check_real, mean_of
from nectargan_core.losses._autograd import current_graph_task
from nectargan_core.losses._factors import as_factors
from nectargan_core.losses._graph_weights import Group, call_of, definitions_of, gone, like_of, prepared_key, weights_of
from nectargan_core.losses._inputs import called, missing_input
from nectargan_core.losses._lazy import is_lazy
from nectargan_core.losses._results import ComputedLosses
from nectargan_core.losses._zero import tensors_in, with_tensors
from nectargan_core.weightings import weighting_of

# torch has it from 2.7 on.
_is_exporting = getattr(torch.compiler, "is_exporting", bool)

Given: TypeAlias = "tuple[Sequence[Any], Mapping[str, Any]]"
"""Arguments and keyword arguments of a function."""


# What a graph is made of

# An input that the operators change, so that the compiler neither drops, merges nor reorders them.
_ORDER = torch.zeros((), dtype=torch.int64, device="cpu")


def compute(group: Group, given: Sequence[Given], epoch: float | None) -> tuple[list[Tensor], list[tuple[str, Tensor]]]:
    """Compute, weight and record losses of one manager, in a graph that serves every weight, step and epoch.

    A function is called whatever its weight is. Its gradient may be infinite, and times 0 nan; so no gradient goes back
    to what it was given, and to the parameters of a loss that is a module, while its weight is 0.

    Args:
        group: The losses.
        given: What the function of each is given.
        epoch: Epoch for the schedules and the records, None for that of the clock.

    Returns:
        The weighted results, and what weightings add to the total, by their names; attached to the graph.
    """
    call = _call_of(group)
    weights = group.weights
    # In an exported graph an input would be a constant.
    asks = epoch is not None or weights.counted or _is_exporting()
    # As a tensor, since each number would make another graph.
    at = None if epoch is None else torch.full((), epoch, dtype=torch.float64, device="cpu")
    read: dict[str, Tensor] = {}

    def weight(index: int, tensor: Tensor) -> Tensor:
        """Return the weight of a loss on the device of a tensor, in double precision if the tensor is."""
        device, double = tensor.device, tensor.dtype is torch.float64
        key = prepared_key(call, device.type, device.index, double)
        if key not in read:
            if asks:
                read[key] = torch.ops.nectargan.weights.default(_ORDER, call, at, device, double)
            else:
                read[key] = getattr(weights.tensors, key)
        return read[key][index]

    def gate(value: Any, index: int) -> Any:
        """Return a value that no gradient goes back through while the weight is 0."""
        if not isinstance(value, Tensor):
            if not any(tensor.requires_grad for tensor in tensors_in((value,))) or isinstance(value, nn.Module):
                return value
            return with_tensors(value, lambda tensor: gate(tensor, index))
        if not value.requires_grad:
            return value
        return torch.where(weight(index, value) == 0, value.detach(), value)

    results: list[Tensor] = []
    for index, function in enumerate(group.functions):
        args = [gate(value, index) for value in given[index][0]]
        kwargs = {name: gate(value, index) for name, value in given[index][1].items()}
        if isinstance(function, nn.Module) and any(each.requires_grad for each in function.parameters()):
            parameters = {name: gate(each, index) for name, each in function.named_parameters()}
            result = torch.func.functional_call(function, parameters, tuple(args), kwargs)
        else:
            result = function(*args, **kwargs)
        if not isinstance(result, Tensor) or result.layout is not torch.strided or result.is_complex():
            _refuse(result, definitions_of(call)[index][0])
        results.append(result)
    # Without gradients the last factors hold, as in eager code.
    learned, extras = _learned(group, results) if torch.is_grad_enabled() else ({}, [])
    raw, weighted = [], []
    for index, result in enumerate(results):
        raw.append(result.detach())
        # Like eager code that multiplies by a number: in float32 at least, then rounded.
        dtype = result.dtype if result.is_floating_point() else torch.get_default_dtype()
        result = result.to(torch.float64 if dtype is torch.float64 else torch.float32)
        factor = weight(index, result)
        if index in learned:
            factor = factor * learned[index].to(factor.dtype)
        # 0 also where the result is infinite.
        weighted.append(torch.where(factor == 0, torch.zeros_like(result), result * factor).to(dtype))
    # Scalars in single precision are recorded as one vector, all others by their means.
    device = raw[0].device
    plain = [not result.ndim and result.dtype is torch.float32 and result.device == device for result in raw]
    vector = _vector([result for result, is_plain in zip(raw, plain, strict=True) if is_plain])
    if False not in plain:
        torch.ops.nectargan.record.default(_ORDER, vector, call, at)
    else:
        others = [index for index, is_plain in enumerate(plain) if not is_plain]
        means = [
            mean for index in others for mean in (mean_of(raw[index]), mean_of(weighted[index].detach()), raw[index])
        ]
        torch.ops.nectargan.record_means.default(_ORDER, vector, means, others, call, at)
    return weighted, extras


def _call_of(group: Group) -> int:
    trains = group.is_of_query and torch.is_grad_enabled()
    number: int = call_of(group.keys, trains, group.learned_keys if trains else "")
    return number


def _learned(group: Group, results: Sequence[Tensor]) -> tuple[dict[int, Tensor], list[tuple[str, Tensor]]]:
    """Return the factors that weightings give in the graph, by the place of the loss, and what they add, by name."""
    learned: dict[int, Tensor] = {}
    extras: list[tuple[str, Tensor]] = []
    for weighting, names, places in group.learned:
        means = [mean_of(results[place].detach()).float() for place in places]
        factors, extra = weighting.in_graph(names, torch.stack(means))
        for number, place in enumerate(places):
            learned[place] = factors[number]
        torch.ops.nectargan.take_factors.default(_ORDER, factors.detach(), weighting.key, list(names))
        if extra is not None:
            extras.append((weighting.label, extra))
    return learned, extras


class RecordsScalars(Protocol):
    """A manager, as far as graphs need it."""

    def record(self, name: str, value: float | Tensor) -> None:
        """Record a scalar."""


_MANAGERS: weakref.WeakValueDictionary[str, RecordsScalars] = weakref.WeakValueDictionary()
_KEYS = itertools.count()


def register_manager(manager: RecordsScalars) -> str:
    """Return a key by which graphs find a manager."""
    key = f"{next(_KEYS)}"
    _MANAGERS[key] = manager
    return key


def record_scalar(key: str, name: str, value: object) -> None:
    """Record a scalar when the graph runs.

    Args:
        key: What `register_manager` returned.
        name: Name of the scalar.
        value: A number, or a tensor, of which the mean counts.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(value, (int, float)):
        value = torch.full((), value, dtype=torch.float64, device="cpu")
    elif not isinstance(value, Tensor):
        raise TypeError(f"the value of {name!r} must be a number or a tensor, got {type(value).__name__}")
    value = value.detach()
    if value.layout is torch.strided and not value.is_complex():  # The operator refuses others.
        value = mean_of(value)
    torch.ops.nectargan.record_scalar.default(_ORDER, value, key, name)


def _vector(scalars: Sequence[Tensor]) -> Tensor:
    """Stack scalars; a choice among them costs less in a graph than the view of each that torch.stack makes."""
    if not scalars:
        return torch.empty(0, device="cpu")
    if len(scalars) == 1:
        return scalars[0][None]
    vector = scalars[0].expand(len(scalars))
    index = torch.arange(len(scalars), device=vector.device)
    for number, scalar in enumerate(scalars[1:], start=1):
        vector = torch.where(index == number, scalar, vector)
    return vector


def _refuse(result: object, name: str) -> NoReturn:
    """Raise the error of a result that cannot be weighted and recorded."""
    if isinstance(result, Tensor):
        check_real(name, result, 0)
    raise LossResultError(
        f"loss {name!r} returned {type(result).__name__}; expected a tensor of real numbers, such as a scalar or a map",
        loss_name=name,
    )


def compute_in_graph(group: Group, inputs: Mapping[str, Any], epoch: float | None, manager: str) -> ComputedLosses:
    """Do what `compute_losses` does, in a graph: every function is called, whatever its weight is.

    Args:
        group: The losses.
        inputs: The inputs.
        epoch: Epoch for the schedules and the records, None for that of the clock.
        manager: What `register_manager` returned.

    Raises:
        WeightingError: If a weighting needs gradients, which a graph does not give.
    """
    if group.needs_gradients and torch.is_grad_enabled():
        raise WeightingError(
            f"weighting {group.needs_gradients!r} needs gradients, which a compiled graph does not give; compile the "
            "networks, and call compute_losses outside of torch.compile",
            weighting=group.needs_gradients,
        )
    definitions = definitions_of(_call_of(group))
    for name, reads, _, _ in definitions:
        for read in reads:
            if read not in inputs:
                raise missing_input(name, reads, inputs)
    values: dict[str, Any] = {}
    given: list[Given] = []
    for name, reads, as_is, parameters in definitions:
        for read in reads:
            if read not in values and read not in as_is:
                value = inputs[read]
                # The compiler cannot ask whether a dict is callable.
                is_plain = isinstance(value, (Tensor, list, tuple, dict))
                values[read] = called(value, read, f"loss {name!r}") if not is_plain and is_lazy(value) else value
        arguments = [inputs[read] if read in as_is else values[read] for read in reads]
        given.append((arguments, {}) if parameters is None else ([], dict(zip(parameters, arguments, strict=True))))
    results = ComputedLosses()
    weighted, extras = compute(group, given, epoch)
    for (name, _, _, _), result in zip(definitions, weighted, strict=True):
        results[name] = result
    for label, extra in extras:
        results._extra = extra if results._extra is None else results._extra + extra
        record_scalar(manager, label, extra)
    return results


# The operators. Without the checks of torch.library.custom_op, which take as long as the rest of a step.

_LIBRARY = torch.library.Library("nectargan", "DEF")  # type: ignore[no-untyped-call] # as it is in torch


def _define(schema: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define an operator: what it does on any device, and what the compiler takes it for."""
    name = schema[: schema.index("(")]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call] # as it is in torch
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call] # as it is in torch
    # It has no gradient, and nobody counts how often it changes its input.
    for key in ("Autograd", "ADInplaceOrView"):
        _LIBRARY.impl(name, torch.library.fallthrough_kernel, key)  # type: ignore[no-untyped-call] # as it is in torch
    torch.library.register_fake(f"nectargan::{name}", fake, lib=_LIBRARY)


def _weights(order: Tensor, call: int, epoch: Tensor | None, device: torch.device, double: bool) -> Tensor:
    weights = weights_of(call).weights_in(call, None if epoch is None else epoch.item())
    return as_factors(weights, like=like_of(device, double))


def _fake_weights(order: Tensor, call: int, epoch: Tensor | None, device: torch.device, double: bool) -> Tensor:
    count = len(weights_of(call).losses_of(call))
    return torch.empty(count, dtype=torch.float64 if double else torch.float32, device=device)


def _recorded(order: Tensor, scalars: Tensor, call: int, epoch: Tensor | None) -> None:
    weights = weights_of(call)
    losses = weights.losses_of(call)
    at = None if epoch is None else epoch.item()
    losses[0].record_compiled(losses, weights.fixed.get(call), scalars, (), at)
    if any(loss.weighting is not None for loss in losses):
        weights.saw(call, scalars.clone().unbind(), at)


def _recorded_means(
    order: Tensor, scalars: Tensor, means: list[Tensor], others: list[int], call: int, epoch: Tensor | None
) -> None:
    weights = weights_of(call)
    losses = weights.losses_of(call)
    # Copied, since the graph uses the memory of its results again.
    copies = [mean.clone() for mean in means]
    given = {index: copies[3 * number : 3 * number + 3] for number, index in enumerate(others)}
    every = [given.get(index) for index in range(len(losses))]
    at = None if epoch is None else epoch.item()
    losses[0].record_compiled(losses, None, scalars, every, at)
    if any(loss.weighting is not None for loss in losses):
        rest = iter(scalars.clone().unbind())
        weights.saw(call, [next(rest) if mean is None else mean[0] for mean in every], at)


def _recorded_scalar(order: Tensor, value: Tensor, key: str, name: str) -> None:
    manager = _MANAGERS.get(key)
    if manager is None:
        raise gone()
    if current_graph_task() < 0:
        manager.record(name, value.clone())  # Copied, since the graph uses the memory of its results again.


def _factors_taken(order: Tensor, factors: Tensor, key: str, names: list[str]) -> None:
    weighting = weighting_of(key)
    if weighting is None:
        raise gone()
    if current_graph_task() < 0:
        weighting.took(names, factors.tolist())


def _fake_recorded(*args: Any) -> None:
    """Do nothing with what is not computed yet."""


_define("weights(Tensor order, int call, Tensor? epoch, Device device, bool double) -> Tensor", _weights, _fake_weights)
_define("record(Tensor(a!) order, Tensor scalars, int call, Tensor? epoch) -> ()", _recorded, _fake_recorded)
_define(
    "record_means(Tensor(a!) order, Tensor scalars, Tensor[] means, int[] others, int call, Tensor? epoch) -> ()",
    _recorded_means,
    _fake_recorded,
)
_define("take_factors(Tensor(a!) order, Tensor factors, str key, str[] names) -> ()", _factors_taken, _fake_recorded)
_define("record_scalar(Tensor(a!) order, Tensor value, str key, str name) -> ()", _recorded_scalar, _fake_recorded)
