"""`Losses`, what a spec returns that brings weightings for its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import shown
from nectargan_core.errors import WeightingError
from nectargan_core.weightings._weighting import Weighting


class Losses(dict[str, Any]):
    """Losses by name, as a spec returns them, with the weightings that balance them.

    Args:
        losses: `LMLoss` by name.
        weightings: Weightings, or names of some, by the tag or name of the losses that each balances; those are looked
            for among these losses only.

    Raises:
        TypeError: If the losses or weightings are no mapping, or a weighting is neither a `Weighting` nor a name.

    Example:
        >>> losses = Losses({}, weightings={"G": Weighting("gradnorm", wrt="last_layer")})
        >>> losses.weightings["G"].wrt
        'last_layer'
    """

    def __init__(
        self,
        losses: Mapping[str, Any] = {},
        *,
        weightings: Mapping[str, Weighting | str] | None = None,  # never changed
    ) -> None:
        super().__init__(arguments.mapping("losses", losses, "{'G_L1': LMLoss(...)}"))
        self.weightings = read_weightings(weightings)


def read_weightings(weightings: Mapping[str, Weighting | str] | None) -> dict[str, Weighting]:
    """Return weightings by query; a name stands for a weighting without params.

    Raises:
        TypeError: If it is no mapping from str, or a value is neither a `Weighting` nor a name.
        pydantic.ValidationError: If a name is empty.
    """
    if weightings is None:
        return {}
    given = arguments.mapping("weightings", weightings, "{'G': Weighting('gradnorm', wrt='last_layer')}")
    return {query: read_weighting(weighting) for query, weighting in given.items()}


def read_weighting(weighting: object) -> Weighting:
    """Return a weighting; a name stands for one without params.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(weighting, str):
        return Weighting(str.__str__(weighting))
    if not isinstance(weighting, Weighting):
        made = f"; write Weighting({weighting.__name__})" if isinstance(weighting, type) else ""
        raise TypeError(
            f"a weighting is a Weighting, such as Weighting('gradnorm', wrt='last_layer'), or the name of one, got "
            f"{shown(weighting)}{made}"
        )
    return weighting


def with_wrt(weighting: Weighting, wrt: str | None) -> Weighting:
    """Return a weighting with the `wrt` that is given beside it.

    Raises:
        WeightingError: If it has another one.
        TypeError: If it is no str.
    """
    if wrt is None:
        return weighting
    if not isinstance(wrt, str):
        raise TypeError(
            f"wrt is the name of an input of compute_losses, got {shown(wrt)}; give the tensor or the parameters as an "
            "input, as in compute_losses({..., 'last_layer': network.last.weight}), and wrt='last_layer'"
        )
    if weighting.wrt is not None and weighting.wrt != wrt:
        raise WeightingError(
            f"the weighting {weighting.name!r} has wrt={weighting.wrt!r}, and wrt={wrt!r} is given; give one of them"
        )
    return weighting.model_copy(update={"wrt": wrt})
