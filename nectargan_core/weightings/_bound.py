"""A weighting at work in a manager: the object of the plugin, the losses that it balances, and their factors."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core._names import read_term
from nectargan_core.errors import NectarganError, PluginContractError, WeightingError
from nectargan_core.weightings._gradients import tensors_of
from nectargan_core.weightings._ranks import mean_over_ranks, refuse_static_graph
from nectargan_core.weightings._step import GraphStep, Step, Wrt
from nectargan_core.weightings._weighting import Weighting

_NEEDS = ("values", "gradients")

# What compiled graphs find a weighting by.
_KEYS = itertools.count()
_WEIGHTINGS: weakref.WeakValueDictionary[str, BoundWeighting] = weakref.WeakValueDictionary()


def weighting_of(key: str) -> BoundWeighting | None:
    """Return the weighting that has a key; None if it is gone."""
    return _WEIGHTINGS.get(key)


class Factors(NamedTuple):
    """What a weighting gave at a step.

    Args:
        factors: For each loss of the step its factor.
        learned: The same as a vector with a graph; None where nothing is learned.
        extra: What is added to the total; None for nothing.
    """

    factors: list[float]
    learned: Tensor | None
    extra: Tensor | None


class BoundWeighting:
    """A weighting at work: it balances losses of one manager against each other.

    Args:
        definition: The definition, whose `wrt` is the one that applies.
        names: The losses that it balances, at least one.
        label: What it is called in records, states and errors.
        scaler: A `torch.amp.GradScaler`, through whose scale gradients are taken; None for none.

    Raises:
        PluginError: If no weighting of the name is installed, or it cannot be used.
        WeightingError: If it does not take the params, or these losses, or has no `wrt` and needs one.
    """

    def __init__(self, definition: Weighting, names: Sequence[str], label: str, scaler: Any = None) -> None:
        self.key = f"{next(_KEYS)}"
        _WEIGHTINGS[self.key] = self
        self.definition = definition
        self.names = tuple(names)
        self.label = label
        self.scaler = scaler
        self.plugin: catalog.Plugin | None = None
        make, self.plugin = _find(definition)
        self._object = self._made(make)
        self.needs = self._needed()
        if self.needs == "gradients" and definition.wrt is None:
            raise self.error(
                "needs gradients, and nothing says of what: give wrt=, the name of an input of compute_losses, such as "
                "wrt='y_fake' (what the network returned) or wrt='last_layer' (parameters)"
            )
        self.allows_unreached = bool(getattr(self._object, "allow_unreached", False))
        # The last factor of each loss that has had one; 1 before any.
        self.factors: dict[str, float] = {}
        # The step at which factors were last asked for.
        self._last: int | None = None
        self._has_looked_at_ranks = False
        # What a compiled graph has computed since: names, results, weights, step and epoch.
        self._seen: tuple[tuple[str, ...], Sequence[Tensor], list[float], int, float] | None = None
        begin = getattr(self._object, "begin", None)
        if begin is not None:
            self._asked("begin", begin, self.names)
        is_module = isinstance(self._object, nn.Module)
        parameters = self._object if is_module else getattr(self._object, "parameters", None)
        if parameters is not None and not isinstance(parameters, nn.Module):
            raise self._violation(f"has {shown(parameters)} as parameters, which must be an nn.Module")
        self.parameters: nn.Module | None = parameters

    def factor(self, name: str) -> float:
        """Return the last factor of a loss."""
        return self.factors.get(name, 1.0)

    def is_due(self, step: int) -> bool:
        """Whether factors change at a step."""
        last = self._last
        return self.parameters is not None or last is None or step < last or step - last >= self.definition.every

    def balance(
        self,
        names: Sequence[str],
        results: Sequence[Tensor],
        weights: Sequence[float],
        step: int,
        epoch: float,
        wrt: Callable[[], object],
    ) -> Factors | None:
        """Ask for factors, which hold from now on.

        Args:
            names: The losses that run, at least one.
            results: What their functions returned, as scalars attached to the graph.
            weights: Their own weights.
            step: The step of the clock.
            epoch: The epoch of the clock.
            wrt: Gives the value of the input `wrt`.

        Returns:
            The factors of these losses; None where gradients through a scale are not finite, here or on another rank,
            so that the last ones hold.

        Raises:
            WeightingError: If a factor is not finite, or the weighting fails.
        """
        read = (lambda: self._wrt(wrt())) if self.needs == "gradients" else None
        whole = now = Step(names, results, weights, step, epoch, read)
        reached = [True] * len(names)
        if self.allows_unreached and self.needs == "gradients":
            reached = whole.reached()
            now = whole.only(reached)
        if self.scaler is not None and self.needs == "gradients" and not now.is_finite():
            if self.definition.reduce == "mean":  # The other ranks wait for this one, and hold the last factors, too.
                mean_over_ranks([math.nan] * len(now.names))
            return None
        factors, learned = [1.0] * len(names), None
        extra = None
        if now.names:
            given, learned = self._asked_factors(now)
            if any(map(math.isnan, given)):
                return None
            extra = self._asked_extra(now)
            numbers = iter(given)
            factors = [next(numbers) if is_reached else 1.0 for is_reached in reached]
            if learned is not None and len(now.names) < len(names):
                ones = torch.ones(len(names), dtype=learned.dtype, device=learned.device)
                learned = ones.masked_scatter(torch.tensor(reached, device=ones.device), learned)
        self.factors = {**self.factors, **dict(zip(names, factors, strict=True))}
        self._last = step
        return Factors(factors, learned, extra)

    def _asked_factors(self, step: Step) -> tuple[list[float], Tensor | None]:
        given = self._asked("factors", self._object.factors, step)
        learned = None
        if isinstance(given, Tensor):
            if given.shape != (len(step.names),):
                raise self._violation(
                    f"gave factors of the shape {tuple(given.shape)} for {len(step.names)} losses; expected a vector"
                )
            learned = given if given.requires_grad else None
            numbers = given.detach().tolist()
        else:
            try:
                numbers = [float(factor) for factor in given]
            except Exception:  # noqa: BLE001 # an object may raise anything
                raise self._violation(f"gave {shown(given)} as factors; expected a number for each loss") from None
            if len(numbers) != len(step.names):
                raise self._violation(f"gave {len(numbers)} factors for {len(step.names)} losses")
        for name, factor in zip(step.names, numbers, strict=True):
            if not math.isfinite(factor):
                raise self.error(
                    f"gave the factor {factor} for loss {name!r} at step {step.step}, where the losses were "
                    f"{_values(step)}; factors are finite",
                    loss_name=name,
                )
        if self.definition.reduce == "mean":
            means = mean_over_ranks(numbers)
            if learned is not None and means != numbers:
                learned = learned + (learned.new_tensor(means) - learned.detach())
            numbers = means
        return numbers, learned

    def _asked_extra(self, step: Step) -> Tensor | None:
        method = getattr(self._object, "extra", None)
        if method is None:
            return None
        extra = self._asked("extra", method, step)
        if extra is None:
            return None
        if not isinstance(extra, Tensor) or extra.numel() != 1 or extra.is_complex():
            raise self._violation(f"gave {shown(extra)} as extra; expected a scalar tensor, or None")
        return extra.reshape(())

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
            self.balance(names, results, weights, step, epoch, lambda: None)

    def in_graph(self, names: tuple[str, ...], tensors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return factors and what is added to the total, as parts of a graph.

        Args:
            names: The losses, each with a weight that is not 0.
            tensors: The means of their results before weighting, detached: a vector in single precision.
        """
        step = GraphStep(names, tensors)
        factors = self._object.factors(step)
        method = getattr(self._object, "extra", None)
        return factors, None if method is None else method(step)

    def take(self, names: Sequence[str], factors: Sequence[float]) -> None:
        """Hold the factors that a graph has computed."""
        self.factors = {**self.factors, **dict(zip(names, factors, strict=True))}

    # State

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""
        method = getattr(self._object, "state_dict", None)
        own = None if method is None or isinstance(self._object, nn.Module) else self._asked("state_dict", method)
        return {"losses": list(self.names), "factors": dict(self.factors), "step": self._last, "state": own}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        Raises:
            WeightingError: If the weighting cannot load its own part.
        """
        own = state["state"]
        if own is not None:
            method = getattr(self._object, "load_state_dict", None)
            if method is None:
                raise self.error("has no load_state_dict, and the state has data of it")
            self._asked("load_state_dict", method, copy.deepcopy(own))
        self.factors = {name: float(factor) for name, factor in state["factors"].items() if name in self.names}
        self._last = state["step"]
        self._seen = None

    def without(self, names: set[str]) -> None:
        """Factors these losses no longer."""
        self.names = tuple(name for name in self.names if name not in names)
        self.factors = {name: factor for name, factor in self.factors.items() if name not in names}

    # Errors

    def error(self, what: str, loss_name: str = "") -> WeightingError:
        """Make an error about this weighting."""
        return WeightingError(f"weighting {self.label!r} {what}", weighting=self.label, loss_name=loss_name)

    def _violation(self, what: str) -> NectarganError:
        if self.plugin is not None:
            return self.plugin.error(PluginContractError, what)
        return PluginContractError(f"weighting {self.label!r} {what}", group=catalog.WEIGHTINGS, name=self.label)

    def _asked(self, what: str, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except NectarganError:
            raise
        except Exception as error:
            raise self.error(f"failed in {what}: {one_line(error)}") from error

    def _made(self, make: Callable[..., Any]) -> Any:
        params = copy.deepcopy(self.definition.model_dump()["params"])
        try:
            signature = inspect.signature(make)
        except (TypeError, ValueError):
            signature = None  # a builtin; calling it shows whether it takes the params
        if signature is not None:
            try:
                signature.bind(**params)
            except TypeError as error:
                takes = [name for name in signature.parameters if name not in ("args", "kwargs")]
                hints = "".join(did_you_mean(name, takes) for name in params if name not in takes)
                raise self.error(
                    f"does not take these params: {error}; it takes {listed(takes) if takes else 'none'}.{hints}"
                ) from None
        try:
            return make(**params)
        except NectarganError:
            raise
        except Exception as error:
            raise self.error(f"cannot be made with the params {shown(params)}: {one_line(error)}") from error

    def _needed(self) -> str:
        if not callable(getattr(self._object, "factors", None)):
            raise self._violation(
                f"is a {type(self._object).__name__}, which has no method factors(step); see the page on weightings"
            )
        needs = getattr(self._object, "needs", None)
        if needs not in _NEEDS:
            raise self._violation(f"has needs = {shown(needs)}; expected 'values' or 'gradients'")
        return str(needs)

    def _wrt(self, value: object) -> Wrt:
        name = self.definition.wrt or ""
        tensors = tensors_of(value, f"the input {name!r}, the wrt of weighting {self.label!r},")
        if not self._has_looked_at_ranks:
            refuse_static_graph(tensors, self.label)
            self._has_looked_at_ranks = True
        scale = 1.0 if self.scaler is None or not self.scaler.is_enabled() else float(self.scaler.get_scale())
        return Wrt(name, tensors, scale)


def _values(step: Step) -> str:
    return ", ".join(f"{name}: {value:g}" for name, value in zip(step.names, step.values, strict=True))


def _find(definition: Weighting) -> tuple[Callable[..., Any], catalog.Plugin | None]:
    name = definition.name
    if not isinstance(name, str):
        return name, None
    if ":" in name:
        raise WeightingError(
            f"the weighting is the class {name!r} written as text, which does not bring the class back; pass the class "
            "itself, as in Weighting(cls, ...), or publish it as a plugin, and use its name",
            weighting=name,
        )
    term, end = read_term(name)
    if end != len(name):
        raise WeightingError(
            f"a weighting is named by one name, optionally provider/name; got {name!r}", weighting=name
        )
    plugin = catalog.find(catalog.WEIGHTINGS, term.name, term.provider)
    return plugin.load(), plugin


def label_of(definition: Weighting) -> str:
    """Return what a weighting is called where its name is not taken: the name without the provider, or of the class."""
    name = definition.name
    if isinstance(name, str):
        return name.rpartition("/")[2]
    return str(getattr(name, "__name__", type(name).__name__))


def is_state(item: tuple[object, object]) -> bool:
    """Whether a name and a value are what `LossManager.state_dict` says of a weighting."""
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
    )
