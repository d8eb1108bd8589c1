"""The object that gives the factors of a weighting: found, made, checked, and asked with errors that name it."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn

from nectargan_core import _arguments as arguments
from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core._names import is_label, read_term
from nectargan_core.errors import NectarganError, PluginContractError, WeightingError
from nectargan_core.weightings._step import GraphStep, WeightingStep
from nectargan_core.weightings._weighting import Weighting

_NEEDS = ("values", "gradients")


class WeightingObject:
    """The object of a weighting, an instance of the class of a plugin, which gives factors.

    Args:
        definition: Which class it is made of, and with which params.
        label: What the weighting is called in errors.

    Raises:
        PluginError: If no weighting of the name is installed, or what it makes breaks the contract.
        WeightingError: If it does not take the params.
    """

    def __init__(self, definition: Weighting, label: str) -> None:
        self.label = label
        make, self.plugin = _find(definition)
        self.made = self._make(make, copy.deepcopy(definition.model_dump()["params"]))
        self.needs = self._checked_needs()
        self.allows_unreached = bool(getattr(self.made, "allow_unreached", False))
        self.parameters: nn.Module | None = None

    def begin(self, names: Sequence[str]) -> None:
        """Let it prepare for the losses that it will balance; afterwards `parameters` are what it learns."""
        method = getattr(self.made, "begin", None)
        if method is not None:
            self._asked("begin", method, tuple(names))
        is_module = isinstance(self.made, nn.Module)
        parameters = self.made if is_module else getattr(self.made, "parameters", None)
        if parameters is not None and not isinstance(parameters, nn.Module):
            raise self._violation(f"has {shown(parameters)} as parameters, which must be an nn.Module")
        self.parameters = parameters

    def factors(self, step: WeightingStep) -> tuple[list[float], Tensor | None]:
        """Return the factors as numbers, and as a vector with a graph if they are learned.

        Raises:
            WeightingError: If one is not finite, or the object raises.
            PluginContractError: If they are not one number for each loss.
        """
        given = self._asked("factors", self.made.factors, step)
        learned = None
        if isinstance(given, Tensor):
            self._check_vector(given, len(step.names))
            learned = given if given.requires_grad else None
            numbers = [float(factor) for factor in given.detach().tolist()]
        else:
            numbers = self._as_numbers(given)
            if len(numbers) != len(step.names):
                raise self._violation(f"gave {len(numbers)} factors for {len(step.names)} losses")
        if not all(map(math.isfinite, numbers)):
            where = f"at step {step.step}, where the losses were {_values(step)}"
            self.refuse_infinite(step.full_names, numbers, where)
        return numbers, learned

    def refuse_infinite(self, names: Sequence[str], factors: Sequence[float], where: str) -> None:
        """Raise for the first factor that is not finite.

        Raises:
            WeightingError: If there is one.
        """
        for name, factor in zip(names, factors, strict=True):
            if not math.isfinite(factor):
                raise self.error(f"gave the factor {factor} for loss {name!r} {where}; factors are finite", name)

    def added(self, step: WeightingStep) -> Tensor | None:
        """Return what is added to the total, as a scalar; None for nothing."""
        method = getattr(self.made, "extra", None)
        extra = None if method is None else self._asked("extra", method, step)
        return self._as_scalar(extra)

    def in_graph(self, step: GraphStep) -> tuple[Tensor, Tensor | None]:
        """Return factors and what is added to the total, as parts of a compiled graph.

        Raises:
            PluginContractError: If the factors are no vector with one number for each loss, or the other no scalar.
        """
        factors = self.made.factors(step)
        if not isinstance(factors, Tensor):
            raise self._violation(
                f"gave a {type(factors).__name__} as factors inside torch.compile; expected a vector with one number "
                "for each loss, as a tensor"
            )
        self._check_vector(factors, len(step.names))
        method = getattr(self.made, "extra", None)
        return factors, None if method is None else self._as_scalar(method(step))

    def _as_numbers(self, given: Any) -> list[float]:
        several: list[Any] = []
        # Of a set the order is not that of the losses, and a mapping gives its keys.
        if not isinstance(given, (str, bytes, Mapping, Set)):
            try:
                several = list(given)
            except Exception:  # noqa: BLE001 # an object may raise anything
                several = [None]
        if any(isinstance(factor, Tensor) and factor.requires_grad for factor in several):
            raise self._violation(
                "gave several tensors with a graph as factors, which would lose it; expected one vector, as "
                "torch.stack(factors) makes"
            )
        numbers = [number for factor in several if (number := arguments.as_float(factor)) is not None]
        if not several or len(numbers) < len(several):
            raise self._violation(
                f"gave {shown(given)} as factors; expected a number for each loss, in the order of step.names"
            )
        return numbers

    def _check_vector(self, factors: Tensor, count: int) -> None:
        if factors.shape != (count,) or factors.is_complex():
            kind = "complex factors" if factors.is_complex() else "factors"
            raise self._violation(
                f"gave {kind} of the shape {tuple(factors.shape)} for {count} losses; expected a vector of real "
                "numbers, one for each"
            )

    def _as_scalar(self, extra: Any) -> Tensor | None:
        if extra is None:
            return None
        if not isinstance(extra, Tensor) or extra.numel() != 1 or extra.is_complex():
            raise self._violation(f"gave {shown(extra)} as extra; expected a scalar tensor, or None")
        return extra.reshape(())

    def state(self) -> Any:
        """Return a copy of its state; None if it has none, or what it learns is all."""
        method = getattr(self.made, "state_dict", None)
        if method is None or isinstance(self.made, nn.Module):
            return None
        # Copied, since what it goes on with is often what it returns.
        return copy.deepcopy(self._asked("state_dict", method))

    def load_state(self, state: Any) -> None:
        """Go on where a state was taken.

        Raises:
            WeightingError: If it cannot load it.
        """
        method = getattr(self.made, "load_state_dict", None)
        if state is None or isinstance(self.made, nn.Module):
            return
        if method is None:
            raise self.error("has no load_state_dict, and the state has data of it")
        self._asked("load_state_dict", method, copy.deepcopy(state))

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
        except (NectarganError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise self.error(f"failed in {what}: {one_line(error)}") from error

    def _make(self, make: Callable[..., Any], params: dict[str, Any]) -> Any:
        try:
            signature = inspect.signature(make)
        except (TypeError, ValueError):
            signature = None  # a builtin; calling it shows whether it takes the params
        if signature is not None:
            try:
                signature.bind(**params)
            except TypeError as error:
                takes = [each.name for each in signature.parameters.values() if each.kind not in (2, 4)]
                hints = "".join(did_you_mean(name, takes) for name in params if name not in takes)
                if not isinstance(make, type):
                    hints += " A weighting is a class that has a method factors(step)."
                raise self.error(
                    f"does not take these params: {error}; it takes {listed(takes) if takes else 'none'}.{hints}"
                ) from None
        try:
            return make(**params)
        except NectarganError:
            raise
        except Exception as error:
            raise self.error(f"cannot be made with the params {shown(params)}: {one_line(error)}") from error

    def _checked_needs(self) -> str:
        if not callable(getattr(self.made, "factors", None)):
            raise self._violation(f"is a {type(self.made).__name__}, which has no method factors(step)")
        needs = getattr(self.made, "needs", None)
        if needs not in _NEEDS:
            raise self._violation(f"has needs = {shown(needs)}; expected 'values' or 'gradients'")
        return str(needs)


def _values(step: WeightingStep) -> str:
    return ", ".join(f"{name}: {value:g}" for name, value in zip(step.full_names, step.values, strict=True))


def _find(definition: Weighting) -> tuple[Callable[..., Any], catalog.Plugin | None]:
    name = definition.name
    if not isinstance(name, str):
        return name, None
    if is_label(name):
        raise WeightingError(
            f"{name!r} is a class written as text, which does not bring the class back; pass the class itself, as in "
            "Weighting(cls, ...), or publish it as a plugin, and use its name",
            weighting=name,
        )
    term, end = read_term(name, expected="the name of a weighting")
    if end != len(name):
        raise WeightingError(
            f"a weighting is named by one name, optionally provider/name; got {name!r}", weighting=name
        )
    plugin = catalog.find(catalog.WEIGHTINGS, term.name, term.provider)
    return plugin.load(), plugin
