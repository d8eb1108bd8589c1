"""A loss: a named function with a weight or a schedule, tags, and the inputs that it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from nectargan_core.config import ConfiguredWeight
from nectargan_core.history import LMHistory
from nectargan_core.schedule import Schedule
from nectargan_core.snapshot import Freezable


def _keep_origin(value: Any, handler: ValidatorFunctionWrapHandler) -> float:
    weight: float = handler(value)
    return value if isinstance(value, ConfiguredWeight) else weight


def _never_run() -> torch.Tensor:
    return torch.tensor(float("nan"))


class LMLoss(Freezable):
    """A named loss function with its weight or schedule, tags and inputs.

    Every loss owns its schedule and tags: what is passed in is copied, except the function.

    Args:
        name: Name of the loss, unique in its manager; not empty, without `/`.
        function: An `nn.Module` or any callable that returns a real-valued tensor: a scalar, or a map of any
            shape, of which the mean counts.
        loss_weight: What the result is multiplied by. A schedule with an `initial_value` replaces it.
        schedule: How the weight changes over the epochs; `Schedule()` for not at all. An end that it leaves
            out is `loss_weight`.
        tags: Names to find this loss by, together with others.
        inputs: What the function reads, in the order of its parameters, or a mapping from parameter to name.
            The names in use: `x` (source image), `y` (target), `y_fake` (generated), `pred_real` and
            `pred_fake` (what the discriminator says), `mask`; plugins add their own.
        skip_when_zero: Whether the function is left uncalled while the weight is 0.
        last_loss_map: In a snapshot, the last weighted result, detached; nan for a loss that has not run.
        history: In a snapshot, the records that are in memory.

    Raises:
        pydantic.ValidationError: If a field has the wrong type, or `loss_weight` contradicts the schedule's
            `initial_value`.

    Example:
        >>> l1 = LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
        >>> l1.schedule.current_value
        100.0
        >>> decay = Schedule(start_epoch=100, end_epoch=200, target_value=0.0)
        >>> LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=100.0, schedule=decay).schedule.initial_value
        100.0
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

    _uncompared: ClassVar[frozenset[str]] = frozenset({"last_loss_map", "history"})

    name: str = Field(min_length=1)
    function: Callable[..., Any]
    loss_weight: Annotated[FiniteFloat, WrapValidator(_keep_origin)] = 1.0
    schedule: Schedule = Field(default_factory=Schedule)
    last_loss_map: torch.Tensor = Field(default_factory=_never_run, repr=False)
    history: LMHistory = Field(default_factory=LMHistory, repr=False)
    tags: list[str] = Field(default_factory=list)
    inputs: tuple[str, ...] | dict[str, str] = ("y_fake", "y")
    skip_when_zero: bool = True

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

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs_are_several(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"inputs is a tuple of names; write ({value!r},)")
        return value

    @model_validator(mode="after")
    def _one_weight(self) -> LMLoss:
        schedule, weight = self.schedule, self.loss_weight
        if schedule.is_scheduled:
            initial = schedule.initial_value
            if schedule.gives("initial_value") and "loss_weight" in self.model_fields_set and initial != weight:
                raise ValueError(
                    f"loss {self.name!r} was given the weight {weight:g} and a schedule that begins at {initial:g}; "
                    "give one of them (a schedule without initial_value begins at the weight)"
                )
            if None in (initial, schedule.target_value) or initial != weight:
                schedule = schedule.with_weight(weight)
            # Set past the validation of assignments, which would count the weight as one that was given.
            self.__dict__.update(schedule=schedule.model_copy(), loss_weight=schedule.initial_value)
        else:
            self.__dict__["schedule"] = schedule.with_weight(weight)
        return self
