"""Computing several losses from named inputs: each gets the inputs that it reads, lazy ones are called at most once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import MissingInputError
from nectargan_core.losses._bound import BoundLoss, Later, record_all
from nectargan_core.losses._compiled import Group, call_of, compute, definitions_of
from nectargan_core.losses._lazy import is_lazy
from nectargan_core.losses._results import ComputedLosses


def compute_all(losses: Sequence[BoundLoss], inputs: Mapping[str, Any], epoch: float | None) -> ComputedLosses:
    """Compute, weight and record losses, each with the inputs that it reads.

    Args:
        losses: The losses, in the order in which they are computed.
        inputs: Values by input name. A lazy one is called for its value, at most once, and only if a loss that runs
            reads it and does not take it as it is.
        epoch: Epoch for the schedules and the records. None: that of the clock.

    Raises:
        MissingInputError: If a loss that runs reads an input that is not given; nothing is computed then.
    """
    # Before anything is computed, so that a mistake in the inputs records nothing.
    running = []
    for loss in losses:
        if loss.runs(epoch):
            if not inputs.keys() >= loss.reads:
                raise _missing_input(loss.name, loss.inputs, inputs)
            running.append(loss)
    values: dict[str, Any] = {}
    results = ComputedLosses()
    later: Later | None = None
    if losses:
        # Recorded when all are computed, so that an error in one leaves no records of the others.
        later = []
        results._place = losses[0].place(epoch)
    for loss in running:
        for name in loss.inputs:
            if name not in values and name not in loss.as_is:
                value = inputs[name]
                values[name] = _called(value, name, loss.name) if callable(value) and is_lazy(value) else value
        if loss.as_is:
            arguments = tuple([inputs[name] if name in loss.as_is else values[name] for name in loss.inputs])
        else:
            arguments = tuple([values[name] for name in loss.inputs])
        if loss.parameters is None:
            results[loss.name] = loss.compute(arguments, None, epoch, None, later)
        else:
            named = dict(zip(loss.parameters, arguments, strict=True))
            results[loss.name] = loss.compute((), named, epoch, None, later)
    if len(running) < len(losses):
        results = _with_skipped(losses, results, inputs, values, epoch, later)
    if later is not None and results._place is not None:
        # Those that were skipped come last.
        results._raw = {loss.name: record[4] for loss, record in zip(running, later, strict=False)}
        record_all(later, results._place[0])
    return results


def compute_in_graph(group: Group, inputs: Mapping[str, Any], epoch: float | None) -> ComputedLosses:
    """Do what `compute_all` does inside `torch.compile`, where every function is called, whatever its weight is."""
    definitions = definitions_of(call_of(group.keys))
    values: dict[str, Any] = {}
    for name, reads, _, _ in definitions:
        for read in reads:
            if read not in inputs:
                raise _missing_input(name, reads, inputs)
    given: list[tuple[list[Any], dict[str, Any]]] = []
    for name, reads, as_is, parameters in definitions:
        for read in reads:
            if read not in values and read not in as_is:
                value = inputs[read]
                # The compiler cannot ask whether a dict is callable.
                is_plain = isinstance(value, (Tensor, list, tuple, dict))
                values[read] = _called(value, read, name) if not is_plain and is_lazy(value) else value
        arguments = [inputs[read] if read in as_is else values[read] for read in reads]
        given.append((arguments, {}) if parameters is None else ([], dict(zip(parameters, arguments, strict=True))))
    results = ComputedLosses()
    for (name, _, _, _), result in zip(definitions, compute(group, given, epoch), strict=True):
        results[name] = result
    return results


def _with_skipped(
    losses: Sequence[BoundLoss],
    results: ComputedLosses,
    inputs: Mapping[str, Any],
    values: Mapping[str, Any],
    epoch: float | None,
    later: Later | None,
) -> ComputedLosses:
    """Return the results in the order of the losses, with a zero for each that was skipped."""
    # Last, so that a skipped loss is connected to the lazy inputs that others were given; it calls none itself.
    like = next((value for value in inputs.values() if isinstance(value, Tensor)), None)
    complete = ComputedLosses()
    complete._place = results._place
    complete._skipped = frozenset(loss.name for loss in losses if loss.name not in results)
    for loss in losses:
        if loss.name in results:
            complete[loss.name] = results[loss.name]
        else:
            given = [values.get(name, inputs.get(name)) for name in loss.inputs]
            complete[loss.name] = loss.compute_skipped(given, like, epoch, later)
    return complete


def _called(value: Callable[[], Any], name: str, loss_name: str) -> Any:
    try:
        return value()
    except Exception as error:
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(
                f"in the lazy input {name!r}, called for loss {loss_name!r}; to pass an input as it is, name it in "
                "LMLoss(as_is=...)"
            )
        raise


def _missing_input(loss_name: str, reads: Sequence[str], inputs: Mapping[str, Any]) -> MissingInputError:
    given = tuple(name for name in inputs if isinstance(name, str))
    name = next(name for name in reads if name not in inputs)
    return MissingInputError(
        f"loss {loss_name!r} reads the input {name!r}, which was not given; given were {listed(given)}."
        f"{did_you_mean(name, given)}",
        loss_name=loss_name,
        input_name=name,
        given=given,
    )
