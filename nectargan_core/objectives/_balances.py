"""Which weighting balances which losses of an objective: those that its specs bring, and `weightings=` of a caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import UnknownLossError, WeightingError
from nectargan_core.losses import LMLoss, found_by
from nectargan_core.weightings import Balance, Weighting, read_weighting


def balances_of(
    brought: Iterable[Balance],
    losses: Mapping[str, LMLoss],
    weightings: Mapping[str, Weighting | str | None] | None = None,
    prefix: str = "",
) -> list[Balance]:
    """Return what balances the losses of an objective.

    Args:
        brought: What the specs of the objective bring, by the names that they gave their losses.
        losses: The losses under their final names.
        weightings: Weightings by the tag or final name of the losses that each balances; None for none. They replace
            those of the specs that balance one of the same losses.
        prefix: What was put before every name.

    Raises:
        UnknownLossError: If a weighting is for losses that the objective does not have.
        WeightingError: If two weightings are for one loss.
        TypeError: If the weightings are no mapping, or one is neither a `Weighting`, a name nor None.
    """
    given: list[Balance] = []
    replaced: set[str] = set()
    if weightings is not None:
        example = "{'G': Weighting('gradnorm', wrt='last_layer')}"
        for query, weighting in arguments.mapping("weightings", weightings, example).items():
            names = tuple(loss.name for loss in found_by([query], losses.values()))
            if not names:
                known = (*losses, *sorted({tag for loss in losses.values() for tag in loss.tags}))
                raise UnknownLossError(
                    f"a weighting is given for {query!r}, which is the name or tag of no loss of this objective; there "
                    f"are {listed(known)}.{did_you_mean(query, known)}",
                    name=query,
                    known=known,
                )
            replaced.update(names)
            if weighting is not None:
                given.append(Balance(read_weighting(weighting), names, query))
    final = [each._replace(names=tuple(prefix + name for name in each.names), prefix=prefix) for each in brought]
    return checked_balances([balance for balance in final if replaced.isdisjoint(balance.names)] + given)


def checked_balances(balances: list[Balance]) -> list[Balance]:
    """Return what balances losses; raise `WeightingError` where two balance one loss."""
    owners: dict[str, Balance] = {}
    for balance in balances:
        for name in balance.names:
            if name in owners:
                both = f"{owners[name].weighting.name!r} (for {owners[name].query!r}) and {balance.weighting.name!r}"
                raise WeightingError(
                    f"loss {name!r} is balanced by two weightings, {both} (for {balance.query!r}); a loss belongs to "
                    "one weighting at most",
                    loss_name=name,
                )
            owners[name] = balance
    return balances
