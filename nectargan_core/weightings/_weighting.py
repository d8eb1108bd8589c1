"""`Weighting`, the definition: which weighting balances losses, with which parameters, how often and by which input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from nectargan_core import _arguments as arguments
from nectargan_core._frozen import FrozenModel
from nectargan_core._messages import shown
from nectargan_core._names import label_of
from nectargan_core._params import plain_params
from nectargan_core.errors import WeightingError

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    class _Definition(TypedDict, total=False):
        """The keyword arguments of `Weighting`, for type checkers."""

        params: dict[str, Any]
        every: int
        wrt: str | None
        reduce: Literal["mean"] | None


class Weighting(FrozenModel, frozen=True):
    """Which weighting balances losses, and with which parameters.

    A definition, like `Schedule`: it does not change once it is made, and `model_copy(update={...})` makes another.
    `LossManager.set_weighting` puts it to work.

    Args:
        name: The name of an installed weighting (`"gradnorm"`, `"acme/gradnorm"`), or a class, or anything that gives
            one when it is called with the params. In text a class is written as a label (`"balance:GradNorm"`), which
            does not bring the class back.
        params: Keyword arguments for the class: what JSON can hold.
        every: In how many ticks, at least 1, factors change once.
        wrt: The input of `compute_losses` that gradients are taken with respect to: its name. None: none, or the one
            that `set_weighting` is given.
        reduce: `"mean"` applies the mean of the factors of all ranks of a distributed run, so that the ranks agree.
            None: each rank applies its own.

    Raises:
        SnapshotError: If a field is set.
        pydantic.ValidationError: If a field has the wrong type, or `params` cannot be written as JSON.

    Example:
        >>> weighting = Weighting("gradnorm", params={"alpha": 0.5}, every=10, wrt="last_layer")
        >>> Weighting.model_validate_json(weighting.model_dump_json()) == weighting
        True
    """

    name: Annotated[str, Field(strict=True, min_length=1)] | Callable[..., Any]
    params: dict[str, Any] = Field(default_factory=dict)
    every: Annotated[int, Field(strict=True, ge=1, le=2**53)] = 1
    wrt: Annotated[str, Field(strict=True, min_length=1)] | None = None
    reduce: Literal["mean"] | None = None

    def __init__(self, name: str | Callable[..., Any], **definition: Unpack[_Definition]) -> None:
        # pydantic's mypy plugin lets a base class without fields take no arguments.
        super().__init__(name=name, **definition)  # type: ignore[call-arg,misc] # see above

    @field_validator("name", "wrt")
    @classmethod
    def _names_can_be_written(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not arguments.is_unicode(value):
            raise ValueError(f"the {info.field_name} of a weighting is text that UTF-8 can write, got {shown(value)}")
        return value

    @field_validator("params")
    @classmethod
    def _params_are_plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        return plain_params(value)

    @field_serializer("name")
    def _write_class_as_label(self, value: str | Callable[..., Any]) -> str:
        return value if isinstance(value, str) else label_of(value)


def read_weighting(weighting: object, wrt: object = None) -> Weighting:
    """Return a weighting, with the `wrt` that is given beside it; a name stands for one without params.

    Raises:
        WeightingError: If it has another `wrt`.
        TypeError: If it is neither a weighting nor a name, or the `wrt` is no str.
        pydantic.ValidationError: If the name or `wrt` is empty.
    """
    if isinstance(weighting, str):
        weighting = Weighting(str.__str__(weighting))
    if not isinstance(weighting, Weighting):
        made = f"; write Weighting({weighting.__name__})" if isinstance(weighting, type) else ""
        raise TypeError(
            f"a weighting is a Weighting, such as Weighting('gradnorm', wrt='last_layer'), or the name of one, got "
            f"{shown(weighting)}{made}"
        )
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
