"""A weighting at work in a manager: which losses it balances, when their factors change, and what they are now."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from nectargan_core import catalog
from nectargan_core._messages import listed, warn
from nectargan_core.errors import DuplicateLossError
from nectargan_core.weightings._gradients import not_reached, scale_of, tensors_of
from nectargan_core.weightings._object import WeightingObject
from nectargan_core.weightings._ranks import mean_over_ranks, refuse_static_graph
from nectargan_core.weightings._step import GraphStep, WeightingStep, Wrt
from nectargan_core.weightings._weighting import Weighting

# What compiled graphs find a weighting by.
_KEYS = itertools.count()
_WEIGHTINGS: weakref.WeakValueDictionary[str, BoundWeighting] = weakref.WeakValueDictionary()


def weighting_of(key: str) -> BoundWeighting | None:
    """Return the weighting that has a key; None if it is gone."""
    return _WEIGHTINGS.get(key)


_Seen: TypeAlias = tuple[tuple[str, ...], Sequence[Tensor], list[float], int, float]
"""What a compiled graph has computed: names, results, weights, step and epoch."""


class Factors(NamedTuple):
    """What a weighting gave at a step.

    Args:
        numbers: For each loss of the step its factor.
        learned: The same as a vector with a graph; None where nothing is learned.
        extra: What is added to the total; None for nothing.
    """

    numbers: list[float]
    learned: Tensor | None
    extra: Tensor | None


class BoundWeighting:
    """A weighting at work: it balances losses of one manager against each other.

    Args:
        definition: The definition, whose `wrt` is the one that applies.
        names: The losses that it balances, at least one.
        label: What it is called in records, states and errors.
        scaler: A `torch.amp.GradScaler`, through whose scale gradients are taken; None for none.
        prefix: What all names begin with, and the weighting does not see: it was brought by a spec whose losses were
            given the prefix, and its params may name losses.
        asked: What the losses were asked for by; empty where that is not known.

    Raises:
        PluginError: If no weighting of the name is installed, or it cannot be used.
        WeightingError: If it does not take the params, or these losses, or has no `wrt` and needs one.
    """

    def __init__(
        self,
        definition: Weighting,
        names: Sequence[str],
        label: str,
        scaler: Any = None,
        prefix: str = "",
        asked: str = "",
    ) -> None:
        self.definition = definition
        self.asked = asked or ",".join(names)
        self.names = tuple(names)
        self.label = label
        self.object = WeightingObject(definition, label)
        self.needs = self.object.needs
        if self.needs == "gradients" and definition.wrt is None:
            raise self.object.error(
                "needs gradients, and nothing says of what: give wrt=, the name of an input of compute_losses, such as "
                "wrt='y_fake' (what the network returned) or wrt='last_layer' (parameters)"
            )
        self.prefix = prefix
        self.object.begin(self.inner(self.names))
        self.parameters = self.object.parameters
        scale_of(scaler)  # so that what is no scaler is refused now
        self._scaler = scaler if self.needs == "gradients" else None
        # The last factor of each loss that has had one; 1 before any.
        self.factors: dict[str, float] = {}
        # The step at which factors were last asked for.
        self._last: int | None = None
        self._has_looked_at_ranks = False
        # What a compiled graph has computed since.
        self._seen: _Seen | None = None
        self.key = f"{next(_KEYS)}"
        _WEIGHTINGS[self.key] = self

    @property
    def plugins(self) -> tuple[catalog.Plugin, ...]:
        """The plugin that it comes from; none of a class that was passed itself."""
        return () if self.object.plugin is None else (self.object.plugin,)

    @property
    def wrt(self) -> str | None:
        """The input that gradients are taken with respect to; None of a weighting that needs none."""
        return self.definition.wrt if self.needs == "gradients" else None

    def factor(self, name: str) -> float:
        """Return the last factor of a loss."""
        return self.factors.get(name, 1.0)

    def inner(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names as the weighting knows them."""
        return tuple(name[len(self.prefix) :] for name in names)

    @property
    def has_given(self) -> bool:
        """Whether it has given factors."""
        return bool(self.factors)

    def is_due(self, step: int) -> bool:
        """Whether factors change at a step; what is learned is asked for in every computation."""
        last = self._last
        return self.parameters is not None or last is None or step < last or step - last >= self.definition.every

    def balance(
        self,
        names: Sequence[str],
        results: Sequence[Tensor],
        weights: Sequence[float],
        step: int,
        epoch: float,
        wrt: object,
        again: bool = False,
    ) -> Factors | None:
        """Ask for factors, which hold from now on.

        Args:
            names: The losses that run, at least one.
            results: What their functions returned, as scalars attached to the graph.
            weights: Their own weights.
            step: The step of the clock.
            epoch: The epoch of the clock.
            wrt: The value of the input `wrt`; None where no gradients are needed.
            again: Whether the losses are computed again in a backward pass, for which the last factors hold on.

        Returns:
            The factors of these losses; None where gradients through a scale are not finite, here or on another rank,
            so that the last ones hold.

        Raises:
            WeightingError: If a factor is not finite, or the weighting fails.
        """
        read = (lambda: self._wrt(wrt)) if self.needs == "gradients" else None
        now = WeightingStep(self.inner(names), results, weights, step, epoch, read, self.prefix)
        reached = [True] * len(names)
        if self.object.allows_unreached and self.needs == "gradients":
            reached = now.reached()
            if not any(reached):
                raise not_reached(names, f"the input {self.definition.wrt!r}")
            now = now.only(reached)
        learned = None
        if self._scaler is not None and not now.is_finite():
            numbers = [math.nan] * len(names)
        else:
            given, learned = self.object.factors(now)
            rest = iter(given)
            numbers = [next(rest) if is_reached else 1.0 for is_reached in reached]
            if learned is not None and len(now.names) < len(names):
                ones = torch.ones(len(names), dtype=learned.dtype, device=learned.device)
                learned = ones.masked_scatter(torch.tensor(reached, device=ones.device), learned)
        if self.definition.reduce == "mean":  # Every rank takes part, with a number for each loss.
            means = mean_over_ranks(numbers)
            learned = None if learned is None else learned + (learned.new_tensor(means) - learned.detach())
            numbers = means
        if any(map(math.isnan, numbers)):
            return None
        extra = self.object.added(now)
        if not again:
            self.take(names, numbers)
            self._last = step
        return Factors(numbers, learned, extra)

    def take(self, names: Sequence[str], factors: Sequence[float]) -> None:
        """Hold these factors from now on."""
        self.factors = {**self.factors, **dict(zip(names, factors, strict=True))}

    def _wrt(self, value: object) -> Wrt:
        name = self.definition.wrt or ""
        tensors = tensors_of(value, f"the input {name!r}, the wrt of weighting {self.label!r},")
        if not self._has_looked_at_ranks:
            refuse_static_graph(tensors, f"weighting {self.label!r}")
            self._has_looked_at_ranks = True
        return Wrt(name, tensors, scale_of(self._scaler))

    # In compiled graphs

    def saw(
        self, names: tuple[str, ...], results: Sequence[Tensor], weights: list[float], step: int, epoch: float
    ) -> None:
        """Keep what a compiled graph computed, until `catch_up`; the first computation at a step counts."""
        if self.parameters is None and self.needs == "values" and self._seen is None and self.is_due(step):
            self._seen = names, results, weights, step, epoch

    def catch_up(self) -> None:
        """Ask for the factors of what a compiled graph computed since the last time."""
        if self._seen is not None:
            (names, results, weights, step, epoch), self._seen = self._seen, None
            if self.is_due(step):  # They may have changed at that step outside of the graph.
                self.balance(names, results, weights, step, epoch, None)

    def take_from_graph(self, names: Sequence[str], factors: Sequence[float]) -> None:
        """Hold factors that were given in a graph.

        Raises:
            WeightingError: If one is not finite.
        """
        self.object.refuse_infinite(names, factors, "in compiled code")
        self.take(names, factors)

    def in_graph(self, names: tuple[str, ...], tensors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return factors and what is added to the total, as parts of a graph.

        Args:
            names: The losses, each with a weight that is not 0.
            tensors: The means of their results before weighting, detached: a vector in single precision.
        """
        return self.object.in_graph(GraphStep(names, tensors))

    # State

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "factors": dict(self.factors),
            "step": self._last,
            "state": self.object.state(),
            "seen": None if self._seen is None else _seen_as_numbers(*self._seen),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        Raises:
            WeightingError: If the weighting cannot load its own part.
        """
        self.object.load_state(state["state"])
        self.factors = {name: float(factor) for name, factor in state["factors"].items() if name in self.names}
        self._last = state["step"]
        seen = state.get("seen")
        self._seen = None if seen is None else _seen_in_numbers(seen, self.names)

    def without(self, names: Collection[str]) -> None:
        """Balance these losses no longer."""
        self.names = tuple(name for name in self.names if name not in names)
        if self._seen is not None:
            self._seen = _seen_in_numbers(_seen_as_numbers(*self._seen), self.names)
        self.factors = {name: factor for name, factor in self.factors.items() if name not in names}


def _seen_as_numbers(
    names: Sequence[str], results: Sequence[Tensor], weights: Sequence[float], step: int, epoch: float
) -> dict[str, Any]:
    """Return what a compiled graph has computed as plain data."""
    values = [float(result) for result in results]
    return {"names": list(names), "values": values, "weights": list(weights), "step": step, "epoch": epoch}


def _seen_in_numbers(seen: Mapping[str, Any], kept: Collection[str]) -> _Seen | None:
    """Return what `_seen_as_numbers` was given, of the losses that are kept; None of none."""
    each = zip(seen["names"], seen["values"], seen["weights"], strict=True)
    left = [one for one in each if one[0] in kept]
    if not left:
        return None
    names, values, weights = zip(*left, strict=True)
    results = [torch.tensor(value, dtype=torch.float64, device="cpu") for value in values]
    return names, results, list(weights), seen["step"], seen["epoch"]


def free_label(definition: Weighting, asked: str, names: Sequence[str], taken: Collection[str]) -> str:
    """Return what a weighting is called: its name without the provider, or that of the class.

    If that is taken, `name@asked`; and if that is too, as by another spec that balances its losses of the same tag, the
    name with those of its losses, `name@G_L1,G_GAN`.

    Args:
        definition: The definition.
        asked: What its losses were asked for by.
        names: Its losses.
        taken: The names of losses and the labels of other weightings.

    Raises:
        DuplicateLossError: If all are taken.
    """
    name = definition.name
    name = name.rpartition("/")[2] if isinstance(name, str) else str(getattr(name, "__name__", type(name).__name__))
    labels = (name, f"{name}@{asked}", f"{name}@{','.join(names)}")
    for label in labels:
        if label not in taken:
            return label
    raise DuplicateLossError(
        f"a weighting of {listed(names)} would be called {name!r}, {labels[1]!r} or {labels[2]!r}, each of which is "
        "the name of a loss or of another weighting; choose another name for the loss",
        name=name,
    )


def load_states(weightings: Sequence[BoundWeighting], states: Mapping[str, Mapping[str, Any]]) -> None:
    """Load the state of each weighting by its label or, if one cannot be loaded, of none; warn of those without.

    Raises:
        WeightingError: If one cannot be loaded.
    """
    both = [weighting for weighting in weightings if weighting.label in states]
    before = [weighting.state() for weighting in both]
    try:
        for weighting in both:
            weighting.load_state(states[weighting.label])
        # What a compiled graph had computed when the state was taken counts at the next tick: in this run, the first.
        for weighting in both:
            weighting.catch_up()
    except BaseException:
        for weighting, state in zip(both, before, strict=True):
            weighting.load_state(state)
        raise
    differing = states.keys() ^ {weighting.label for weighting in weightings}
    if differing:
        warn(
            "the state and this manager do not have the same weightings; only one of them has "
            f"{listed(sorted(differing))}; set the weightings first, and load the state then"
        )


def is_state(item: tuple[object, Any]) -> bool:
    """Whether a label and a value are what `LossManager.state_dict` says of a weighting."""
    label, state = item
    return (
        isinstance(label, str)
        and isinstance(state, Mapping)
        and isinstance(state["factors"], Mapping)
        and all(
            isinstance(name, str) and type(factor) in (int, float) and math.isfinite(factor)
            for name, factor in state["factors"].items()
        )
        and (state["step"] is None or type(state["step"]) is int)
        and "state" in state
        and (state.get("seen") is None or _is_seen(state["seen"]))
    )


def _is_seen(seen: Any) -> bool:
    lists = [seen["names"], seen["values"], seen["weights"]]
    return (
        all(isinstance(each, (list, tuple)) and len(each) == len(lists[0]) for each in lists)
        and all(isinstance(name, str) for name in lists[0])
        and all(type(number) in (int, float) for each in lists[1:] for number in each)
        and type(seen["step"]) is int
        and type(seen["epoch"]) in (int, float)
    )
