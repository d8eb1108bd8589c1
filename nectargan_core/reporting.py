"""Reporting: what a manager tells of its losses, in numbers, tensors, records and lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from nectargan_core.errors import NectarganError, UnknownLossError, did_you_mean
from nectargan_core.history import Series
from nectargan_core.log import LossLog
from nectargan_core.records import Records, joined
from nectargan_core.registry import LossRegistry, Query


class LossReporter(LossRegistry):
    """A registry that tells what its losses have been."""

    def get_loss_values(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the last value of each loss: the mean of the weighted result in its own dtype.

        Waits for the device once, however many losses there are.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.

        Returns:
            Values by loss name; nan for a loss that has not run. Empty if the query finds none.
        """
        self._recorder.settle()
        return {bound.name: _rounded(bound.last_value(), precision) for bound in self._select(query)}

    def get_loss_tensors(self, query: Query = None) -> dict[str, torch.Tensor]:
        """Return the last weighted result of each loss, detached, on its device; nan for one that has not run."""
        return {bound.name: bound.last_tensor() for bound in self._select(query)}

    def get_loss_weights(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the weight that was last applied to each loss, or will be if it has not run.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.
        """
        return {bound.name: _rounded(bound.reported_weight(), precision) for bound in self._select(query)}

    def print_losses(self, epoch: float, iter: int, precision: int = 2, capture: bool = False) -> str | None:  # noqa: A002 # the reference's name
        """Print the last value of each loss, or return the line if `capture`.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            >>> manager.print_losses(epoch=1, iter=20)
            (epoch: 1, iters: 20) Loss: G_L1: 1.0
        """
        return _print(
            f"(epoch: {epoch}, iters: {iter}) Loss: {_listed(self.get_loss_values(None, precision))}", capture
        )

    def print_weights(self, precision: int = 2, capture: bool = False) -> str | None:
        """Print the weight of each loss, or return the line if `capture`.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> manager.print_weights()
            Loss weights: G_L1: 100.0
        """
        return _print(f"Loss weights: {_listed(self.get_loss_weights(None, precision))}", capture)

    def latest(self, query: Query = None) -> dict[str, float]:
        """Return the newest value of each loss that is known without waiting for a device, not rounded.

        Args:
            query: Tag, loss name or name of a recorded scalar, or several; None for all.

        Returns:
            Values by name; nan where none is known yet.
        """
        return {name: series.latest() for name, series in self._reported(query)}

    def means(self, query: Query = None) -> dict[str, float]:
        """Return the mean of each loss since the epoch began, or inside a split since the split was entered.

        An epoch begins when the whole part of the clock's epoch changes. Every record counts the same. Waits for the
        device once.

        Args:
            query: Tag, loss name or name of a recorded scalar, or several; None for all.

        Returns:
            Means of the weighted values by name; nan of no records.

        Raises:
            NectarganError: If only last values are kept, so that there is nothing to take a mean of.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> for scale in (1.0, 3.0):
            ...     _ = manager.compute_loss_xy("G_L1", torch.zeros(2), scale * torch.ones(2))
            >>> manager.means()
            {'G_L1': 2.0}
        """
        self._recorder.settle()
        reported = dict(self._reported(query))
        if not all(series.keep for series in reported.values()):
            raise NectarganError(
                "means() needs the history, and this manager keeps only the last values; make it with experiment_dir= "
                "or enable_logging=True, or take the means of a split"
            )
        return {name: series.mean() for name, series in reported.items()}

    def series(self, name: str) -> Records:
        """Return all records of a loss or scalar: those of the log and those that are still in memory.

        Args:
            name: A loss, a recorded scalar, or one of a split, such as `"val/G_L1"`.

        Raises:
            UnknownLossError: If nothing of this name was ever recorded.
        """
        recorder = self._recorder
        recorder.settle()
        parts = []
        if recorder.log is not None and recorder.log.is_begun and recorder.log.path.exists():
            log = LossLog(recorder.log.path)
            if name in log.names:
                parts.append(log.series(name))
        if name in recorder.series:
            parts.append(recorder.series[name].records())
        if not parts:
            known = tuple(recorder.series)
            listed = ", ".join(known) or "none"
            raise UnknownLossError(
                f"nothing is recorded under {name!r}; there are {listed}.{did_you_mean(name, known)}",
                name=name,
                known=known,
            )
        return joined(name, parts)

    def _reported(self, query: Query) -> Iterator[tuple[str, Series]]:
        if query is not None and not isinstance(query, str):
            query = tuple(query)
        wanted = {query} if isinstance(query, str) else query
        for bound in self._select(query):
            yield bound.name, bound.series
        for name, series in self._scalars.items():
            if wanted is None or name in wanted:
                yield name, series


def _rounded(value: float, precision: int | None) -> float:
    return value if precision is None else round(value, precision)


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}: {value}" for name, value in values.items())


def _print(text: str, capture: bool) -> str | None:
    if capture:
        return text
    print(text)
    return None
