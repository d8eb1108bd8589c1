"""The plan of a query: what a call of `compute_losses` does for it, prepared once and kept until a loss changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nectargan_core.history import Recorder, add_together, no_value, single
from nectargan_core.losses._autograd import as_new, current_graph_task, next_node
from nectargan_core.losses._balanced import Balanced
from nectargan_core.losses._bound import BoundLoss
from nectargan_core.losses._components import Components, rows_of
from nectargan_core.losses._factors import PLAIN, as_factors, can_be_kept
from nectargan_core.losses._inputs import Inputs, called, images_among, missing_input
from nectargan_core.losses._lazy import is_lazy
from nectargan_core.losses._recording import Later, Scalars, add_rows, record_all
from nectargan_core.losses._results import ComputedLosses, StackedLosses, version_of
from nectargan_core.losses._zero import floating

# So many results are weighted together. For fewer, one operation each costs less.
_FEWEST = 4
# In these a product with a tensor of weights has the same digits as a product with a number.
_PRECISE = {torch.float32, torch.float64}

_Arguments: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, ...]]

_Factors: TypeAlias = dict[Any, tuple[Tensor, list[float]]]
"""The weights as a tensor and as numbers that are rounded like it, by its dtype and device."""


class Plan:
    """The losses of a query, and what a call needs to compute them.

    Where four losses or more each give a scalar of one dtype on one device, the scalars are stacked, and weighted and
    read together; otherwise each is by itself. Results, records and gradients are the same, and on the CPU totals, too.

    Args:
        losses: What the query finds, at least one.
        recorder: Where the records go.
        balanced: Those of them that weightings balance.
    """

    __slots__ = (
        "_all_run",
        "_balanced",
        "_calls",
        "_changing",
        "_losses",
        "_names",
        "_pass_on",
        "_reads",
        "_recorder",
        "_series",
        "_weighed",
        "rows",
    )

    def __init__(self, losses: tuple[BoundLoss, ...], recorder: Recorder, balanced: Sequence[Balanced] = ()) -> None:
        self._losses = losses
        self._recorder = recorder
        self._series = tuple(loss.series for loss in losses)
        # The records of each loss in memory, for whoever has to know how many there are.
        self.rows = tuple(series.rows for series in self._series)
        self._names: dict[str, Any] = dict.fromkeys(loss.name for loss in losses)
        # What is read, with the first that reads it.
        self._reads: dict[str, str] = {}
        for loss in losses:
            for name in loss.inputs:
                self._reads.setdefault(name, f"loss {loss.name!r}")
        self._calls = [(loss, loss.called, _arguments(loss.inputs)) for loss in losses]
        # The losses whose own weight a call has to work out, with their positions.
        self._changing = [(place, loss) for place, loss in enumerate(losses) if loss.constant is None]
        weights = [1.0 if loss.constant is None else loss.constant for loss in losses]
        # The weights of the last call, and the tensors that were made of these weights.
        self._weighed: tuple[list[float], _Factors] = (weights, {})
        # Whether each loss returned in the last call what it was given.
        self._pass_on = False
        # Whether each loss is called with its inputs as they are, where these are tensors and its weight is not 0.
        self._all_run = not balanced and all(
            loss.constant != 0.0 and not loss.as_is and loss.parameters is None for loss in losses
        )
        self._balanced = balanced

    def compute(self, inputs: Mapping[str, Any], epoch: float | None) -> ComputedLosses:
        """Compute, weight and record the losses, each with the inputs that it reads.

        Args:
            inputs: Values by input name. A lazy one is called for its value, at most once, and only if a loss that runs
                reads it and does not take it as it is.
            epoch: Epoch for the schedules and the records. None: that of the clock.

        Raises:
            MissingInputError: If a loss that runs reads an input that is not given; nothing is computed then.
        """
        recorder = self._recorder
        weights, factors = self._weigh(epoch) if self._changing else self._weighed
        is_plain = self._all_run and 0.0 not in weights and type(inputs) is dict and inputs.keys() >= self._reads.keys()
        lazy = self._lazy_among(inputs) if is_plain else ()
        if lazy and not recorder.ticked:  # What is called may compute these losses, too, which counts.
            is_plain = False
        if not is_plain:
            self._check(inputs, weights)
        if epoch is None:
            for _, loss in self._changing:
                loss.expect_clock()
            epoch = recorder.epoch
        # The step of each record. Without a clock it is counted, and a function may compute other losses.
        first = recorder.step if recorder.ticked else self._losses[0].step_here()
        counted: list[int] | None = None if recorder.ticked else []
        # Where the total belongs; before a function of a loss can change the clock or the scope.
        place = (recorder, recorder.prefix, first, epoch)
        if is_plain:
            if lazy:  # All losses run, so all of these are read.
                inputs = {**inputs, **{name: called(inputs[name], name, self._reads[name]) for name in lazy}}
            raws: list[Any] = []
            products: list[Tensor] = []
            components: dict[str, Components] = {}
            together, passed_on = len(weights) >= _FEWEST, 0
            for loss, function, arguments in self._calls:
                given, number = arguments(inputs), next_node()
                if counted is not None:
                    counted.append(loss.step_here())
                try:
                    raw = function(*given)
                except Exception as error:
                    loss.annotate(error, given, None)
                    raise
                if type(raw) is not Tensor and not isinstance(raw, Tensor):
                    components[loss.name] = parts = loss.components_of(raw, epoch)
                    raw = parts.summed()
                if not together:
                    products.append(loss.weighted(raw, weights[len(raws)], epoch))
                # As in BoundLoss.call, with is_older written out. If all losses do it, there is no order to keep.
                elif raw.requires_grad and ((node := raw.grad_fn) is None or node._sequence_nr() < number):
                    passed_on += 1
                    if not self._pass_on:
                        raw = as_new(raw)
                raws.append(raw)
            steps = repeat(first) if counted is None else counted
            if together:
                self._pass_on = passed_on == len(raws)
                results = self._weighted(raws, weights, factors, steps, epoch, [], components, inputs)
            else:
                results = ComputedLosses(zip(self._names, products, strict=True))
                if len(raws) > 1 or components:
                    rows = list(zip(self._series, steps, repeat(epoch), weights, raws, products, strict=False))
                    scalars: Scalars = []
                    if components:
                        scalars, others = rows_of(components, self._losses, weights, steps, epoch)
                        rows = [*others, *rows]
                    if record_all(rows, recorder, scalars):
                        self._keep_images(inputs)
                # A single one waits for no others.
                elif current_graph_task() < 0 and self._series[0].add(first, epoch, weights[0], raws[0], products[0]):
                    self._keep_images(inputs)
            results._raws = raws
            if components:
                results._components = components
        else:
            results = self._compute_some(inputs, weights, factors, epoch)
        results._names = self._names
        results._place = place
        return results

    def _weigh(self, epoch: float | None) -> tuple[list[float], _Factors]:
        """Return the weights of the losses at an epoch, before factors, with the tensors that were made of them."""
        weighed = self._weighed
        weights = weighed[0].copy()
        if epoch is None:
            epoch = self._recorder.epoch
        for place, loss in self._changing:
            weights[place] = loss.own_weight(epoch)
        if weights != weighed[0]:
            weighed = self._weighed = (weights, {})
        return weighed

    def _lazy_among(self, inputs: Mapping[str, Any]) -> list[str]:
        """Return which of the inputs that are read have to be called for their values."""
        lazy = []
        for name in self._reads:
            value = inputs[name]
            if type(value) is not Tensor and callable(value) and is_lazy(value):
                lazy.append(name)
        return lazy

    def _check(self, inputs: Mapping[str, Any], weights: list[float]) -> None:
        """Raise if a loss that runs reads an input that is not given; before anything is computed."""
        for loss, weight in zip(self._losses, weights, strict=True):
            if (weight != 0.0 or loss.runs_at_zero) and not inputs.keys() >= loss.reads:
                raise missing_input(loss.name, loss.inputs, inputs)

    def _compute_some(
        self, inputs: Mapping[str, Any], weights: list[float], factors: _Factors, epoch: float
    ) -> ComputedLosses:
        """Compute the losses that run, and make a zero of each other; inputs may be lazy, or be passed as they are."""
        due = [balanced.due(weights, epoch, self._recorder) for balanced in self._balanced]
        for balanced, running in zip(self._balanced, due, strict=True):
            if running:
                balanced.check(inputs)
        runs = [weight != 0.0 or loss.runs_at_zero for loss, weight in zip(self._losses, weights, strict=True)]
        read = Inputs(inputs)
        terms: list[Any] = []
        raws: list[Tensor | None] = []
        steps: list[int] = []
        zeros: Later = []
        components: dict[str, Components] = {}
        for loss, weight, is_running in zip(self._losses, weights, runs, strict=True):
            raw = term = None
            steps.append(step := loss.step_here())
            if is_running:
                args, kwargs = read.arguments(loss)
                raw, parts = loss.call(args, kwargs, epoch, detached=weight == 0.0)
                term = raw
                if parts is not None:
                    components[loss.name] = parts
                if weight == 0.0:
                    term = loss.zero_like(raw, args, kwargs)
                    if parts is not None:
                        parts.zero = term
                    zeros.append((loss.series, step, epoch, 0.0, raw, term))
            terms.append(term)
            raws.append(raw)
        # Last, so that a skipped loss is connected to the lazy inputs that others were given; it calls none itself.
        skipped = []
        for place, (loss, is_running, step) in enumerate(zip(self._losses, runs, steps, strict=True)):
            if not is_running:
                terms[place] = zero = loss.zero(read.known(loss), read.first_tensor)
                zeros.append((loss.series, step, epoch, 0.0, None, zero))
                skipped.append(loss.name)
        if self._balanced:
            results = self._weighted_by_factors(due, read, terms, raws, weights, steps, epoch, zeros, components)
        else:
            results = self._weighted(terms, weights, factors, steps, epoch, zeros, components, read)
        results._raws = raws
        results._components = components
        results._skipped = frozenset(skipped)
        return results

    def _weighted_by_factors(
        self,
        due: Sequence[Sequence[int]],
        read: Inputs,
        terms: list[Any],
        raws: list[Tensor | None],
        weights: list[float],
        steps: list[int],
        epoch: float,
        zeros: Later,
        components: Mapping[str, Components],
    ) -> ComputedLosses:
        """Do what `_weighted` does with the factors of weightings, which change for the losses in the places `due`."""
        applied = weights.copy()
        learned: dict[int, Tensor] = {}
        extras: list[tuple[str, Tensor]] = []
        for balanced, running in zip(self._balanced, due, strict=True):
            more, extra = balanced.apply(running, read, raws, applied, epoch)
            learned.update(more)
            if extra is not None:
                extras.append((balanced.weighting.label, extra))
        for place, loss in enumerate(self._losses):
            raw = raws[place]
            if weights[place] != 0.0 and applied[place] == 0.0 and raw is not None:  # by its factor
                args, kwargs = read.arguments(loss)
                terms[place] = zero = loss.zero_like(raw, args, kwargs)
                zeros.append((loss.series, steps[place], epoch, 0.0, raw, zero))
                if loss.name in components:
                    components[loss.name].zero = zero
                learned.pop(place, None)
        if learned:
            scalars, others = rows_of(components, self._losses, applied, steps, epoch) if components else ([], [])
            results = self._weighted_one_by_one(terms, applied, steps, epoch, zeros, scalars, others, read, learned)
        else:
            results = self._weighted(terms, applied, {}, steps, epoch, zeros, components, read)
        for label, extra in extras:
            results._extra = extra if results._extra is None else results._extra + extra
            if current_graph_task() < 0:
                self._recorder.record(label, extra.detach())
        return results

    def _weighted(
        self,
        terms: list[Tensor],
        weights: list[float],
        factors: _Factors,
        steps: Iterable[int],
        epoch: float,
        zeros: Later,
        components: Mapping[str, Components],
        given: Mapping[str, Any] | Inputs,
    ) -> ComputedLosses:
        """Weight the terms, and record them.

        Args:
            terms: What the functions returned; for a weight of 0 the result, which is 0.
            weights: The weights.
            factors: The tensors that were made of them.
            steps: The step of each record.
            epoch: The epoch of all.
            zeros: The records of the terms with a weight of 0.
            components: What terms are the sums of, by the names of their losses; recorded with the same weights.
            given: The inputs, of which images are kept beside maps.
        """
        scalars, others = rows_of(components, self._losses, weights, steps, epoch) if components else ([], [])
        stacked = _stacked(terms) if len(terms) >= _FEWEST else None
        if stacked is None:
            return self._weighted_one_by_one(terms, weights, steps, epoch, zeros, scalars, others, given)
        results = StackedLosses.of(self._names, terms, weights, stacked, *_factors_like(stacked, weights, factors))
        if stacked.is_cpu:
            try:
                results._values = values = stacked.tolist()[::-1]
            except RuntimeError as error:
                raise no_value(self._losses[0].name) from error
            if zeros or components:
                scalars += [row for row in zip(self._series, steps, weights, values, strict=False) if row[2] != 0.0]
                record = partial(add_rows, scalars, [*others, *zeros], epoch, stacked.dtype)
            else:
                record = partial(add_together, self._series, steps, epoch, weights, values, stacked.dtype)
            if current_graph_task() < 0:
                self._recorder.add_all(record)
            return results
        results._versions = [version_of(term) for term in terms]
        later: Later = []
        each = reversed(stacked.detach().unbind())
        for series, step, weight, raw in zip(self._series, steps, weights, each, strict=False):
            if weight != 0.0:
                later.append((series, step, epoch, weight, raw, raw))
        record_all([*others, *later, *zeros], self._recorder, scalars)
        return results

    def _weighted_one_by_one(
        self,
        terms: list[Tensor],
        weights: list[float],
        steps: Iterable[int],
        epoch: float,
        zeros: Later,
        scalars: Scalars,
        later: Later,
        given: Mapping[str, Any] | Inputs,
        learned: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> ComputedLosses:
        results = ComputedLosses()
        each = zip(self._losses, self._series, terms, weights, steps, strict=False)
        for place, (loss, series, term, weight, step) in enumerate(each):
            if weight == 0.0:
                results[loss.name] = term
            else:
                factor = learned.get(place)
                weighted = loss.weighted(term, weight, epoch) if factor is None else _product(term, factor)
                results[loss.name] = weighted
                later.append((series, step, epoch, weight, term, weighted))
        if record_all([*later, *zeros], self._recorder, scalars):
            self._keep_images(given)
        return results

    def _keep_images(self, given: Mapping[str, Any] | Inputs) -> None:
        """Keep the images of a call beside the maps that it gave, to be shown with them."""
        inputs = given.all_known if isinstance(given, Inputs) else given
        each = list(zip(self._losses, self._series, strict=True))
        images = images_among(inputs, [loss for loss, series in each if series.has_map])
        for _, series in each:
            series.keep_images(images)


def _arguments(names: tuple[str, ...]) -> _Arguments:
    """Return a function that takes these inputs out of a mapping, as a tuple."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda inputs: tuple([inputs[name] for name in names])


def _stacked(terms: list[Tensor]) -> Tensor | None:
    """Return the terms as one tensor, in reverse order; None if they cannot be weighted together.

    In reverse, so that gradients of losses that return the same tensor are added up from the last loss to the first.
    """
    dtype = terms[0].dtype
    if dtype not in _PRECISE:
        return None
    for term in terms:
        if term.dtype is not dtype or term.ndim or type(term) not in PLAIN:
            return None
    try:
        stacked = torch.stack(terms[::-1])
    except RuntimeError:  # They are on several devices.
        return None
    return stacked if stacked.layout is torch.strided else None


def _product(term: Tensor, factor: Tensor) -> Tensor:
    """Return the product with a factor that gets a gradient: in float32 at least, then rounded, as with a number."""
    dtype = floating(term.dtype)
    precise = term.to(torch.float64 if dtype is torch.float64 else torch.float32)
    return (precise * factor.to(precise.dtype)).to(dtype)


def _factors_like(stacked: Tensor, weights: list[float], known: _Factors) -> tuple[Tensor, list[float]]:
    """Return weights as a tensor like the stacked terms, with 1 in the place of 0; and as rounded numbers.

    The tensor is in reverse order. `known` keeps both.
    """
    key = stacked.dtype if stacked.is_cpu else (stacked.dtype, stacked.device)
    if key not in known:
        numbers = [weight or 1.0 for weight in weights]
        rounded = list(map(single, numbers)) if stacked.dtype is torch.float32 else numbers
        made = as_factors(numbers[::-1], like=stacked)
        if not can_be_kept(made):
            return made, rounded
        known[key] = (made, rounded)
    return known[key]
