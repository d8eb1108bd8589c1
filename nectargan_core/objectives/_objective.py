"""An objective as a caller asks for it: by a formula and its keywords, or by a spec function and its arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nectargan_core._messages import name_of, shown
from nectargan_core.config import Config
from nectargan_core.objectives._adjust import adjust, warn_of_zeros
from nectargan_core.objectives._balances import balances_of
from nectargan_core.objectives._build import KEYWORDS, Objective, Spec, build_called, build_named
from nectargan_core.objectives._renaming import NOTHING_RENAMED, Renaming
from nectargan_core.schedules import Schedule
from nectargan_core.weightings import Weighting


def build(spec: str | Spec | None, args: tuple[Any, ...], kwargs: dict[str, Any], config: Config) -> Objective:
    """Build an objective as `LossManager.init_from_spec` is asked for it.

    Args:
        spec: A formula, or a spec function, or None for no losses.
        args: Positional arguments for a spec function.
        kwargs: Keyword arguments for it or, with a formula, `KEYWORDS`.
        config: What specs of a formula are given; it carries the device.

    Returns:
        The losses under their final names, and what balances them.

    Raises:
        NectarganError: If the objective cannot be built as asked.
        TypeError: If an argument has the wrong type, or does not belong to this kind of spec.
        ValueError: If the prefix, or the new name of an input, is text that UTF-8 cannot write.
        pydantic.ValidationError: If a weight has the wrong type, or the prefix makes a name that no loss can have.
    """
    if spec is None:
        return Objective()
    if isinstance(spec, str):
        unknown = [name for name in kwargs if name not in KEYWORDS]
        if args or unknown:
            raise TypeError(
                f"with a formula, init_from_spec takes {', '.join(f'{name}=' for name in KEYWORDS)}; got "
                f"{', '.join([f'{len(args)} positional'] * bool(args) + unknown)}; "
                "keyword arguments of a spec go into options={'name': {...}}"
            )
        return _of_formula(spec, config, **kwargs)
    if not callable(spec):
        file = "; objectives are not read from files" if isinstance(spec, os.PathLike) else ""
        raise TypeError(
            f"a spec is a formula or a function, got {shown(spec)}{file}; give a formula such as "
            "'pix2pix:extended', or a function that returns losses by name"
        )
    built = build_called(spec, args, kwargs, config)
    warn_of_zeros(built.losses)
    return replace(built, name=name_of(spec), balances=balances_of(built.balances, built.losses))


def _of_formula(
    formula: str,
    config: Config,
    *,
    weights: Mapping[str, float] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    weightings: Mapping[str, Weighting | str | None] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    prefix: str = "",
    rename_inputs: Mapping[str, str | Mapping[str, str]] | None = None,
) -> Objective:
    built = build_named(formula, config, options)
    renaming = NOTHING_RENAMED if rename_inputs is None else Renaming.read(rename_inputs)
    brought = [balance.weighting for balance in built.balances]
    losses = adjust(built.losses, weights, schedules, prefix, renaming, brought)
    warn_of_zeros(losses)
    renamed = [balance._replace(weighting=renaming.weighting(balance.weighting)) for balance in built.balances]
    balances = balances_of(renamed, losses, weightings, prefix)
    return replace(built, name=formula, losses=losses, balances=balances)
