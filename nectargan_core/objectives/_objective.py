"""`Objective`: an objective as data, both as a person writes it in a file and as a run records it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from nectargan_core import _arguments as arguments
from nectargan_core._frozen import FrozenModel
from nectargan_core._messages import listed, shown
from nectargan_core._params import plain_params
from nectargan_core.errors import NectarganError, ObjectiveError
from nectargan_core.objectives._differences import Difference, differences
from nectargan_core.objectives._file import invalid, key_of, located, read_data, write_data
from nectargan_core.objectives._html import as_html
from nectargan_core.schedules import Schedule, functions_in, schedules_in
from nectargan_core.weightings import Weighting

_Text = Annotated[str, Field(strict=True, min_length=1)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Whole = Annotated[int, Field(strict=True, ge=1, le=2**53)]
_Flag = Annotated[bool, Field(strict=True)]
_Renames = dict[_Text, _Text]

_TERM = ("formula", "prefix", "rename_inputs", "without")


class _Part(FrozenModel, frozen=True):
    """A part of an objective: all text in it can be written to a file."""

    recorded: ClassVar[frozenset[str]] = frozenset()
    """The fields that only a record has, which a person does not write."""

    @field_validator("*")
    @classmethod
    def _can_be_written(cls, value: Any) -> Any:
        _check_text(value)
        return value


def _check_text(value: Any) -> None:
    if isinstance(value, str):
        if not arguments.is_unicode(value):
            raise ValueError(f"text must be what UTF-8 can write, got {shown(value)}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_text(item)


def _check_schedule(value: Schedule) -> Schedule:
    if functions_in(value):
        raise ValueError(
            "an objective names its schedules; give a schedule that is a function beside it, by schedules="
        )
    return value


def _plain(value: dict[str, Any], *inside: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, item in value.items():
        try:
            made.update(plain_params({name: item}))
        except ValueError as error:
            raise ValueError(f"{key_of(*inside, name)} {str(error).removeprefix('params ')}") from None
    return made


def _plain_options(value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: _plain(options, name) for name, options in value.items()}


def _refuse_text_for_numbers(value: Any) -> Any:
    """Raise for a schedule in a file, or one inside of it, that has text in the place of a number."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in _NUMBERS and isinstance(item, (str, bool)):
                raise ValueError(f"{name} must be a number, got {shown(item)}")
            if name == "params":
                _refuse_text_for_numbers_inside(item)
    return value


def _refuse_text_for_numbers_inside(value: Any) -> None:
    if isinstance(value, Mapping):
        if "schedule" in value:
            _refuse_text_for_numbers(value)
        for item in value.values():
            _refuse_text_for_numbers_inside(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_text_for_numbers_inside(item)


_NUMBERS = ("start", "start_epoch", "end", "end_epoch", "initial_value", "target_value", "factor")
_NamedSchedule = Annotated[Schedule, BeforeValidator(_refuse_text_for_numbers), AfterValidator(_check_schedule)]
_Arguments = Annotated[dict[str, Any], AfterValidator(_plain)]
_Options = Annotated[dict[_Text, dict[_Text, Any]], AfterValidator(_plain_options)]


class ObjectiveTerm(_Part, frozen=True):
    """The terms that one call registered, `from_spec`, `init_from_spec` or `register_spec`.

    Args:
        formula: The formula, such as `"gan:hinge + 100*l1"`.
        function: In a record, in place of a formula: the label of the spec function that was called, which a file does
            not bring back.
        prefix: What is put before every loss name.
        rename_inputs: The inputs that losses are given, by those that they read; for one loss, by its name, a mapping.
        options: Keyword arguments for the specs of this term, by the name of the term. A table with a `function`, such
            as `"torch.nn:HuberLoss"`, and its `arguments` stands for a module.
        without: Losses of the term that are left out, by final name, as `unregister` does.
        unwritten: In a record, the options that hold what no file can hold, such as `"vgg.network"`.
    """

    recorded = frozenset({"function", "unwritten"})

    formula: Annotated[str, Field(strict=True)] | None = None
    function: _Text | None = None
    prefix: Annotated[str, Field(strict=True)] = ""
    rename_inputs: dict[_Text, _Text | _Renames] = Field(default_factory=dict)
    options: _Options = Field(default_factory=dict)
    without: list[_Text] = Field(default_factory=list)
    unwritten: list[_Text] = Field(default_factory=list)

    @field_validator("prefix")
    @classmethod
    def _prefix_is_part_of_a_name(cls, value: str) -> str:
        if "/" in value:
            raise ValueError(
                f"a prefix may not contain '/', which stands between a split and a loss, got {shown(value)}"
            )
        return value

    @model_validator(mode="after")
    def _has_one_source(self) -> ObjectiveTerm:
        if (self.formula is None) is (self.function is None):
            raise ValueError('a term has a formula, such as formula = "gan:hinge + 100*l1"')
        return self


class ObjectiveLoss(_Part, frozen=True):
    """What an objective says of one loss: what a person may set, and what a record says beside it.

    Args:
        weight: Its weight. None: that of the factor, the config or the spec.
        schedule: Its schedule; an end that it leaves out is the weight.
        enabled: Whether it counts.
        function: In a record, the import path of its function.
        arguments: In a record, what the function was made with, as far as it is known.
        unknown: In a record, the parameters of which that is not known.
        tags: In a record, its tags.
        inputs: In a record, the inputs that it reads, in the order of the parameters, or by parameter.
        version: In a record, the version of its meaning.
        provider: In a record, the distribution that it comes from.
        term: In a record of a function that does not tell all of itself, the term that it comes from.
        weighting: In a record, the key of the weighting that balances it.
    """

    recorded = frozenset(
        {"function", "arguments", "unknown", "tags", "inputs", "version", "provider", "term", "weighting"}
    )

    weight: _Number | None = None
    schedule: _NamedSchedule | None = None
    enabled: _Flag = True
    function: _Text | None = None
    arguments: _Arguments = Field(default_factory=dict)
    unknown: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    inputs: list[_Text] | _Renames | None = None
    version: _Whole = 1
    provider: _Text | None = None
    term: _Text | None = None
    weighting: _Text | None = None

    @model_validator(mode="after")
    def _a_record_has_a_function(self) -> ObjectiveLoss:
        if self.function is not None:
            return self
        said = [
            name
            for name in type(self).model_fields
            if name in self.recorded
            and getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        ]
        if said:
            raise ValueError(
                f"{listed(said)}: of the loss of a term only weight, schedule and enabled can be set; what its spec "
                "makes of it is set by its options, and its inputs by rename_inputs"
            )
        return self

    @property
    def is_record(self) -> bool:
        """Whether it says what a run had, and not only what is set."""
        return self.function is not None


class ObjectiveWeighting(_Part, frozen=True):
    """A weighting of the losses of one tag or name.

    Args:
        weighting: The name of an installed weighting. In a record of a class that was given itself, its label.
        params: Keyword arguments for it.
        every: In how many ticks factors change once.
        wrt: The input that gradients are taken with respect to.
        reduce: `"mean"` for the mean of the factors of all ranks.
        losses: The losses that it balances, by name. None: those that its key finds, a tag or loss name.
    """

    weighting: _Text
    params: _Arguments = Field(default_factory=dict)
    every: _Whole = 1
    wrt: _Text | None = None
    reduce: Literal["mean"] | None = None
    losses: list[_Text] | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_weighting(cls, data: Any) -> Any:
        """Take a `Weighting`, or its name alone, as `weightings=` does."""
        if isinstance(data, str):
            return {"weighting": data}
        if not isinstance(data, Weighting):
            return data
        if not isinstance(data.name, str):
            raise ValueError("an objective names its weightings; give one that is a class beside it, by weightings=")
        said = data.model_dump(mode="json")
        return {"weighting": said.pop("name"), **said}

    @staticmethod
    def of(weighting: Weighting, losses: list[str]) -> ObjectiveWeighting:
        """Return what a record says of a weighting."""
        said = weighting.model_dump(mode="json")
        return ObjectiveWeighting(weighting=said.pop("name"), losses=losses, **said)

    @property
    def definition(self) -> Weighting:
        """The weighting, which may be a label."""
        return Weighting(self.weighting, params=self.params, every=self.every, wrt=self.wrt, reduce=self.reduce)


class ExtraLoss(_Part, frozen=True):
    """A loss without a plugin: a class of `torch.nn`.

    Args:
        name: Its name, unique in the objective.
        function: The class, such as `"torch.nn:HuberLoss"`; nothing else is ever imported.
        arguments: Keyword arguments for the class; a list where it takes a tensor.
        weight: Its weight.
        schedule: Its schedule; an end that it leaves out is the weight.
        tags: Its tags.
        inputs: The inputs that it reads, in the order of the parameters, or by parameter.
        skip_when_zero: Whether it is left uncalled while its weight is 0.
    """

    name: _Text
    function: _Text
    arguments: _Arguments = Field(default_factory=dict)
    weight: _Number | None = None
    schedule: _NamedSchedule | None = None
    tags: list[str] = Field(default_factory=list)
    inputs: list[_Text] | _Renames = Field(default_factory=lambda: ["y_fake", "y"])
    skip_when_zero: _Flag = True

    @field_validator("function")
    @classmethod
    def _function_is_of_torch(cls, value: str) -> str:
        module, _, name = value.partition(":")
        if module != "torch.nn" or not name.isidentifier() or not name.isascii():
            raise ValueError(
                f'a function in a file is a class of torch.nn, written as "torch.nn:HuberLoss", got {shown(value)}; '
                "publish any other one as a plugin, or register it in Python by register_loss_fn"
            )
        return value


class Objective(_Part, frozen=True):
    """An objective as data: what is written in a file, and what a run records of itself (`LossManager.manifest`).

    Args:
        total_epochs: How many epochs the run has, above 0: what schedules with `unit="fraction"` are relative to.
        total_steps: How many steps it has, in place of `total_epochs`.
        terms: What each registering call asked for. With one, its `formula`, `prefix`, `rename_inputs` and `without`
            may stand in the place of `terms`.
        losses: What is set for losses, by their final names; in a record, all losses, in their order.
        options: Keyword arguments for specs, by the name of the term (`"vgg"`) or the whole term (`"vgg:style"`), in
            every formula that has it.
        weightings: Weightings by the tag or final name of the losses that each balances.
        extra: Losses that are classes of `torch.nn`.
        providers: In a record, the version of each distribution that a plugin in use comes from.
        versions: In a record, the versions of nectargan-core and torch.
        weight_files: In a record, the SHA-256 of each file with pretrained weights, by file name.
        fingerprint: In a record, the SHA-256 of all that affects numbers; versions of distributions are no part of it.

    Raises:
        pydantic.ValidationError: If a field has the wrong type.

    Example:
        >>> objective = Objective(formula="linear-demo + 10*other", losses={"G_L1": {"weight": 50.0}})
        >>> objective.terms[0].formula, objective.losses["G_L1"].weight
        ('linear-demo + 10*other', 50.0)
    """

    recorded = frozenset({"providers", "versions", "weight_files", "fingerprint"})

    total_epochs: int | float | None = None
    total_steps: _Whole | None = None
    terms: list[ObjectiveTerm] = Field(default_factory=list)
    losses: dict[_Text, ObjectiveLoss] = Field(default_factory=dict)
    options: _Options = Field(default_factory=dict)
    weightings: dict[_Text, ObjectiveWeighting] = Field(default_factory=dict)
    extra: list[ExtraLoss] = Field(default_factory=list)
    providers: dict[_Text, str] = Field(default_factory=dict)
    versions: dict[_Text, str] = Field(default_factory=dict)
    weight_files: dict[_Text, str] = Field(default_factory=dict)
    fingerprint: _Text | None = None

    # The file that it was read from, for errors.
    _source: Path | None = PrivateAttr(None)

    # Type checkers see the arguments that pydantic gives `__init__`.
    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _one_term_may_stand_at_the_top(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        at_the_top = [key for key in _TERM if key in data]
        if not at_the_top:
            return data
        if "terms" in data:
            raise ValueError(
                f"{listed(at_the_top)} at the top, and terms, are both given; write what is at the top into one of "
                "the [[terms]]"
            )
        return {"terms": [{key: data[key] for key in at_the_top}]} | {
            key: value for key, value in data.items() if key not in at_the_top
        }

    @field_validator("total_epochs", mode="plain")
    @classmethod
    def _total_epochs_are_above_0(cls, value: Any) -> Any:
        return None if value is None else arguments.length("total_epochs", value)

    @model_validator(mode="after")
    def _has_one_length(self) -> Objective:
        if self.total_epochs is not None and self.total_steps is not None:
            raise ValueError("total_epochs and total_steps are both given; give one of them")
        return self

    @property
    def is_record(self) -> bool:
        """Whether it says what a run had."""
        return self.fingerprint is not None

    @property
    def source(self) -> Path | None:
        """The file that it was read from; None where it was not."""
        return self._source

    @property
    def uses_fractions(self) -> bool:
        """Whether a schedule is relative to the length of the run."""
        schedules = [entry.schedule for entry in self.losses.values()] + [entry.schedule for entry in self.extra]
        return any(each.unit == "fraction" for schedule in schedules for each in schedules_in(schedule))

    @property
    def name(self) -> str | None:
        """The formulas, or labels of spec functions, joined by `" + "`; None of none."""
        return " + ".join(term.formula or term.function or "" for term in self.terms) or None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Objective:
        r"""Read an objective from a file, or the record of a run from its log.

        Args:
            path: A file that ends with `.toml` or `.json`; or a loss log, or the directory of a run that it is in, of
                which the last record is taken.

        Raises:
            ObjectiveError: If it cannot be read, or is no objective; the error names file, key and what to do.
            LossLogError: If it is a directory without a log, or no log can be read.
            TypeError: If it is no path.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp(), "objective.toml")
            >>> _ = path.write_text('formula = "gan:hinge + 100*l1"\n[losses.G_L1]\nweight = 50.0\n')
            >>> Objective.load(path).losses["G_L1"].weight
            50.0
        """
        data, file = read_data(path)
        return _made(cls, data, file)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the objective to a file, which is replaced when it is complete.

        Args:
            path: Ends with `.toml` or `.json`.

        Raises:
            ObjectiveError: If it cannot be written, or holds a None that TOML cannot write.
            TypeError: If it is no path.
        """
        write_data(self.to_dict(), path)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, without what is left to its default: what JSON holds, and `from_dict` takes."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Objective:
        """Return the objective that plain data describes.

        Raises:
            ObjectiveError: If it describes none; the error names the key.
            TypeError: If it is no mapping from str.
        """
        return _made(cls, arguments.mapping("data", data, "{'formula': 'gan:hinge + 100*l1'}"), None)

    def differences(self, other: Objective) -> tuple[Difference, ...]:
        """Compare two records of runs.

        Args:
            other: The other one.

        Returns:
            The differences of losses, their functions, arguments, weights, schedules, tags and inputs, weightings,
            weight files, lengths and versions. Empty where nothing does.
        """
        return differences(self, other)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Objective:
        """Return a copy, with other values for the fields in `update`, which are validated; errors name its file.

        Example:
            >>> Objective(formula="l1", total_epochs=20).model_copy(update={"formula": "2*l1"}).name
            '2*l1'
        """
        at_the_top = {key: value for key, value in (update or {}).items() if key in _TERM}
        if update is not None and at_the_top:
            if len(self.terms) > 1 or "terms" in update:
                raise ValueError(
                    f"{listed(at_the_top)}: this objective has {len(self.terms)} terms; give terms, of which each has "
                    "its own"
                )
            term = self.terms[0].model_copy(update=at_the_top) if self.terms else ObjectiveTerm(**at_the_top)
            update = {**{key: value for key, value in update.items() if key not in at_the_top}, "terms": [term]}
        copy = super().model_copy(update=update, deep=deep)
        if copy.__pydantic_private__ is not None:
            copy.__pydantic_private__["_source"] = self._source
        return copy

    def _repr_html_(self) -> str:
        return as_html(self)


def _made(kind: type[Objective], data: dict[str, Any], file: Path | None) -> Objective:
    try:
        made = kind.model_validate(data)
    except ValidationError as error:
        raise invalid(error, file, model=kind, at_the_top=() if "terms" in data else _TERM) from None
    except RecursionError:
        raise ObjectiveError(
            "it is nested too deeply for an objective", path=None if file is None else str(file)
        ) from None
    except NectarganError as error:  # such as that of a schedule whose params are not plain
        with located(file):
            raise error
    if made.__pydantic_private__ is not None:
        made.__pydantic_private__["_source"] = file
    return made
