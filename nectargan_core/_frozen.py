"""The base of losses, schedules, weightings and histories: pydantic models that never change once they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeVar

from pydantic import BaseModel

from nectargan_core import _arguments as arguments
from nectargan_core.errors import SnapshotError

_Model = TypeVar("_Model", bound="FrozenModel")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise SnapshotError(
        "losses, schedules, weightings and histories do not change. Make another one with model_copy(update={...}); to "
        "change what a manager computes with, call manager.set_weight(name, weight), set_schedule(name, schedule), "
        "set_weighting(weighting, name), enable or disable"
    )


class FrozenList(list[Any]):
    """A list that refuses every change; copies of it are ordinary lists."""

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


class FrozenDict(dict[str, Any]):
    """A dict that refuses every change; copies of it are ordinary dicts."""

    update = pop = popitem = clear = setdefault = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (dict(self),)


def freeze(value: Any) -> Any:
    """Return a list or dict as one that cannot be changed, and likewise what is in it; anything else as it is."""
    kind = type(value)
    if kind is FrozenList or kind is FrozenDict:
        return value
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList(map(freeze, value))
    return value


class FrozenModel(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """A pydantic model whose fields, and the lists and dicts in them, refuse every change with `SnapshotError`.

    Models are built at their first use (`defer_build`): building them at import would double the time that it takes.
    """

    _uncompared: ClassVar[frozenset[str]] = frozenset()
    """Fields that hold the state of a run, which equality leaves out."""

    def model_post_init(self, context: Any, /) -> None:
        """Freeze lists and dicts, whether the model was validated or constructed."""
        values = self.__dict__
        for name, value in values.items():
            if isinstance(value, (list, dict)):
                values[name] = freeze(value)

    def model_copy(self: _Model, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> _Model:
        """Return a copy, with other values for the fields in `update`, which are validated.

        Raises:
            pydantic.ValidationError: If a value in `update` has the wrong type.
            TypeError: If `update` is no mapping from the names of fields.
        """
        given = {} if update is None else arguments.mapping("update", update, "{'end_epoch': 20}")
        if not given:
            return super().model_copy(deep=deep)
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in self._uncompared}
        made = type(self)(**{**values, **given})
        # A field that was left to its default, or filled in by a loss, still counts as not set.
        made.model_fields_set.intersection_update(self.model_fields_set | given.keys())
        return made

    def __eq__(self, other: object) -> bool:
        # pydantic would compare all fields, and `==` of two tensors is a tensor.
        if type(self) is not type(other):
            return NotImplemented
        fields = (name for name in type(self).model_fields if name not in self._uncompared)
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    # Values may hold functions, lists and dicts, which have no hash.
    __hash__ = None  # type: ignore[assignment] # object declares it as a method

    def __setattr__(self, name: str, value: Any) -> None:
        _refuse()

    def __delattr__(self, name: str) -> None:
        _refuse()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.model_post_init(None)

    def __deepcopy__(self: _Model, memo: dict[int, Any] | None = None) -> _Model:
        copy = super().__deepcopy__(memo)
        copy.model_post_init(None)
        return copy
