"""What `compute_losses` returns: the weighted results by name, and their total."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from operator import add, mul
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from nectargan_core.errors import NectarganError
from nectargan_core.history import Recorder
from nectargan_core.losses._components import Components
from nectargan_core.weightings import LossGradients, compared, refuse_static_graph, scale_of, tensors_of

Place: TypeAlias = "tuple[Recorder, str | None, int, float]"
"""Where a total belongs: recorder, prefix of the scope, step and epoch."""

_HALF = (torch.float16, torch.bfloat16)
_SINGLE = struct.Struct("=f")


class ComputedLosses(dict[str, Tensor]):
    """Weighted results by loss name, with their `total`.

    Example:
        >>> losses = ComputedLosses(a=torch.tensor(1.0), b=torch.tensor([2.0, 4.0]))
        >>> float(losses.total)
        4.0
    """

    _skipped: frozenset[str] = frozenset()
    # What the functions returned, None of a loss that was skipped, by these names; and where the total belongs. None
    # where compute_losses did not say.
    _raws: Sequence[Tensor | None] | None = None
    _names: Iterable[str] = ()
    _place: Place | None = None
    # The components of the losses that have some; in a graph, after weighting.
    _components: Mapping[str, Components | dict[str, Tensor]] | None = None
    # What weightings add to the total.
    _extra: Tensor | None = None

    @property
    def ran(self) -> tuple[str, ...]:
        """The names of the losses whose function was called, and not skipped for a weight of 0."""
        return tuple(name for name in self if name not in self._skipped)

    @property
    def unweighted(self) -> Mapping[str, Tensor]:
        """What the functions returned, before weighting, by loss name: detached; nan for a loss that was skipped.

        Made when it is asked for, without waiting for a device.

        Raises:
            NectarganError: If the losses were computed inside `torch.compile`, or not by `compute_losses`.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> losses = manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)})
            >>> float(losses["G_L1"]), float(losses.unweighted["G_L1"])
            (100.0, 1.0)
        """
        if self._raws is None:
            raise NectarganError(
                "only compute_losses outside of torch.compile keeps unweighted values; for losses that a compiled "
                "graph computed, read the histories of get_registered_losses(strip=False)"
            )
        raws = dict(zip(self._names, self._raws, strict=True))
        return MappingProxyType({name: _before_weighting(raws.get(name), result) for name, result in self.items()})

    def gradients(self, wrt: Any, *, scaler: torch.amp.GradScaler | None = None) -> LossGradients:
        """Return how hard each loss pulls, and whether with or against the others: norms and cosines of gradients.

        Call it before `backward()`, which works afterwards as it would have before; no `.grad` changes, but that of a
        tensor between the losses and `wrt` on which `retain_grad()` was called. Takes one backward pass for each loss,
        from the loss to `wrt`: with respect to what a network returned it costs the least, and with respect to its last
        layer little more. Waits for the device once.

        Args:
            wrt: What gradients are taken with respect to: a tensor that requires a gradient, such as what a network
                returned; a parameter; a module, for its parameters that require a gradient; or a list of them.
            scaler: The `torch.amp.GradScaler` of a training in half precision: gradients go through its scale, so
                that they do not become 0 on the way. Where they overflow, as in a step that it skips, norms are
                infinite or nan.

        Returns:
            Norms, shares and cosines by loss name, as numbers; it prints as a table.

        Raises:
            WeightingError: If `wrt` requires no gradient, no loss that ran depends on it or has a graph, or a
                `backward()` has freed the graph; or before the first backward pass of a `DistributedDataParallel` with
                `static_graph=True` that has parameters in `wrt`.
            NectarganError: Inside of `torch.compile`.
            TypeError: If an argument has the wrong type.

        Example:
            >>> x = torch.zeros(2, requires_grad=True)
            >>> pulls = ComputedLosses(G_GAN=-x[0], G_L1=(3 * x).sum()).gradients(x)
            >>> pulls.norms["G_GAN"], round(pulls.shares["G_GAN"], 2), round(pulls.cosines["G_GAN"], 2)
            (1.0, 0.19, -0.55)
        """
        _refuse_in_graphs()
        tensors = tensors_of(wrt)
        refuse_static_graph(tensors, "losses.gradients(wrt)")
        return compared(dict(self.items()), self.ran, tensors, scale_of(scaler), self._extra)

    @property
    def components(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The components of each loss whose function returned a dict: weighted scalars by name, attached to the graph.

        Empty for any other loss, and for one that was skipped. The loss is their sum. Made when they are asked for,
        without waiting for a device, so that they are not part of the graph of the loss.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_VQ", lambda x: {"codebook": x, "commitment": x / 4}, 2.0, inputs=("x",))
            >>> losses = manager.compute_losses({"x": torch.tensor(1.0)})
            >>> float(losses["G_VQ"]), {name: float(value) for name, value in losses.components["G_VQ"].items()}
            (2.5, {'codebook': 2.0, 'commitment': 0.5})
        """
        found = self._components or {}
        made: dict[str, Mapping[str, Tensor]] = {}
        for name in self:
            parts = found.get(name)
            weighted = {} if parts is None else parts if isinstance(parts, dict) else parts.weighted()
            made[name] = MappingProxyType(weighted)
        return MappingProxyType(made)

    @property
    def total(self) -> Tensor:
        """The sum of the results, of which each that is not a scalar counts with its mean, and of what weightings add.

        To differentiate it with respect to a result, or to hook one, ask for the result first: results that nobody has
        asked for are not part of its graph where four or more scalars are weighted together.

        Results of half precision are added in float32, in which their sum does not overflow. A total that is nan or
        infinite although the losses are not is reported like a loss named `total`, once, when it is asked for; on an
        accelerator when values are read next.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if the sum of finite losses is not finite.
        """
        if len(self) == 1 and self._extra is None:
            (result,) = self.values()  # It was looked at when it was recorded.
            return result.mean() if result.ndim else result
        scalars = [result.mean() if result.ndim else result for result in self.values()]
        scalars = [scalar.float() if scalar.dtype in _HALF else scalar for scalar in scalars]
        if not scalars:
            # A zero that backward() accepts.
            return torch.zeros((), requires_grad=torch.is_grad_enabled())
        summed = scalars[0]
        for scalar in scalars[1:]:
            summed = summed + scalar
        if self._extra is not None:
            summed = summed + self._extra
        if self._place is not None and not torch.compiler.is_dynamo_compiling():
            (recorder, prefix, step, epoch), self._place = self._place, None
            # On the CPU there is nothing to wait for.
            if not (summed.is_cpu and math.isfinite(summed.item())):
                recorder.check_total(summed, dict(zip(self, scalars, strict=True)), prefix, step, epoch)
        return summed


def _refuse_in_graphs() -> None:
    """Raise inside `torch.compile`; on one line, since the compiler shows the line and not the error."""
    if torch.compiler.is_dynamo_compiling():
        raise NectarganError("gradients of losses are taken outside of torch.compile; return the losses from the step")


class StackedLosses(ComputedLosses):
    """Results that are one tensor, of which each is made when one is asked for.

    From then on this is a `ComputedLosses` like any other. A result has the graph of its loss alone, as if it had been
    weighted by itself.
    """

    # What is weighted, and for a weight of 0 the result; and the weights.
    _terms: Sequence[Tensor]
    _weights: Sequence[float]
    # The terms as one tensor, which nobody else edits, and the weights likewise, with 1 in the place of 0: both in
    # reverse order.
    _stacked: Tensor
    _factors: Tensor
    # On the CPU the values of both, in the order of the losses; elsewhere how often each term had been edited in place.
    _values: Sequence[float] = ()
    _rounded: Sequence[float]
    _versions: Sequence[int] | None

    def __new__(cls, *args: Any, **kwargs: Any) -> ComputedLosses:  # type: ignore[misc] # not one of its own
        # As libraries do that make a dict of the same type with other values: type(losses)(...).
        return ComputedLosses(*args, **kwargs)

    @classmethod
    def of(
        cls,
        names: Mapping[str, Any],
        terms: Sequence[Tensor],
        weights: Sequence[float],
        stacked: Tensor,
        factors: Tensor,
        rounded: Sequence[float],
    ) -> StackedLosses:
        """Return results that are still one tensor, under their names."""
        results: Any = ComputedLosses(names)
        results.__class__ = cls
        results._terms, results._weights, results._versions = terms, weights, None
        results._stacked, results._factors, results._rounded = stacked, factors, rounded
        return cast("StackedLosses", results)

    def __iter__(self) -> Iterator[str]:
        # Where a class has one of its own, Python takes the results of a dict one by one, also for dict(losses).
        return super().__iter__()

    @property
    def total(self) -> Tensor:
        """The sum of the results; see `ComputedLosses.total`."""
        if self._extra is not None:
            return cast("Tensor", _made(self).total)
        if not self._stacked.is_cpu:
            summed = (self._stacked * self._factors).sum()
            if self._place is not None:
                (recorder, prefix, step, epoch), self._place = self._place, None
                recorder.check_total(summed, self, prefix, step, epoch)
            return summed
        summed, exact = (
            torch.dot(self._stacked, self._factors),
            _added_up(self._values, self._rounded, self._stacked.dtype),
        )
        if not math.isfinite(exact):
            return cast("Tensor", _made(self).total)
        self._place = None
        # A dot product adds up in another order. And 0 may have another sign.
        if summed.item() != exact or not exact:
            if torch._C._is_tracing():  # to which this would be a constant
                return cast("Tensor", _made(self).total)
            summed.detach().fill_(exact)
        return summed


def _result(losses: StackedLosses, place: int) -> Tensor:
    """Return a new tensor for the result in a place: the product as it was at the call, whoever edits its term."""
    term, weight = losses._terms[place], losses._weights[place]
    if not weight:
        return term
    if _is_rewired(losses, place):
        return losses._stacked[-1 - place] * weight
    result = term * weight
    if _is_edited(losses, place):
        result.detach().copy_(losses._stacked[-1 - place].detach() * weight)
    return result


def _is_rewired(losses: StackedLosses, place: int) -> bool:
    """Whether a term has another graph than it had."""
    term, node = losses._terms[place], losses._stacked.grad_fn
    edge = None if node is None else node.next_functions[-1 - place][0]
    if edge is None:
        return node is not None and term.requires_grad
    return not term.requires_grad or not (term.is_leaf or term.grad_fn is edge)


def _is_edited(losses: StackedLosses, place: int) -> bool:
    """Whether a term has another value than it had."""
    if losses._versions is not None:
        return version_of(losses._terms[place]) != losses._versions[place]
    value, before = losses._terms[place].item(), losses._values[place]
    return value != before and (value == value or before == before)


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor has been edited in place; 0 where that is not counted."""
    return 0 if tensor.is_inference() else tensor._version


def _reached(name: str) -> Callable[..., Any]:
    """Return a method of dict that makes the results first."""

    def method(self: ComputedLosses, *args: Any, **kwargs: Any) -> Any:
        return getattr(_made(self), name)(*map(_made, args), **kwargs)

    return method


def _made(losses: Any) -> Any:
    """Make the results of `StackedLosses`, which are a `ComputedLosses` like any other then; anything else stays."""
    if type(losses) is StackedLosses:
        with torch.inference_mode(mode=False), torch.set_grad_enabled(losses._stacked.requires_grad):
            made = [_result(losses, place) for place in range(len(losses._terms))]
        # Another thread may have made them meanwhile.
        made = vars(losses).setdefault("_results", made)
        dict.update(losses, zip(losses._names, made, strict=True))
        losses.__class__ = ComputedLosses  # type: ignore[assignment] # which has the same attributes
    return losses


# All that reach the results, of what a dict can do.
for _name in (
    *("__getitem__", "__setitem__", "__delitem__", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__repr__"),
    *("__reduce_ex__", "get", "items", "values", "pop", "popitem", "setdefault", "update", "clear", "copy"),
):
    setattr(StackedLosses, _name, _reached(_name))


def _added_up(values: Sequence[float], factors: Sequence[float], dtype: torch.dtype) -> float:
    """Return the sum of products as float32 or float64 gives it, one after the other; nan if one is too large."""
    products = list(map(mul, values, factors))
    if dtype is not torch.float32:
        return float(reduce(add, products))
    pack, unpack, several = _SINGLE.pack, _SINGLE.unpack, _singles(len(products))
    try:
        # The product and the sum of two float32 are exact in float64, or rounded by it without consequence.
        total, *others = several.unpack(several.pack(*products))
        for product in others:
            (total,) = unpack(pack(total + product))
    except OverflowError:
        return math.nan
    return float(total)


@cache
def _singles(count: int) -> struct.Struct:
    return struct.Struct(f"={count}f")


def _before_weighting(raw: Tensor | None, weighted: Tensor) -> Tensor:
    if raw is None:
        return torch.full((), math.nan, dtype=weighted.dtype, device=weighted.device)
    return raw.detach()
