"""Every exception that NectarGAN raises on purpose: one base class, one class per kind of mistake."""

from __future__ import annotations

from nectargan_core._printable import printable_lines


class NectarganError(Exception):
    """Base of everything that NectarGAN raises on purpose.

    The message says what was expected, what arrived and what to do. Data attributes, where a class has them,
    are keyword-only and default to empty, so that every error survives pickling between processes.
    """

    def __init__(self, message: str) -> None:
        # Names in a message may come from anywhere, and an error is shown in a terminal.
        super().__init__(printable_lines(message))

    def __str__(self) -> str:
        # str() of a KeyError is the repr of the message, and that of an OSError may begin with the errno.
        return str(self.args[0])


class NectarganWarning(UserWarning):
    """Training goes on, but something in its set-up or in its values is probably a mistake."""


class UnknownLossError(NectarganError, KeyError):
    """A loss was asked for by a name (or tag) that no registered loss has."""

    def __init__(self, message: str, *, name: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.known = known


class DuplicateLossError(NectarganError, ValueError):
    """A name was to be given to a second loss, component of a loss, weighting or recorded scalar."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class SnapshotError(NectarganError, AttributeError):
    """A field of a loss, schedule, weighting or history was to be changed; these are values and never change.

    `model_copy(update={...})` makes another value. What a manager computes with is changed through the manager:
    `set_weight`, `set_schedule`, `set_weighting`, `enable`, `disable`.
    """


class SpecError(NectarganError, RuntimeError):
    """A spec raised while it was building its losses, or the losses it built cannot be used as asked."""


class SpecSyntaxError(NectarganError, ValueError):
    """A formula, or the name of a schedule or weighting, cannot be read; `column` (from 0) points at where."""

    def __init__(self, message: str, *, text: str = "", column: int = 0) -> None:
        super().__init__(message)
        self.text = text
        self.column = column


class UnknownVariantError(NectarganError, ValueError):
    """A spec was asked for a variant that it does not have."""

    def __init__(self, message: str, *, variant: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.variant = variant
        self.known = known


class ObjectiveError(NectarganError, ValueError):
    """A file of an objective cannot be read or written, or what was built is not what a record or state says.

    `path` is the file, `key` the place in it, `differences` are those between the record and what was built.
    """

    def __init__(
        self, message: str, *, path: str | None = None, key: str | None = None, differences: tuple[object, ...] = ()
    ) -> None:
        super().__init__(message)
        self.path = path
        self.key = key
        self.differences = differences


class ConfigError(NectarganError, ValueError):
    """A configuration is missing, is not JSON, or has a value of the wrong type under `key`."""

    def __init__(self, message: str, *, path: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class ScheduleError(NectarganError, ValueError):
    """A schedule cannot be evaluated as it was defined, or contradicts the weight that is given with it."""


class WeightingError(NectarganError, ValueError):
    """A weighting cannot be made or used as asked, or the gradient of a loss cannot be taken."""

    def __init__(self, message: str, *, weighting: str = "", loss_name: str = "") -> None:
        super().__init__(message)
        self.weighting = weighting
        self.loss_name = loss_name


class LossLogError(NectarganError, OSError):
    """A loss log cannot be opened, read or owned."""


class MissingInputError(NectarganError, KeyError):
    """An input was not given to `compute_losses` that a loss reads, or that is the `wrt` of a weighting."""

    def __init__(self, message: str, *, loss_name: str = "", input_name: str = "", given: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.loss_name = loss_name
        self.input_name = input_name
        self.given = given


class LossResultError(NectarganError, TypeError):
    """A loss function returned neither a real-valued tensor nor a dict of such tensors by name."""

    def __init__(self, message: str, *, loss_name: str = "") -> None:
        super().__init__(message)
        self.loss_name = loss_name


class NonFiniteLossError(NectarganError, ArithmeticError):
    """A loss became nan or infinite, and the manager was told to stop at that.

    `rank` is the process of a distributed run in which it did, where `raise_on_any_rank` says it; else None.
    """

    def __init__(
        self, message: str, *, loss_name: str = "", step: int = 0, epoch: float = 0, rank: int | None = None
    ) -> None:
        super().__init__(message)
        self.loss_name = loss_name
        self.step = step
        self.epoch = epoch
        self.rank = rank


class WeightsError(NectarganError, OSError):
    """The pretrained weights of a loss cannot be found, fetched or used."""


class PluginError(NectarganError):
    """Something about a plugin: `group` and `name` say which was asked for, `dist` and `version` who offers it."""

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        name: str = "",
        dist: str | None = None,
        version: str | None = None,
    ) -> None:
        super().__init__(message)
        self.group = group
        self.name = name
        self.dist = dist
        self.version = version


class PluginNotFoundError(PluginError, LookupError):
    """No installed distribution offers a plugin of that name."""


class UnknownScheduleError(PluginNotFoundError, KeyError):
    """No installed distribution offers a schedule of that name."""


class PluginLoadError(PluginError, ImportError):  # type: ignore[misc] # ImportError.name may be None
    """A plugin is installed, and importing it failed."""


class PluginBlockedError(PluginError):
    """A plugin is installed, and a setting forbids to import it."""


class AmbiguousPluginError(PluginError):
    """Several distributions offer a plugin of the same name, and nothing says which is meant."""


class PluginContractError(PluginError, TypeError):
    """A plugin was imported, and what it is or what it returned is not what its entry point group promises."""
