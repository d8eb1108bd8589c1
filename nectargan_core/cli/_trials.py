"""Uses a plugin once, as a manager does, so that what does not work is found before a training needs it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from nectargan_core._names import is_name
from nectargan_core.catalog import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS, Plugin
from nectargan_core.errors import NectarganError, SpecError

# Before, at, between and after the ends of the schedule, and within an epoch.
_EPOCHS = (0.0, 1.0, 2.5, 4.0, 6.0)


def try_out(plugin: Plugin, loaded: Callable[..., Any]) -> str:
    """Use a plugin once: build each variant of a spec, evaluate a schedule, balance by a weighting, make an observer.

    Args:
        plugin: The plugin.
        loaded: What it stands for.

    Returns:
        What there is to know about a plugin that works; empty where that is nothing.

    Raises:
        NectarganError: If the plugin does not work; the message says why.
    """
    tries = {SPECS: _build, SCHEDULES: _evaluate, WEIGHTINGS: _balance, OBSERVERS: _observe}
    with warnings.catch_warnings():
        # What a manager warns of is no fault of the plugin.
        warnings.simplefilter("ignore")
        try:
            return tries[plugin.group](_term(plugin), loaded)
        except NectarganError as error:
            if advice := _missing_extra(plugin, error):
                return f"not tried: {advice}"
            raise


def _term(plugin: Plugin) -> str:
    """Return what a user writes for a plugin, with its provider, so that it is this one of several."""
    if not is_name(plugin.name):
        raise SpecError(
            f"the name {plugin.name!r} cannot be written by a user; a name consists of letters, digits, '_', '-' and "
            "'.', and begins with neither '-' nor '.'"
        )
    return f"{plugin.key}/{plugin.name}" if is_name(plugin.key) else plugin.name


def _build(name: str, spec: Callable[..., Any]) -> str:
    from nectargan_core import LossManager
    from nectargan_core.objectives import variants_of

    variants: list[str | None] = list(variants_of(spec) or ())
    if not _required(spec, given=1):
        variants.insert(0, None)
    elif not variants:
        return "not built, since it needs a variant, and which there are is not known"
    for variant in variants:
        # On this device weights are neither downloaded nor read.
        manager = LossManager(device="meta")
        if variant is None:
            manager.init_from_spec(name)
            continue
        try:
            manager.init_from_spec(f"{name}:{variant}")
        except NectarganError as error:
            raise SpecError(f"its variant {variant!r} cannot be built: {error}") from error
    return ""


def _evaluate(name: str, schedule: Callable[..., Any]) -> str:
    from nectargan_core.schedules import Schedule, preview

    # The first two are the schedule and the epoch.
    if required := _required(schedule, given=2):
        return f"not evaluated, since it needs params: {', '.join(required)}"
    # Not every curve goes to 0.
    preview(Schedule(name, start_epoch=1, end_epoch=4, initial_value=1.0, target_value=0.5), _EPOCHS)
    return ""


def _balance(name: str, weighting: Callable[..., Any]) -> str:
    if required := _required(weighting):
        return f"not made, since it needs params: {', '.join(required)}"
    import torch

    from nectargan_core import LossManager
    from nectargan_core.weightings import Weighting

    manager = LossManager()
    # Four, since there are weightings that need more than three.
    for number in range(1, 5):
        manager.register_loss_fn(f"loss_{number}", _Power(number))
    manager.set_weighting(Weighting(name, wrt="y_fake"))
    y_fake = torch.linspace(0.5, 1.5, 4).reshape(2, 2).requires_grad_()
    for epoch in range(2):
        manager.tick(epoch=epoch)
        manager.compute_losses({"y_fake": y_fake, "y": torch.zeros(2, 2)})
    return ""


def _observe(name: str, make: Callable[..., Any]) -> str:
    from nectargan_core import LossManager

    # It is told of nothing, and so opens neither files nor connections.
    LossManager(observers=[name], enable_logging=False).close()
    return ""


class _Power:
    """A loss: the mean of a power of the differences."""

    def __init__(self, exponent: int) -> None:
        self.exponent = exponent

    def __call__(self, y_fake: Any, y: Any) -> Any:
        return ((y_fake - y).abs() ** self.exponent).mean()


def _missing_extra(plugin: Plugin, error: NectarganError) -> str:
    """Return what a plugin says of an extra of its distribution that it needs; empty where that is not the cause."""
    cause = error.__cause__
    names_extra = isinstance(cause, ImportError) and f"{plugin.key}[" in str(cause)
    return str(cause).partition("\n")[0] if names_extra else ""


def _required(function: Callable[..., Any], given: int = 0) -> list[str]:
    """Return the names of the parameters that have to be given; none where that cannot be known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[given:]
    except (TypeError, ValueError):
        return []
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in several]
