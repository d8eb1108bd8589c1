"""The configuration of a run, in the shape of NectarGAN's own config.json."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nectargan_core import _arguments as arguments
from nectargan_core._messages import listed, one_line, warn
from nectargan_core._sections import as_mappings, attributes, opened
from nectargan_core.errors import ConfigError

_LAMBDA = "lambda_"
_Self = TypeVar("_Self", bound="Section")


class ConfiguredWeight(float):
    """A weight that a configuration sets; `key` says under which key, for warnings about it."""

    key: str

    def __new__(cls, value: float, key: str) -> ConfiguredWeight:  # noqa: D102 # as __init__
        weight = super().__new__(cls, value)
        weight.key = key
        return weight

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override] # copies and pickles are made with the key
        return float(self), self.key


class Section(BaseModel):
    """A part of the configuration: every field optional, unknown keys kept, null the same as absent.

    What it has is read as an attribute or by its key. A mapping under an unknown key stays one, and its keys can be
    read as attributes, too, at every depth.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name is not None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value

    @model_validator(mode="after")
    def _unknown_sections_are_open(self: _Self) -> _Self:
        _open_unknown(self)
        return self

    def model_copy(self: _Self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> _Self:
        """Return a copy, with other values for what is in `update`, which are not validated."""
        copy = super().model_copy(update=update, deep=deep)
        _open_unknown(copy)
        return copy

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key) if key in type(self).model_fields else (self.model_extra or {})[key]

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields or key in (self.model_extra or {})


def _open_unknown(section: Section) -> None:
    unknown = section.model_extra or {}
    for key, value in unknown.items():
        try:
            unknown[key] = opened(value)
        except RecursionError:
            raise ValueError(f"{key}: is nested too deep, or contains itself") from None


class CommonConfig(Section):
    """The section `common`: `device` is anything that `torch.device` accepts, such as `"cuda:0"`."""

    device: str | None = None

    @field_validator("device", mode="before")
    @classmethod
    def _device_as_text(cls, value: Any) -> Any:
        return str(value) if type(value).__name__ == "device" else value


class LoadConfig(Section):
    """The section `dataloader.load`: channels of the input image, and the size it is cropped to in pixels."""

    input_nc: int | None = None
    crop_size: int | None = None


class DataloaderConfig(Section):
    """The section `dataloader`."""

    dataroot: str | None = None
    load: LoadConfig = Field(default_factory=LoadConfig)


class LossConfig(Section):
    """The section `train.loss`: `lambda_<name>` is the weight of that loss, None where the spec decides."""

    lambda_gan: FiniteFloat | None = None
    lambda_l1: FiniteFloat | None = None
    lambda_l2: FiniteFloat | None = None
    lambda_sobel: FiniteFloat | None = None
    lambda_laplacian: FiniteFloat | None = None
    lambda_vgg: FiniteFloat | None = None

    @model_validator(mode="after")
    def _new_lambdas_are_numbers(self) -> LossConfig:
        new = {key: value for key, value in (self.model_extra or {}).items() if key.startswith(_LAMBDA)}
        if new:
            # Its error names the key; pydantic puts the path of this section before it.
            TypeAdapter(dict[str, FiniteFloat | None]).validate_python(new)
        return self


class _NotingLambdas(LossConfig):
    """The section `train.loss`, which takes note of the weights that are asked for, in whatever way a spec asks."""

    _noted: list[str] = PrivateAttr(default_factory=list)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(_LAMBDA):
            self._note(name)
        return super().__getattribute__(name)

    def __contains__(self, key: object) -> bool:
        self._note(str(key))
        return super().__contains__(key)

    def _note(self, key: str) -> None:
        if key.startswith(_LAMBDA):
            self._noted.append(key)


class _WithoutLambdas(_NotingLambdas):
    """The section `train.loss` without its weights, which takes note of those that are asked for all the same."""

    _hidden: dict[str, float] = PrivateAttr(default_factory=dict)
    _asked: dict[str, float] = PrivateAttr(default_factory=dict)

    def _note(self, key: str) -> None:
        for hidden, value in self._hidden.items():
            if _folded(hidden) == _folded(key):
                self._asked[hidden] = value


class TrainConfig(Section):
    """The section `train`."""

    loss: LossConfig = Field(default_factory=LossConfig)


class Config(Section):
    """The configuration of a run: NectarGAN's config.json, wrapped in `{"config": {...}}` or not.

    Every field is optional. Sections and keys that are not named here are kept as they came.

    Example:
        >>> config = Config.model_validate({"config": {"train": {"loss": {"lambda_l1": 50}}}})
        >>> config.loss_weight("l1", default=100.0), config.loss_weight("sobel", default=10.0)
        (50.0, 10.0)
    """

    common: CommonConfig = Field(default_factory=CommonConfig)
    dataloader: DataloaderConfig = Field(default_factory=DataloaderConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        return _unwrapped(data) if isinstance(data, Mapping) else data

    def loss_weight(self, name: str, default: float) -> float:
        """Return the weight that this configuration sets for a loss, or the spec's own default.

        Args:
            name: The loss as the configuration calls it: `"vgg"` reads `train.loss.lambda_vgg`; `-` and `.`
                are read as `_`.
            default: The weight where the configuration says nothing.

        Example:
            >>> Config().loss_weight("vgg", default=10.0)
            10.0
        """
        key = _key_of(name)
        value = getattr(self.train.loss, key, None)
        if value is None:
            for other in self.train.loss.model_extra or {}:
                if _folded(other) == _folded(key):
                    warn(f"the configuration sets train.loss.{other}, which is not read; write train.loss.{key}")
        return float(default) if value is None else ConfiguredWeight(value, f"train.loss.{key}")

    def without_lambdas(self) -> tuple[Config, Mapping[str, float]]:
        """Return a copy that sets no weights, for a spec whose weights come from elsewhere.

        Returns:
            The copy, and the weights by key that this configuration sets, and that the copy has been asked for so far.
        """
        values = dict(self.train.loss)
        loss = _WithoutLambdas.model_construct(**{k: v for k, v in values.items() if not k.startswith(_LAMBDA)})
        loss._hidden = {key: value for key, value in values.items() if key.startswith(_LAMBDA) and value is not None}
        train = self.train.model_copy(update={"loss": loss})
        return self.model_copy(update={"train": train}), loss._asked

    def on_device(self, device: object) -> Config:
        """Return a copy whose `common.device` is the one given."""
        return self.model_copy(update={"common": self.common.model_copy(update={"device": str(device)})})


def noting_lambdas(config: Config) -> tuple[Config, list[str]]:
    """Return a copy of a configuration, and the keys of the weights that the copy has been asked for so far."""
    loss = _NotingLambdas.model_construct(**dict(config.train.loss))
    loss._noted.clear()
    return config.model_copy(update={"train": config.train.model_copy(update={"loss": loss})}), loss._noted


class DefaultWeights(Config):
    """A configuration that sets no weight, and has each weight that is read from it say the key that would set it.

    Example:
        >>> DefaultWeights().loss_weight("l1", default=100.0).key
        'train.loss.lambda_l1'
    """

    def loss_weight(self, name: str, default: float) -> ConfiguredWeight:
        """Return the default, with the key."""
        return ConfiguredWeight(super().loss_weight(name, default), f"train.loss.{_key_of(name)}")


_SECTIONS = tuple(Config.model_fields)


def _key_of(name: str) -> str:
    return _LAMBDA + name.replace("-", "_").replace(".", "_")


def _unwrapped(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is in `{"config": {...}}`, and beside it."""
    if not isinstance(data.get("config"), Mapping):
        return data
    return {**{key: value for key, value in data.items() if key != "config"}, **data["config"]}


def _folded(key: str) -> str:
    """Return a key as those are compared that somebody may have meant to be the same."""
    return key.casefold().replace("-", "").replace("_", "").replace(".", "")


class HasSections(Protocol):
    """What has the sections of NectarGAN's configuration as attributes, such as its own `Config`."""

    @property
    def common(self) -> Any: ...  # noqa: D102 # see `Config`

    @property
    def dataloader(self) -> Any: ...  # noqa: D102 # see `Config`

    @property
    def train(self) -> Any: ...  # noqa: D102 # see `Config`


ConfigLike: TypeAlias = "Config | Mapping[str, Any] | HasSections"
"""What a configuration is read from."""


def read_config(data: ConfigLike | None, path: str | None = None) -> Config:
    """Make a `Config` of a mapping, of an object with the sections as attributes, of nothing, or of one that is made.

    Raises:
        ConfigError: If a value has the wrong type; the message names the key and the file, if it came from one.
    """
    return data if isinstance(data, Config) else _validated(_sections_of(data, path), path)


def _sections_of(data: object, path: str | None) -> dict[str, Any]:
    source = f"{path}: " if path else "config: "
    try:
        sections = as_mappings({} if data is None else data, Config, source)
    except ConfigError:
        raise
    except Exception as error:  # an object may raise anything when it is looked at
        raise ConfigError(f"{source}{type(data).__name__} cannot be read: {one_line(error)}", path=path) from error
    if not isinstance(sections, dict):
        or_object = "" if path else ", or an object that has them as attributes"
        if isinstance(data, (str, os.PathLike)) and not path:
            or_object += "; a file is read with ConfigManager(path).data"
        raise ConfigError(f"{source}expected a mapping of sections{or_object}, got {type(data).__name__}", path=path)
    if data is not None and not isinstance(data, Mapping) and sections.keys().isdisjoint({*_SECTIONS, "config"}):
        # Everything that is not named here is optional, so that any object at all would give an empty configuration.
        raise ConfigError(
            f"{source}expected an object that has {', '.join(_SECTIONS)} as attributes, got {type(data).__name__}, "
            f"which has {listed(attributes(data))}{'; pass its .data' * isinstance(data, ConfigManager)}",
            path=path,
        )
    return sections


def _validated(sections: dict[str, Any], path: str | None) -> Config:
    source = f"{path}: " if path else "config: "
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = f"{source}{key}: {first['msg']}, got {reprlib.repr(first['input'])}"
        raise ConfigError(message, path=path, key=key) from error


class ConfigManager:
    """Reads a configuration from a JSON file, a mapping, an object or nothing, and exports it.

    Attributes:
        data: The `Config`.
        raw: The sections as they were read, as a dict, without the key `config` around them.

    Args:
        config: Path of a JSON file, a mapping of sections, an object that has them as attributes, or None for an
            empty configuration.

    Raises:
        ConfigError: If the file is missing or not JSON, or a value has the wrong type. The message names file
            and key.

    Example:
        >>> manager = ConfigManager({"config": {"common": {"device": "cpu"}}})
        >>> manager.data.common.device, manager.raw
        ('cpu', {'common': {'device': 'cpu'}})
    """

    def __init__(self, config: str | os.PathLike[str] | ConfigLike | None = None) -> None:
        self.data: Config
        self.raw: dict[str, Any]
        if isinstance(config, Config):
            self.data, self.raw = config, config.model_dump(exclude_defaults=True)
            return
        path = None
        if isinstance(config, (str, os.PathLike)):
            try:
                file = arguments.path("config", config)
            except (TypeError, ValueError) as error:
                raise ConfigError(str(error)) from None
            path, config = str(file), _read_json(file)
        sections = _sections_of(config, path)
        self.raw = dict(_unwrapped(sections))
        # From a copy, so that no list is shared between the two.
        self.data = _validated(_sections_of(sections, path), path)

    def export_config(self, output_directory: str | os.PathLike[str]) -> Path:
        """Write `raw` to `train<n>_config.json`, with the key `config` around it, as NectarGAN does.

        n is one more than the number of files there whose names end in `config.json`, or the next number that is
        free. The file is there only once all of it is written.

        Args:
            output_directory: An existing directory, such as the one of the experiment.

        Returns:
            The path of the file.

        Raises:
            ConfigError: If the directory is missing, the file cannot be written, or JSON cannot hold a value. The
                message names the file and the reason.

        Example:
            >>> import tempfile
            >>> path = ConfigManager({"common": {"device": "cpu"}}).export_config(tempfile.mkdtemp())
            >>> path.name, ConfigManager(path).raw
            ('train1_config.json', {'common': {'device': 'cpu'}})
        """
        try:
            directory = arguments.path("output_directory", output_directory)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        number = 1 + sum(1 for _ in directory.glob("*config.json"))
        while (path := directory / f"train{number}_config.json").exists():
            number += 1
        try:
            text = json.dumps({"config": self.raw}, indent=4)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: JSON cannot hold the configuration: {error}", path=str(path)) from error
        try:
            _write_whole(path, text)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "no such directory" if missing else error.strerror or error
            raise ConfigError(f"{path}: cannot write the configuration: {reason}", path=str(path)) from error
        return path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{path}: cannot read the configuration: {reason}", path=str(path)) from error
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a configuration", path=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}", path=str(path)) from error


def _write_whole(path: Path, text: str) -> None:
    """Write a file under another name first, so that one of this name is never half written."""
    # Its name does not end as those do that are counted.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:  # Ctrl-C too
        draft.unlink(missing_ok=True)
        raise
