"""`LMLoss`, the definition of a loss: a named function with a weight or a schedule, tags, and the inputs it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import (
    Field,
    FiniteFloat,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from nectargan_core import _arguments as arguments
from nectargan_core._frozen import FrozenModel
from nectargan_core._messages import listed, shown
from nectargan_core.config import ConfiguredWeight
from nectargan_core.errors import ScheduleError
from nectargan_core.history import LMHistory
from nectargan_core.schedules import Schedule

# pydantic would decode bytes.
_Name = Annotated[str, Field(strict=True)]


def _keep_origin(value: Any, handler: ValidatorFunctionWrapHandler) -> float:
    if isinstance(value, torch.Tensor) and value.requires_grad:
        raise ValueError(
            "a weight is a number, and this tensor requires a gradient, which a number would lose; to learn a weight, "
            "make it a parameter of a loss that is a module, and give manager.modules() to the optimizer"
        )
    weight: float = handler(value)
    return value if isinstance(value, ConfiguredWeight) else weight


def _never_run() -> torch.Tensor:
    return torch.tensor(float("nan"))


# These do not change, so all losses can share one.
@cache
def _unscheduled() -> Schedule:
    return Schedule()


@cache
def _no_history() -> LMHistory:
    return LMHistory()


class LMLoss(FrozenModel, frozen=True, arbitrary_types_allowed=True):
    """A named loss function with its weight or schedule, tags and inputs.

    A loss does not change once it is made: `model_copy(update={...})` makes another, and the manager that it is
    registered with has `set_weight` and `set_schedule`. What is passed in is copied, except the function.

    Args:
        name: Name of the loss, unique in its manager; not empty, without `/`.
        function: An `nn.Module` or any callable that returns a real-valued tensor: a scalar, or a map of any
            shape, of which the mean counts. Or a dict of such tensors by name: the loss is then the sum of their means,
            and each is recorded beside it as a component.
        loss_weight: What the result is multiplied by. A schedule with an `initial_value` replaces it.
        schedule: How the weight changes over the epochs; `Schedule()` for not at all. An end that it leaves
            out is `loss_weight`.
        tags: Names to find this loss by, together with others.
        inputs: What the function reads, in the order of its parameters, or a mapping from parameter to name.
            The names in use: `x` (source image), `y` (target), `y_fake` (generated), `pred_real` and
            `pred_fake` (what the discriminator says), `mask`; plugins add their own.
        skip_when_zero: Whether the function is left uncalled while the weight is 0.
        as_is: Inputs that are passed as they are given, also where a function without arguments would be called for
            its value; each is one of `inputs`.
        ranges: The least and the greatest value that an input may have, by its name, such as `{"y": (-1.0, 1.0)}`, or
            `"logits"` for scores without bounds; each is one of `inputs`. A manager looks at the values once, when the
            loss is first computed, and warns if they cannot be in the range, or are probabilities and no logits.
        version: An integer of at least 1 that the author raises when the loss of this name gives other numbers than
            before with the same arguments; part of the fingerprint of an objective.
        last_loss_map: Where a manager hands out the loss: the last weighted result, detached; nan for a loss that
            has not run.
        history: Where a manager hands out the loss: the records that are in memory.

    Raises:
        SnapshotError: If a field is set.
        pydantic.ValidationError: If a field has the wrong type.
        ScheduleError: If `loss_weight` contradicts the schedule's `initial_value`.

    Example:
        >>> l1 = LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
        >>> l1.schedule.current_value
        100.0
        >>> l1.model_copy(update={"loss_weight": 50.0}).loss_weight
        50.0
        >>> decay = Schedule(start_epoch=100, end_epoch=200, target_value=0.0)
        >>> LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=100.0, schedule=decay).schedule.initial_value
        100.0
    """

    _uncompared: ClassVar[frozenset[str]] = frozenset({"last_loss_map", "history"})

    name: _Name = Field(min_length=1)
    function: Callable[..., Any]
    loss_weight: Annotated[FiniteFloat, WrapValidator(_keep_origin)] = 1.0
    schedule: Schedule = Field(default_factory=_unscheduled)
    last_loss_map: torch.Tensor = Field(default_factory=_never_run, repr=False)
    history: LMHistory = Field(default_factory=_no_history, repr=False)
    tags: list[_Name] = Field(default_factory=list)
    inputs: tuple[_Name, ...] | dict[_Name, _Name] = ("y_fake", "y")
    skip_when_zero: bool = True
    as_is: tuple[_Name, ...] = ()
    ranges: dict[_Name, tuple[FiniteFloat, FiniteFloat] | Literal["logits"]] = Field(default_factory=dict)
    version: Annotated[int, Field(strict=True, ge=1, le=2**53)] = 1

    # Type checkers see the arguments that pydantic gives `__init__`.
    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)
            # Here and not in a validator: pydantic would replace the error by one of its own.
            given = "loss_weight" in self.model_fields_set
            weight, schedule = agreed_weight(self.name, self.loss_weight, self.schedule, given=given)
            self.__dict__.update(loss_weight=weight, schedule=schedule)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> LMLoss:
        """Return a copy, with other values for the fields in `update`, which are validated.

        A schedule in `update` replaces the weight of this loss; an end that it leaves out is that weight. A weight in
        `update` also replaces the `factor` of the schedule that this loss has.

        Raises:
            pydantic.ValidationError: If a value in `update` has the wrong type.
            ScheduleError: If a weight in `update` contradicts the schedule's `initial_value`.
            TypeError: If `update` is no mapping from the names of fields.
        """
        if update is None:
            return super().model_copy(deep=deep)
        update = arguments.mapping("update", update, "{'loss_weight': 10.0}")
        schedule = update.get("schedule")
        if isinstance(schedule, Schedule) and "loss_weight" not in update:
            weight, schedule = agreed_weight(self.name, self.loss_weight, schedule, given=False)
            update = {**update, "loss_weight": weight, "schedule": schedule}
        elif "loss_weight" in update and "schedule" not in update and self.schedule.factor != 1.0:
            update = {**update, "schedule": self.schedule.model_copy(update={"factor": 1.0})}
        return super().model_copy(update=update)

    @field_validator("name")
    @classmethod
    def _no_slash(cls, value: str) -> str:
        if "/" in value:
            raise ValueError(f"a loss name may not contain '/', which stands between a split and a loss: {value!r}")
        return value

    @field_validator("function")
    @classmethod
    def _no_class(cls, value: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            raise ValueError(f"{value.__name__} is a class of loss functions; make one of it: {value.__name__}()")
        return value

    @field_validator("tags", mode="before")
    @classmethod
    def _tags_are_several(cls, value: Any) -> Any:
        return list(value) if isinstance(value, (tuple, set, frozenset)) else value

    @field_validator("inputs", "as_is", mode="before")
    @classmethod
    def _inputs_are_several(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            raise ValueError(f"{info.field_name} is a tuple of names; write ({shown(value)},)")
        return value

    @field_validator("ranges")
    @classmethod
    def _ranges_are_not_empty(
        cls, value: dict[str, tuple[float, float] | Literal["logits"]]
    ) -> dict[str, tuple[float, float] | Literal["logits"]]:
        for name, range_ in value.items():
            if range_ != "logits" and not range_[0] < range_[1]:
                raise ValueError(f"the range of {name!r} is (low, high) with low < high, not {range_}")
        return value

    @model_validator(mode="after")
    def _what_is_named_is_read(self) -> LMLoss:
        reads = tuple(self.inputs.values() if isinstance(self.inputs, dict) else self.inputs)
        for field in ("as_is", "ranges"):
            for name in getattr(self, field):
                if name not in reads:
                    raise ValueError(
                        f"{field} names the input {name!r}, which this loss does not read; it reads {listed(reads)}"
                    )
        return self


def agreed_weight(name: str, weight: float, schedule: Schedule, *, given: bool) -> tuple[float, Schedule]:
    """Return the weight and the schedule of a loss so that they say the same.

    Args:
        name: The loss, for the error.
        weight: The weight.
        schedule: The schedule. An end that has no value yet becomes the weight.
        given: Whether the weight was given and not left to its default. Each end that was not given then becomes the
            weight, and an `initial_value` that was given must not differ from it.

    Returns:
        The value that the schedule begins with, its factor included, or `weight` where nothing is scheduled; and the
        schedule with its ends and `current_value` filled in.

    Raises:
        ScheduleError: If the weight that was given contradicts the `initial_value` that was given.

    Example:
        >>> agreed_weight("G_L1", 100.0, Schedule(end=10, target_value=0.0), given=True)[1].initial_value
        100.0
    """
    if not schedule.is_scheduled:
        return weight, schedule.with_weight(weight)
    begins = schedule._first_value
    if given and schedule.gives("initial_value") and begins != weight:
        raise ScheduleError(
            f"loss {name!r} is given the weight {weight:g} and a schedule that begins at {begins:g}; "
            "give one of them (a schedule without initial_value begins at the weight)"
        )
    if None in (schedule.initial_value, schedule.target_value) or (given and begins != weight):
        schedule = schedule.with_weight(weight)
    else:
        schedule = schedule._with_current_value(begins)
    return schedule.current_value, schedule


def check_schedule(name: str, schedule: object) -> None:
    """Raise `TypeError` for what is given as the schedule of a loss and is no `Schedule`."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"the schedule of loss {name!r} must be a Schedule, such as Schedule('linear', start=0, end=10, "
            f"target_value=0.0), got {shown(schedule)}"
        )
