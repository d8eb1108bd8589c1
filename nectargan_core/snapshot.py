"""Models that can be frozen: what a manager hands out is read, copied and compared, never silently changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr

from nectargan_core.errors import SnapshotError

_Model = TypeVar("_Model", bound="Freezable")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise SnapshotError(
        "this is a snapshot of a registered loss, and changing it would change nothing; "
        "use manager.set_weight(name, weight), set_schedule(name, schedule), enable or disable"
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


def _frozen(value: Any) -> Any:
    if isinstance(value, Freezable):
        return value.frozen()
    if isinstance(value, Mapping):
        return FrozenDict({key: _frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList(_frozen(item) for item in value)
    return value


class Freezable(BaseModel):
    """A pydantic model of which `frozen()` gives a copy that refuses to be changed, all the way down."""

    # Built at the first use, which spares those who only import the package half the time that it takes.
    model_config = ConfigDict(defer_build=True)

    _uncompared: ClassVar[frozenset[str]] = frozenset()
    """Fields that are state of a run, and no part of equality."""

    _is_frozen: bool = PrivateAttr(default=False)

    def frozen(self: _Model) -> _Model:
        """Return a copy that raises `SnapshotError` when a field of it, or of what it holds, is set."""
        values = {name: _frozen(value) for name, value in self.__dict__.items()}
        copy = cast("_Model", type(self).model_construct(_fields_set=set(self.model_fields_set), **values))
        copy._is_frozen = True
        return copy

    def __eq__(self, other: object) -> bool:
        # Not pydantic's, to which a frozen copy is never equal to what it is a copy of, and which compares tensors.
        if type(self) is not type(other):
            return NotImplemented
        fields = (name for name in type(self).model_fields if name not in self._uncompared)
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    # As for every mutable model: equality without a hash.
    __hash__ = None  # type: ignore[assignment] # object declares it as a method

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_is_frozen" and self._is_frozen:
            _refuse()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_frozen:
            _refuse()
        super().__delattr__(name)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._is_frozen = False

    def __copy__(self: _Model) -> _Model:
        copy = super().__copy__()
        copy._is_frozen = False
        return copy

    def __deepcopy__(self: _Model, memo: dict[int, Any] | None = None) -> _Model:
        copy = super().__deepcopy__(memo)
        copy._is_frozen = False
        return copy
