"""The weights of losses as inputs of compiled graphs, the weightings in these, and the keys that graphs find losses by.

What a graph is made of is looked at again before each run, one object after the other, which costs more than the losses
do. So a graph has keys and tensors, and looks at nothing else.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from nectargan_core.errors import NectarganError, ScheduleError
from nectargan_core.losses._factors import as_factors, can_be_kept

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss
    from nectargan_core.weightings import BoundWeighting


class Asked:
    """The weightings that are asked for factors when a group of losses is computed.

    Args:
        losses: The losses of the group.
        weightings: The weightings, each with the places of the losses that it gives factors.
    """

    def __init__(
        self, losses: Sequence[BoundLoss], weightings: Sequence[tuple[BoundWeighting, tuple[int, ...]]]
    ) -> None:
        # Those that learn, each with the names of the losses as it knows them, and their places.
        self.learned = tuple(
            (weighting, weighting.inner([losses[place].name for place in places]), places)
            for weighting, places in weightings
            if weighting.parameters is not None
        )
        self.learned_keys = " ".join(weighting.key for weighting, _, _ in self.learned)
        # The name of one that would need gradients, which a graph does not give.
        self.needs_gradients = next((each.label for each, _ in weightings if each.needs == "gradients"), "")


class Group:
    """The losses of a query, as a graph looks at them.

    Args:
        losses: The losses, all of one manager.
        every: All losses of the manager, for weightings to change factors; empty for a loss by itself, of which they
            hold.
    """

    def __init__(self, losses: Sequence[BoundLoss], every: Collection[BoundLoss] = ()) -> None:
        self.keys = "".join(loss.key for loss in losses)
        self.functions = tuple(loss.function for loss in losses)
        self.weights = losses[0].weights
        # None for no weightings, so that a graph has only this to look at. Nothing is asked where this is made in a
        # graph.
        self.asked = None
        if every and (weightings := _asked_for_factors(losses, every)):
            self.asked = Asked(losses, weightings)

    def is_like(self, other: Group) -> bool:
        """Whether a graph that was made of one of them serves the other."""
        mine, others = self.asked, other.asked
        if self.keys != other.keys or mine is None or others is None:
            return self.keys == other.keys and mine is others
        return (mine.learned, mine.needs_gradients) == (others.learned, others.needs_gradients)


def weightings_in(losses: Iterable[BoundLoss]) -> list[BoundWeighting]:
    """Return the weightings that balance losses, in the order of these."""
    return list(dict.fromkeys(loss.weighting for loss in losses if loss.weighting is not None))


def _asked_for_factors(
    losses: Sequence[BoundLoss], every: Collection[BoundLoss]
) -> list[tuple[BoundWeighting, tuple[int, ...]]]:
    """Return the weightings of which all losses that have a weight are computed together, with their places."""
    found = weightings_in(losses)
    if not found:
        return []
    mine = set(map(id, losses))
    others = [loss for loss in every if loss.weighting is not None and id(loss) not in mine]
    asked = []
    for weighting in found:
        places = tuple(
            place
            for place, loss in enumerate(losses)
            if loss.weighting is weighting and loss.own_weight_or_nan() != 0.0
        )
        if places and all(loss.weighting is not weighting or loss.own_weight_or_nan() == 0.0 for loss in others):
            asked.append((weighting, places))
    return asked


class Attributes:
    """Values by key, as attributes: of a dict the compiler would see only what was in it when it first looked."""


class Weights:
    """The weights of a manager's losses, in tensors that graphs have as inputs: one for each call in a graph.

    When a weight changes another tensor takes its place; the former stays as it is, for a backward pass that is still
    to come.
    """

    def __init__(self) -> None:
        self._losses: Sequence[BoundLoss] = ()
        # The numbers of the calls by the keys of their losses, whether they train, and the keys of the weightings that
        # give factors in the graph; and the losses of each.
        self._numbers: dict[tuple[str, bool, str], int] = {}
        self._calls: dict[int, list[BoundLoss]] = {}
        # Of each call, whether weightings may change factors by it, and those that give factors in it.
        self._marks: dict[int, tuple[bool, list[str]]] = {}
        # Called when the clock has changed, and a weighting gives factors.
        self.on_clock: Callable[[], object] | None = None
        # By a key: the tensor; the call, device and precision; and the numbers in it.
        self.tensors = Attributes()
        self._kinds: dict[str, tuple[int, torch.device, bool]] = {}
        self._values: dict[str, list[float]] = {}
        # The weights of each call whose weights do not vary.
        self.fixed: dict[int, list[float]] = {}
        # Whether a weight changes with the clock; or with how often a loss is computed, so that a graph asks for it as
        # it runs.
        self._varies = self.counted = False

    def call_of(self, keys: str, losses: list[BoundLoss], trains: bool, learned: str) -> int:
        """Return the number of a call that computes these losses."""
        number = self._numbers.setdefault((keys, trains, learned), next(_CALL_NUMBERS))
        if number not in self._calls:
            # Weak, since this has the losses, and they have the clock.
            mine = weakref.ref(self)
            losses[0].watch_clock(lambda: weights.clock_changed() if (weights := mine()) is not None else None)
            self._calls[number] = losses
            self._marks[number] = trains, learned.split()
            _CALLS[number] = self
            self.refresh()
        return number

    def losses_of(self, call: int) -> list[BoundLoss]:
        """Return the losses that a call computes."""
        return self._calls[call]

    def take(self, losses: Sequence[BoundLoss]) -> None:
        """Hold the weights of these losses from the next `refresh` on, and forget the calls of all others."""
        self._losses = losses
        kept = set(map(id, losses))
        self._calls = {call: those for call, those in self._calls.items() if kept.issuperset(map(id, those))}
        self._marks = {call: mark for call, mark in self._marks.items() if call in self._calls}
        self._numbers = {keys: call for keys, call in self._numbers.items() if call in self._calls}
        for call in [call for call, weights in _CALLS.items() if weights is self and call not in self._calls]:
            _CALLS.pop(call, None)
        for key in [key for key, kind in self._kinds.items() if kind[0] not in self._calls]:
            del self._kinds[key]
            self._values.pop(key, None)
            vars(self.tensors).pop(key, None)

    def prepare(self, call: int, device: torch.device, double: bool) -> str:
        """Return the key of the tensor for a call, a device and a precision, which is made if it is not there."""
        key = f"call_{call}_{device.type}_{device.index}_{'double' if double else 'single'}"
        if key not in self._kinds:
            self._kinds[key] = call, device, double
            self.refresh()
        return key

    def refresh(self) -> None:
        """Put another tensor in the place of each whose weights have changed."""
        if not self._calls:
            return
        # Of all losses, so that it does not change while a graph is made of one call after the other.
        self.counted = any(loss.counts for loss in self._losses)
        self._varies = any(loss.varies for loss in self._losses)
        known: dict[int, list[float]] = {}
        for call, each in self._calls.items():
            try:
                known[call] = self.weights_in(call, None)
            except ScheduleError:  # When the losses are recorded the error is raised.
                known[call] = [math.nan] * len(each)
        self.fixed = {call: known[call] for call, each in self._calls.items() if not any(loss.varies for loss in each)}
        for key, (call, device, double) in self._kinds.items():
            values = known[call]
            if values != self._values.get(key):
                made = as_factors(values, like=like_of(device, double))
                setattr(self.tensors, key, made)
                # One that is made while a graph is compiled may be of that only, and is made again.
                self._values[key] = values if can_be_kept(made) else []

    def weights_in(self, call: int, epoch: float | None) -> list[float]:
        """Return the weights that a graph multiplies by: without the factors that weightings give in the graph."""
        _, learned = self._marks[call]
        return [
            loss.compiled_weight(epoch, own=loss.weighting is not None and loss.weighting.key in learned)
            for loss in self._calls[call]
        ]

    def saw(self, call: int, results: Sequence[Tensor], epoch: float | None) -> None:
        """Keep what a graph has computed for the weightings whose factors change at the next tick.

        Args:
            call: The call.
            results: The mean of each loss before weighting, which nobody else edits.
            epoch: The epoch, None for that of the clock.
        """
        losses, (trains, _) = self._calls[call], self._marks[call]
        if not trains or not losses[0].is_training:
            return
        for weighting, places in _asked_for_factors(losses, self._losses):
            step, at = losses[places[0]].step_here(), losses[0].epoch_here(epoch)
            weighting.saw(
                tuple(losses[place].name for place in places),
                [results[place] for place in places],
                [losses[place].own_weight(at) for place in places],
                step,
                at,
            )

    def clock_changed(self) -> None:
        """Let weightings change factors, and refresh, if a weight may have changed with the clock."""
        if not self._varies:
            return
        weightings = weightings_in(self._losses)
        for weighting in weightings:
            weighting.catch_up()
        if weightings and self.on_clock is not None:
            self.on_clock()
        self.refresh()


def like_of(device: torch.device, double: bool) -> Tensor:
    """Return an empty tensor of a precision on a device."""
    return torch.empty((), dtype=torch.float64 if double else torch.float32, device=device)


# What graphs find by a key or number, which are all that they have of it; nothing is kept alive.

_KEYS = itertools.count()
_CALL_NUMBERS = itertools.count()
_LOSSES: weakref.WeakValueDictionary[str, BoundLoss] = weakref.WeakValueDictionary()
_CALLS: weakref.WeakValueDictionary[int, Weights] = weakref.WeakValueDictionary()


def register(loss: BoundLoss) -> str:
    """Return a key by which graphs find a loss.

    Not a number: one that differs between two managers the compiler would take for a size that varies.
    """
    key = f"{next(_KEYS)} "
    _LOSSES[key] = loss
    return key


def weights_of(call: int) -> Weights:
    """Return the weights that have a call."""
    weights = _CALLS.get(call)
    if weights is None:
        raise gone()
    return weights


def gone() -> NectarganError:
    """Make the error that a manager is gone whose losses a graph computes."""
    return NectarganError(
        "the manager whose losses this compiled graph computes is gone, or has other losses now; keep both as long as "
        "the graph"
    )


# What a graph has as constants, since it stays the same while a loss has its key.

Definition: TypeAlias = "tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]"
"""Of a loss: its name, inputs, those of them that it takes as they are, and the parameters that take them."""


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # as it is in torch
def call_of(keys: str, trains: bool, learned: str) -> int:
    """Return the number of a call that computes several losses.

    Args:
        keys: Those of the losses, one after the other.
        trains: Whether weightings may change factors: gradients are enabled, and the losses are those of a query.
        learned: The keys of the weightings that give factors in the graph.
    """
    losses = [_LOSSES[f"{key} "] for key in keys.split()]
    return losses[0].weights.call_of(keys, losses, trains, learned)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # as it is in torch
def definitions_of(call: int) -> tuple[Definition, ...]:
    """Return name, inputs, as_is and parameters of the losses of a call."""
    losses = weights_of(call).losses_of(call)
    return tuple((loss.name, loss.inputs, tuple(loss.as_is), loss.parameters) for loss in losses)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # as it is in torch
def prepared_key(call: int, device_type: str, device_index: int | None, double: bool) -> str:
    """Return the key of the weights of a call for a device and precision."""
    device = torch.device(device_type) if device_index is None else torch.device(device_type, device_index)
    return weights_of(call).prepare(call, device, double)
