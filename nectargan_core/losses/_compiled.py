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

from nectargan_core import _arguments as arguments
from nectargan_core.errors import LossResultError, WeightingError
from nectargan_core.history import check_real, mean_of
from nectargan_core.losses._autograd import current_graph_task
from nectargan_core.losses._components import Components
from nectargan_core.losses._factors import as_factors
from nectargan_core.losses._graph_weights import (
    Asked,
    Group,
    Weights,
    call_of,
    definitions_of,
    gone,
    like_of,
    prepared_key,
    weights_of,
)
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


def compute(
    group: Group, given: Sequence[Given], epoch: float | None, batch: Tensor | None
) -> tuple[list[Tensor], dict[str, dict[str, Tensor]], list[tuple[str, Tensor]]]:
    """Compute, weight and record losses of one manager, in a graph that serves every weight, step and epoch.

    A function is called whatever its weight is. Its gradient may be infinite, and times 0 nan; so no gradient goes back
    to what it was given, and to the parameters of a loss that is a module, while its weight is 0.

    Args:
        group: The losses.
        given: What the function of each is given.
        epoch: Epoch for the schedules and the records, None for that of the clock.
        batch: The size of the batch, None where it is not known.

    Returns:
        The weighted results; the weighted components of the losses that have some, by the names of these; and what
        weightings add to the total, by their names. All are attached to the graph.
    """
    asked = group.asked if torch.is_grad_enabled() else None
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
    # What each result is the sum of, where it has components.
    terms_of: list[dict[str, Tensor]] = []
    for index, function in enumerate(group.functions):
        args = [gate(value, index) for value in given[index][0]]
        kwargs = {name: gate(value, index) for name, value in given[index][1].items()}
        if isinstance(function, nn.Module) and any(each.requires_grad for each in function.parameters()):
            parameters = {name: gate(each, index) for name, each in function.named_parameters()}
            result = torch.func.functional_call(function, parameters, tuple(args), kwargs)
        else:
            result = function(*args, **kwargs)
        terms: dict[str, Tensor] = {}
        if not isinstance(result, Tensor) and isinstance(result, Mapping):
            terms = _terms_of(result, definitions_of(call)[index][0])
            result = _sum_of(terms)
        if not isinstance(result, Tensor) or result.layout is not torch.strided or result.is_complex():
            _refuse(result, definitions_of(call)[index][0])
        results.append(result)
        terms_of.append(terms)
    # Without gradients the last factors hold, as in eager code.
    learned, extras = ({}, []) if asked is None else _learned(asked, results)
    raw, weighted = [], []
    # Of the losses that have components: their positions, the names, the values, and the components after weighting.
    owners: list[int] = []
    names: list[str] = []
    values: list[Tensor] = []
    components: dict[str, dict[str, Tensor]] = {}
    for index, result in enumerate(results):
        raw.append(result.detach())
        # Like eager code that multiplies by a number: in float32 at least, then rounded.
        dtype = result.dtype if result.is_floating_point() else torch.get_default_dtype()
        result = result.to(torch.float64 if dtype is torch.float64 else torch.float32)
        factor = weight(index, result)
        if index in learned:
            factor = factor * learned[index].to(factor.dtype)
        weighted.append(_times(result, factor).to(dtype))
        if terms := terms_of[index]:
            owners.append(index)
            names.append("/".join(terms))  # No name has one.
            # One that was made on the CPU may stand beside others on a device.
            values.append(_vector([term.detach().to(result.device) for term in terms.values()]))
            components[definitions_of(call)[index][0]] = {name: _times(term, factor) for name, term in terms.items()}
    # Scalars in single precision are recorded as one vector, all others by their means.
    device = raw[0].device
    plain = [not result.ndim and result.dtype is torch.float32 and result.device == device for result in raw]
    vector = _vector([result for result, is_plain in zip(raw, plain, strict=True) if is_plain])
    others = [index for index, is_plain in enumerate(plain) if not is_plain]
    means = [mean for index in others for mean in (mean_of(raw[index]), mean_of(weighted[index].detach()), raw[index])]
    if owners:
        torch.ops.nectargan.record_components.default(
            _ORDER, vector, means, others, values, owners, "//".join(names), call, at, batch
        )
    elif others:
        torch.ops.nectargan.record_means.default(_ORDER, vector, means, others, call, at, batch)
    else:
        torch.ops.nectargan.record.default(_ORDER, vector, call, at, batch)
    return weighted, components, extras


def _call_of(group: Group) -> int:
    asked = group.asked if torch.is_grad_enabled() else None
    number: int = call_of(group.keys, asked is not None, "" if asked is None else asked.learned_keys)
    return number


def _learned(asked: Asked, results: Sequence[Tensor]) -> tuple[dict[int, Tensor], list[tuple[str, Tensor]]]:
    """Return the factors that weightings give in the graph, by the place of the loss, and what they add, by name."""
    learned: dict[int, Tensor] = {}
    extras: list[tuple[str, Tensor]] = []
    for weighting, names, places in asked.learned:
        means = [mean_of(results[place].detach()).float() for place in places]
        factors, extra = weighting.in_graph(names, torch.stack(means))
        for number, place in enumerate(places):
            learned[place] = factors[number]
        torch.ops.nectargan.take_factors.default(_ORDER, factors.detach(), weighting.key, list(names))
        if extra is not None:
            extras.append((weighting.label, extra))
    return learned, extras


def _times(result: Tensor, factor: Tensor) -> Tensor:
    """Return a product that is 0 where the factor is, also if the result is infinite."""
    return torch.where(factor == 0, torch.zeros_like(result), result * factor)


class RecordsScalars(Protocol):
    """A manager, as far as graphs need it."""

    def record(self, name: str, value: float | Tensor, *, batch_size: int | None = None) -> None:
        """Record a scalar."""


_MANAGERS: weakref.WeakValueDictionary[str, RecordsScalars] = weakref.WeakValueDictionary()
_KEYS = itertools.count()


def register_manager(manager: RecordsScalars) -> str:
    """Return a key by which graphs find a manager."""
    key = f"{next(_KEYS)}"
    _MANAGERS[key] = manager
    return key


def record_scalar(key: str, name: str, value: object, batch_size: int | None) -> None:
    """Record a scalar when the graph runs.

    Args:
        key: What `register_manager` returned.
        name: Name of the scalar.
        value: A number, or a tensor, of which the mean counts.
        batch_size: How many samples it is the mean of, None where that is not known.

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
    torch.ops.nectargan.record_scalar.default(_ORDER, value, key, name, _size(batch_size))


def _size(batch_size: int | None) -> Tensor | None:
    """Return the size of a batch as a tensor, since each number would make another graph.

    Raises:
        TypeError: If it is no integer.
    """
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, (int, torch.SymInt))):
        raise TypeError(f"batch_size must be an integer, got {type(batch_size).__name__}")
    return None if batch_size is None else torch.full((), batch_size, dtype=torch.int64, device="cpu")


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


def _terms_of(result: Mapping[Any, Any], name: str) -> dict[str, Tensor]:
    """Return the means of components by name, in one precision, as `components_of` does."""
    terms: dict[str, Tensor] = {}
    double = False
    for key, value in result.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise LossResultError(
                f"loss {name!r} returned a dict with the key {key!r}; the keys are the names of components: str, not "
                "empty, without '/'",
                loss_name=name,
            )
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_complex():
            raise LossResultError(
                f"loss {name!r} returned a dict whose component {key!r} is no dense tensor of real numbers; expected "
                "one for each component",
                loss_name=name,
            )
        double = double or value.dtype is torch.float64
        terms[key] = value
    if not terms:
        raise LossResultError(f"loss {name!r} returned an empty dict; return at least one component", loss_name=name)
    dtype = torch.float64 if double else torch.float32
    return {key: value.mean(dtype=dtype) if value.ndim else value.to(dtype) for key, value in terms.items()}


def _sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    total, *others = terms.values()
    for term in others:
        total = total + term
    return total


def _refuse(result: object, name: str) -> NoReturn:
    """Raise the error of a result that cannot be weighted and recorded."""
    if isinstance(result, Tensor):
        check_real(name, result, 0)
    raise LossResultError(
        f"loss {name!r} returned {type(result).__name__}; expected a tensor of real numbers, such as a scalar or a "
        "map, or a dict of such tensors by name, which are summed",
        loss_name=name,
    )


def compute_in_graph(
    group: Group, inputs: Mapping[str, Any], epoch: float | None, batch_size: int | None
) -> ComputedLosses:
    """Do what `compute_losses` does, in a graph: every function is called, whatever its weight is.

    Args:
        group: The losses.
        inputs: The inputs.
        epoch: Epoch for the schedules and the records, None for that of the clock.
        batch_size: How many samples the batch has, None where that is not known.

    Raises:
        WeightingError: If a weighting needs gradients, which a graph does not give.
    """
    asked = group.asked
    if asked is not None and asked.needs_gradients and torch.is_grad_enabled():
        raise WeightingError(
            f"weighting {asked.needs_gradients!r} needs gradients, which a compiled graph does not give; compile the "
            "networks, and call compute_losses outside of torch.compile",
            weighting=asked.needs_gradients,
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
    batch = _size(batch_size)
    weighted, components, extras = compute(group, given, epoch, batch)
    for (name, _, _, _), result in zip(definitions, weighted, strict=True):
        results[name] = result
    if components:
        results._components = components
    for label, extra in extras:
        results._extra = extra if results._extra is None else results._extra + extra
        torch.ops.nectargan.record_extra.default(_ORDER, extra.detach(), _call_of(group), label, batch)
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


def _recorded(order: Tensor, scalars: Tensor, call: int, epoch: Tensor | None, batch: Tensor | None) -> None:
    weights = weights_of(call)
    losses = weights.losses_of(call)
    at = None if epoch is None else epoch.item()
    losses[0].record_compiled(losses, weights.fixed.get(call), scalars, (), at, batch_size=_number(batch))
    if call not in weights.fixed:
        _seen_by_weightings(weights, call, scalars, (), at)


def _recorded_means(
    order: Tensor,
    scalars: Tensor,
    means: list[Tensor],
    others: list[int],
    call: int,
    epoch: Tensor | None,
    batch: Tensor | None,
) -> None:
    weights = weights_of(call)
    losses = weights.losses_of(call)
    every = _by_loss(means, others, len(losses))
    at = None if epoch is None else epoch.item()
    losses[0].record_compiled(losses, None, scalars, every, at, batch_size=_number(batch))
    _seen_by_weightings(weights, call, scalars, every, at)


def _recorded_components(
    order: Tensor,
    scalars: Tensor,
    means: list[Tensor],
    others: list[int],
    values: list[Tensor],
    owners: list[int],
    names: str,
    call: int,
    epoch: Tensor | None,
    batch: Tensor | None,
) -> None:
    weights = weights_of(call)
    losses = weights.losses_of(call)
    every = _by_loss(means, others, len(losses)) if means else ()
    components: dict[str, Components] = {}
    for index, joined, vector in zip(owners, names.split("//"), values, strict=True):
        each = tuple(joined.split("/"))
        terms = dict(zip(each, vector.clone().unbind(), strict=True))
        is_plain = vector.is_cpu and vector.dtype is torch.float32
        components[losses[index].name] = Components(each, terms, vector.tolist() if is_plain else None)
    at = None if epoch is None else epoch.item()
    losses[0].record_compiled(losses, None, scalars, every, at, components, _number(batch))
    _seen_by_weightings(weights, call, scalars, every, at)


def _by_loss(means: list[Tensor], others: list[int], count: int) -> list[list[Tensor] | None]:
    # Copied, since the graph uses the memory of its results again.
    copies = [mean.clone() for mean in means]
    given = {index: copies[3 * number : 3 * number + 3] for number, index in enumerate(others)}
    return [given.get(index) for index in range(count)]


def _seen_by_weightings(
    weights: Weights, call: int, scalars: Tensor, means: Sequence[Sequence[Tensor] | None], epoch: float | None
) -> None:
    """Keep for weightings what was computed: scalars, and for each loss its means, None for the next of the scalars."""
    losses = weights.losses_of(call)
    if any(loss.weighting is not None for loss in losses):
        rest = iter(scalars.clone().unbind())
        each = means or [None] * len(losses)
        weights.saw(call, [next(rest) if mean is None else mean[0] for mean in each], epoch)


def _number(batch: Tensor | None) -> int:
    return 0 if batch is None else arguments.batch_size(int(batch.item()))


def _recorded_scalar(order: Tensor, value: Tensor, key: str, name: str, batch: Tensor | None) -> None:
    manager = _MANAGERS.get(key)
    if manager is None:
        raise gone()
    if current_graph_task() < 0:
        # Copied, since the graph uses the memory of its results again.
        manager.record(name, value.clone(), batch_size=_number(batch) or None)


def _recorded_extra(order: Tensor, value: Tensor, call: int, label: str, batch: Tensor | None) -> None:
    losses = weights_of(call).losses_of(call)
    if current_graph_task() < 0:
        losses[0].record_extra(label, value.clone(), _number(batch))


def _factors_taken(order: Tensor, factors: Tensor, key: str, names: list[str]) -> None:
    weighting = weighting_of(key)
    if weighting is None:
        raise gone()
    if current_graph_task() < 0:
        weighting.take_from_graph([weighting.prefix + name for name in names], factors.tolist())


def _fake_recorded(*args: Any) -> None:
    """Do nothing with what is not computed yet."""


_define("weights(Tensor order, int call, Tensor? epoch, Device device, bool double) -> Tensor", _weights, _fake_weights)
_define(
    "record(Tensor(a!) order, Tensor scalars, int call, Tensor? epoch, Tensor? batch) -> ()", _recorded, _fake_recorded
)
_define(
    "record_means(Tensor(a!) order, Tensor scalars, Tensor[] means, int[] others, int call, Tensor? epoch, "
    "Tensor? batch) -> ()",
    _recorded_means,
    _fake_recorded,
)
_define("take_factors(Tensor(a!) order, Tensor factors, str key, str[] names) -> ()", _factors_taken, _fake_recorded)
_define(
    "record_components(Tensor(a!) order, Tensor scalars, Tensor[] means, int[] others, Tensor[] values, int[] owners, "
    "str names, int call, Tensor? epoch, Tensor? batch) -> ()",
    _recorded_components,
    _fake_recorded,
)
_define(
    "record_extra(Tensor(a!) order, Tensor value, int call, str label, Tensor? batch) -> ()",
    _recorded_extra,
    _fake_recorded,
)
_define(
    "record_scalar(Tensor(a!) order, Tensor value, str key, str name, Tensor? batch) -> ()",
    _recorded_scalar,
    _fake_recorded,
)
