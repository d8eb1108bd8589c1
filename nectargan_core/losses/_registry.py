"""The registry: the losses of a manager by name, what is made for each query, and the errors of what is not found."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from nectargan_core._messages import did_you_mean, listed, shown
from nectargan_core.errors import DuplicateLossError, UnknownLossError
from nectargan_core.history import Recorder
from nectargan_core.losses._balanced import Balanced
from nectargan_core.losses._bound import BoundLoss
from nectargan_core.losses._graph_weights import Attributes, Group, Weights, weightings_in
from nectargan_core.losses._module import LossModules, module_of
from nectargan_core.losses._plan import Plan
from nectargan_core.losses._query import Query, checked, found_by
from nectargan_core.weightings import BoundWeighting

_is_compiling = torch.compiler.is_compiling


# By a key, for the function below.
_KEYS = itertools.count()
_REGISTRIES: weakref.WeakValueDictionary[str, Registry] = weakref.WeakValueDictionary()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # as it is in torch
def _group_of(registry: str, query: Query) -> str | None:
    """Return the key of the group of a query, when a graph is made; None if nothing matches."""
    return _REGISTRIES[registry].add_group(query)


class Registry:
    """The losses of one manager, in the order of their registration."""

    def __init__(self) -> None:
        # Read directly on the hot path, where a method call would cost too much.
        self.losses: dict[str, BoundLoss] = {}
        # How a query is computed, until something changes. Then another dict takes the place of this one, so that a
        # plan which is made meanwhile is not kept.
        self.plans: dict[str | tuple[str, ...] | None, Plan] = {}
        # What weightings are called; and what any was ever called, which they may have recorded scalars under.
        self.labels: frozenset[str] = frozenset()
        self.former_labels: frozenset[str] = frozenset()
        # What each query found, until the losses change.
        self._selections: dict[str | tuple[str, ...] | None, tuple[BoundLoss, ...]] = {}
        # The weights of the losses that compiled graphs read.
        self.weights = Weights()
        # What compiled graphs compute for a query, by a key.
        self._groups = Attributes()
        self._queries: dict[Query, str] = {}
        # Weak, since the weights belong to this.
        regroup = weakref.WeakMethod(self._regroup)
        self.weights.on_clock = lambda: method() if (method := regroup()) is not None else None
        self.key = f"{next(_KEYS)}"
        _REGISTRIES[self.key] = self

    def __contains__(self, name: object) -> bool:
        return name in self.losses

    def __iter__(self) -> Iterator[BoundLoss]:
        return iter(self.losses.values())

    def __getitem__(self, name: str) -> BoundLoss:
        """Return a loss by its name.

        Raises:
            UnknownLossError: If no loss of this name is registered.
        """
        try:
            return self.losses[name]
        except Exception:  # noqa: BLE001 # KeyError, or what the hash of an object raises
            raise self.unknown(name) from None

    def add(self, losses: Iterable[BoundLoss], *, replace: bool) -> None:
        """Add losses, or replace all there are by them."""
        added = {loss.name: loss for loss in losses}
        self.losses = added if replace else {**self.losses, **added}
        self.labels = frozenset(weighting.label for weighting in self.weightings)
        self._selections.clear()
        self.weights.take(list(self.losses.values()))
        self.changed()

    def remove(self, names: Container[str]) -> None:
        """Remove the losses of these names."""
        self.add([loss for loss in self if loss.name not in names], replace=True)

    def clear(self) -> None:
        """Let go of all losses, since the manager is gone."""
        self._queries.clear()
        self.add((), replace=True)
        self._groups.__dict__.clear()

    def select(self, query: Query) -> tuple[BoundLoss, ...]:
        """Return the losses that have the name or tag, or one of several; none where nothing matches.

        Raises:
            TypeError: If it is no query.
        """
        if query is not None and type(query) is not str:
            query = checked(query)
        try:
            return self._selections[query]
        except KeyError:
            wanted = {query} if isinstance(query, str) else query
        found = tuple(self.losses.values()) if wanted is None else found_by(wanted, self.losses.values())
        # While a graph is compiled, a change here would make its guards fail, and compile it again.
        if not _is_compiling():
            self._selections[query] = found
        return found

    def group(self, query: Query) -> Group:
        """Return what a compiled graph computes for a query.

        Raises:
            UnknownLossError: If nothing matches.
            TypeError: If it is no query.
        """
        if query is not None and type(query) is not str:
            query = checked(query)
        key = _group_of(self.key, query)
        if key is None:
            raise self._nothing_found(query)
        group: Group = getattr(self._groups, key)
        return group

    def add_group(self, query: Query) -> str | None:
        """Return the key of the group of a query, which is made if it is not there; None if nothing matches."""
        key = self._queries.setdefault(query, f"query_{len(self._queries)}")
        self._group(key, query)
        return key if hasattr(self._groups, key) else None

    def _group(self, key: str, query: Query) -> None:
        """Let the group of a query have the losses that it finds now; it stays the same where nothing has changed."""
        losses = self.select(query)
        if not losses:
            self._groups.__dict__.pop(key, None)
            return
        there, group = getattr(self._groups, key, None), Group(losses, self.losses.values())
        if there is None or not there.is_like(group):
            setattr(self._groups, key, group)

    def find(self, query: Query) -> tuple[BoundLoss, ...]:
        """Return what `select` does, at least one loss.

        Raises:
            UnknownLossError: If nothing matches.
            TypeError: If it is no query.
        """
        if query is not None and type(query) is not str:
            query = checked(query)
        found = self.select(query)
        if not found:
            raise self._nothing_found(query)
        return found

    def plan(self, query: Query, recorder: Recorder) -> Plan:
        """Return how the losses that `find` returns are computed.

        Raises:
            UnknownLossError: If nothing matches.
            TypeError: If it is no query.
        """
        if query is not None and type(query) is not str:
            query = checked(query)
        plans = self.plans
        plan = plans.get(query)
        if plan is None:
            losses = self.find(query)
            plan = plans[query] = Plan(losses, recorder, self._balanced(losses))
        return plan

    def changed(self) -> None:
        """Let plans be made anew, and compiled graphs have other weights, since losses or weights are others."""
        self.plans = {}
        self._regroup()
        self.weights.refresh()

    def _regroup(self) -> None:
        """Let compiled graphs find other groups, where these have changed."""
        for query, key in self._queries.items():
            self._group(key, query)

    # Weightings

    @property
    def weightings(self) -> list[BoundWeighting]:
        """The weightings, in the order of the losses that they balance."""
        return weightings_in(self)

    def balance(self, weighting: BoundWeighting | None, losses: Iterable[BoundLoss]) -> None:
        """Let a weighting balance losses from now on; None lets nothing balance them."""
        for loss in losses:
            loss.balance_by(weighting)
        self.labels = frozenset(each.label for each in self.weightings)
        self.former_labels |= self.labels

    def _balanced(self, losses: Sequence[BoundLoss]) -> list[Balanced]:
        """Return for each weighting the losses of a plan that it balances."""
        return [
            Balanced(weighting, losses, [loss for loss in self if loss.weighting is weighting and loss not in losses])
            for weighting in weightings_in(losses)
        ]

    # Modules and names

    def modules(self) -> LossModules:
        """Return the losses that are modules, or are made of one, and what weightings learn, under their names."""
        modules: dict[str, nn.Module] = {}
        for loss in self:
            module = module_of(loss.function)
            if module is not None:
                modules[loss.name] = module
        for weighting in self.weightings:
            if weighting.parameters is not None:
                modules[weighting.label] = weighting.parameters
        return LossModules(modules)

    def refuse_duplicates(
        self, names: Iterable[str], scalars: Mapping[str, object], components: Mapping[str, str | None]
    ) -> None:
        """Raise `DuplicateLossError` for a name that is taken by a loss, or by what was recorded beside one.

        Args:
            names: The names of new losses.
            scalars: The scalars that were recorded, by name.
            components: The losses that components are of, by what these are recorded as.
        """
        for name in names:
            if name in self.losses:
                raise DuplicateLossError(
                    f"loss {name!r} is registered already; choose another name, use set_weight and set_schedule to "
                    "change the one there is, or unregister it first",
                    name=name,
                )
            if name in self.labels:
                raise DuplicateLossError(f"a weighting is named {name!r}; choose another name", name=name)
            if name in scalars:
                raise DuplicateLossError(f"{name!r} is recorded as a scalar; choose another name", name=name)
            self.refuse_component(name, components)

    def refuse_component(self, name: str, components: Mapping[str, str | None]) -> None:
        """Raise `DuplicateLossError` for the name that a component of a loss is recorded as."""
        owner = components.get(name)
        if owner in self.losses:
            raise DuplicateLossError(
                f"{name!r} is recorded as a component of loss {owner!r}; choose another name", name=name
            )

    def unknown(self, name: object) -> UnknownLossError | TypeError:
        """Make the error that no loss has a name, with the names that come close, or that it is no name at all."""
        if not isinstance(name, str):
            return TypeError(f"the name of a loss is a str, got {shown(name)}")
        name = str.__str__(name)
        known = tuple(self.losses)
        there = f"registered are {listed(known)}" if known else "none is registered; call init_from_spec first"
        return UnknownLossError(
            f"no loss is named {name!r}; {there}.{did_you_mean(name, known)}", name=name, known=known
        )

    def _nothing_found(self, query: Query) -> UnknownLossError:
        if not self.losses:
            return UnknownLossError("no loss is registered; call init_from_spec or register_loss_fn first")
        asked = [] if query is None else [query] if isinstance(query, str) else list(query)
        tags = sorted({tag for loss in self for tag in loss.tags})
        known = (*self.losses, *tags)
        hints = "".join(did_you_mean(one, known) for one in asked)
        return UnknownLossError(
            f"no loss has the name or tag {' or '.join(map(repr, asked)) or '(none given)'}; there are the losses "
            f"{listed(self.losses)} and the tags {listed(tags)}.{hints}",
            name=", ".join(asked),
            known=known,
        )
