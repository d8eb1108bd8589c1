"""An objective as a caller asks for it: a formula with keywords, a file, an `Objective`, or a spec function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import shown
from nectargan_core.config import Config
from nectargan_core.errors import PluginNotFoundError, SpecSyntaxError
from nectargan_core.objectives._adjust import adjust, warn_of_zeros
from nectargan_core.objectives._balances import balances_of
from nectargan_core.objectives._build import FILE_KEYWORDS, KEYWORDS, Built, Spec, build_called, build_named
from nectargan_core.objectives._file import FILE_ENDS
from nectargan_core.objectives._objective import Objective
from nectargan_core.objectives._rebuild import rebuild
from nectargan_core.objectives._renaming import NOTHING_RENAMED, Renaming
from nectargan_core.objectives._terms import term_of_formula
from nectargan_core.schedules import Schedule
from nectargan_core.weightings import Weighting


def build(
    spec: str | Spec | os.PathLike[str] | Objective | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    config: Config,
    totals: tuple[float | None, int | None] = (None, None),
) -> Built:
    """Build an objective as `LossManager.init_from_spec` is asked for it.

    Args:
        spec: A formula, a file or an `Objective`, a spec function, or None for no losses.
        args: Positional arguments for a spec function.
        kwargs: Keyword arguments for it or, with a formula, `KEYWORDS`, and with a file, `FILE_KEYWORDS`.
        config: What specs of a formula are given; it carries the device.
        totals: The length of the run in epochs, and in steps, as far as it is known; what a record is compared with.

    Returns:
        The losses under their final names, and what balances them.

    Raises:
        NectarganError: If the objective cannot be built as asked.
        TypeError: If an argument has the wrong type, or does not belong to this kind of spec.
        ValueError: If the prefix, or the new name of an input, is text that UTF-8 cannot write.
        pydantic.ValidationError: If a weight has the wrong type, or the prefix makes a name that no loss can have.
    """
    if spec is None:
        return Built()
    if isinstance(spec, str):
        advice = "keyword arguments of a spec go into options={'name': {...}}"
        _refuse_others("a formula", args, kwargs, KEYWORDS, advice)
        return _of_formula(spec, config, **kwargs)
    if isinstance(spec, (os.PathLike, Objective)):
        advice = "prefix and rename_inputs stand in the file"
        _refuse_others("a file", args, kwargs, FILE_KEYWORDS, advice)
        objective = spec if isinstance(spec, Objective) else Objective.load(spec)
        return rebuild(objective, config, totals, _of_formula, **kwargs)
    if not callable(spec):
        raise TypeError(
            f"a spec is a formula, a pathlib.Path to a file, an Objective or a function, got {shown(spec)}; give a "
            "formula such as 'pix2pix:extended', or a function that returns losses by name"
        )
    built = build_called(spec, args, kwargs, config)
    warn_of_zeros(built.losses)
    built.balances = balances_of(built.balances, built.losses)
    return built


def _refuse_others(
    what: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], keywords: tuple[str, ...], advice: str
) -> None:
    unknown = [name for name in kwargs if name not in keywords]
    if args or unknown:
        raise TypeError(
            f"with {what}, init_from_spec takes {', '.join(f'{name}=' for name in keywords)}; got "
            f"{', '.join([f'{len(args)} positional'] * bool(args) + unknown)}; {advice}"
        )


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
) -> Built:
    try:
        built = build_named(formula, config, options)
    except (SpecSyntaxError, PluginNotFoundError) as error:
        if looks_like_a_file(formula):
            first, *place = str(error).split("\n")
            hint = f"A string is always a formula; for a file give pathlib.Path({formula!r})."
            error.args = ("\n".join([f"{first} {hint}", *place]),)
        raise
    renaming = NOTHING_RENAMED if rename_inputs is None else Renaming.read(rename_inputs)
    brought = [balance.weighting for balance in built.balances]
    losses = adjust(built.losses, weights, schedules, prefix, renaming, brought)
    warn_of_zeros(losses)
    renamed = [balance._replace(weighting=renaming.weighting(balance.weighting)) for balance in built.balances]
    built.balances = balances_of(renamed, losses, weightings, prefix)
    built.origins = {prefix + name: origin for name, origin in built.origins.items()}
    built.losses = losses
    built.terms = [(term_of_formula(formula, options, prefix, rename_inputs), frozenset(losses))]
    return built


def looks_like_a_file(text: str) -> bool:
    """Whether a string that is given as a formula is probably meant as the path of a file.

    Example:
        >>> looks_like_a_file("runs/objective.toml"), looks_like_a_file("gan:hinge + 100*l1")
        (True, False)
    """
    text = text.strip()
    if text.lower().endswith(FILE_ENDS):
        return True
    try:
        return arguments.path("spec", text).exists() and not text.isidentifier()
    except (TypeError, ValueError, OSError):
        return False
