"""`Losses`, what a spec returns that brings weightings for its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core.weightings._weighting import Weighting, read_weighting


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
        losses: Mapping[str, Any] = {},  # never changed
        *,
        weightings: Mapping[str, Weighting | str] | None = None,
    ) -> None:
        super().__init__(arguments.mapping("losses", losses, "{'G_L1': LMLoss(...)}"))
        example = "{'G': Weighting('gradnorm', wrt='last_layer')}"
        given = arguments.mapping("weightings", {} if weightings is None else weightings, example)
        self.weightings = {query: read_weighting(weighting) for query, weighting in given.items()}
