"""The configuration of a run, in the shape of NectarGAN's own config.json."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nectargan_core import _arguments as arguments
from nectargan_core._messages import warn
from nectargan_core.errors import ConfigError

_LAMBDA = "lambda_"


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
    """A part of the configuration: every field optional, unknown keys kept, null the same as absent."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name is not None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value


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
        if isinstance(data, Mapping) and isinstance(data.get("config"), Mapping):
            outer = {key: value for key, value in data.items() if key != "config"}
            return {**outer, **data["config"]}
        return data

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
        key = _LAMBDA + name.replace("-", "_").replace(".", "_")
        value = getattr(self.train.loss, key, None)
        if value is None:
            for other in self.train.loss.model_extra or {}:
                if _folded(other) == _folded(key):
                    warn(f"the configuration sets train.loss.{other}, which is not read; write train.loss.{key}")
        return float(default) if value is None else ConfiguredWeight(value, f"train.loss.{key}")

    def on_device(self, device: object) -> Config:
        """Return a copy whose `common.device` is the one given."""
        return self.model_copy(update={"common": self.common.model_copy(update={"device": str(device)})})


def _folded(key: str) -> str:
    """Return a key as those are compared that somebody may have meant to be the same."""
    return key.casefold().replace("-", "").replace("_", "").replace(".", "")


def read_config(data: Config | Mapping[str, Any] | None, path: str | None = None) -> Config:
    """Make a `Config` of a mapping, of nothing, or of one that is made already.

    Raises:
        ConfigError: If a value has the wrong type; the message names the key and the file, if it came from one.
    """
    if isinstance(data, Config):
        return data
    source = f"{path}: " if path else "config: "
    if data is not None and not isinstance(data, Mapping):
        raise ConfigError(f"{source}expected a mapping of sections, got {type(data).__name__}", path=path)
    try:
        return Config.model_validate(dict(data or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = f"{source}{key}: {first['msg']}, got {reprlib.repr(first['input'])}"
        raise ConfigError(message, path=path, key=key) from error


class ConfigManager:
    """Reads a configuration from a JSON file, a mapping, or nothing; `data` is the `Config`.

    Args:
        config: Path of a JSON file, a mapping of sections, or None for an empty configuration.

    Raises:
        ConfigError: If the file is missing or not JSON, or a value has the wrong type. The message names file
            and key.
        TypeError: If it is neither a path nor a mapping.

    Example:
        >>> ConfigManager({"common": {"device": "cpu"}}).data.common.device
        'cpu'
    """

    def __init__(self, config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None) -> None:
        self.data: Config
        if config is None or isinstance(config, (Mapping, Config)):
            self.data = read_config(config)
            return
        try:
            path = arguments.path("config", config)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise ConfigError(f"{path}: cannot read the configuration: {reason}", path=str(path)) from error
        except RecursionError:
            raise ConfigError(f"{path}: nested too deeply for a configuration", path=str(path)) from None
        except ValueError as error:
            raise ConfigError(f"{path}: not valid JSON: {error}", path=str(path)) from error
        self.data = read_config(data, path=str(path))
