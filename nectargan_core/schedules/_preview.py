"""Look at a schedule before it runs: its values as arrays, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nectargan_core._messages import shown
from nectargan_core.errors import NectarganError
from nectargan_core.schedules._schedule import Schedule
from nectargan_core.schedules._scheduler import Scheduler

_MOST_POINTS = 20_000


def preview(
    schedule: Schedule, epochs: int | Sequence[float] | npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the values that a schedule will have.

    Args:
        schedule: The schedule. An end that it leaves out is 1.0.
        epochs: How many epochs (or steps, if it counts those) the run has, which are 0, 1, …; or an array of them,
            fractions included. With `unit="fraction"` the positions are fractions of the run: of n epochs 0, 1/n, …,
            (n - 1)/n; or those in the array.

    Returns:
        The epochs (or steps, or fractions) and the values at them, float64, of one length.

    Raises:
        UnknownScheduleError: If no installed plugin has the schedule's name.
        ScheduleError: If the schedule cannot be evaluated.
        PluginError: If the plugin of that name cannot be used.
        TypeError: If an argument has the wrong type.

    Example:
        >>> epochs, values = preview(Schedule(end=4, target_value=0.0), 6)
        >>> values.tolist()
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    scheduler = Scheduler(schedule)
    try:
        positions = np.array(range(epochs) if isinstance(epochs, int) else epochs, dtype=np.float64)
        if isinstance(epochs, int) and schedule.unit == "fraction":
            positions /= epochs
    except Exception:  # noqa: BLE001 # an object may raise anything
        positions = np.empty((0, 0))
    if positions.ndim != 1 or not np.isfinite(positions).all():
        raise TypeError(f"epochs must be an int, or finite numbers in a list or array, got {shown(epochs)}")
    return positions, np.array([scheduler.value(position) for position in positions.tolist()], dtype=np.float64)


def plot(schedule: Schedule, epochs: int, path: str | os.PathLike[str]) -> None:
    """Draw a schedule as a picture.

    Args:
        schedule: The schedule. An end that it leaves out is 1.0.
        epochs: Up to which epoch (or step, if it counts those) it is drawn, at least 1. One with `unit="fraction"` is
            drawn from 0 to 1, whatever the length of the run.
        path: The file, in a format that its suffix names, such as `.png`.

    Raises:
        UnknownScheduleError: If no installed plugin has the schedule's name.
        ScheduleError: If the schedule cannot be evaluated.
        NectarganError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NectarganError(
            "drawing a schedule needs matplotlib; pip install 'nectargan-core[cli]' brings it"
        ) from error
    in_fractions = schedule.unit == "fraction"
    last = 1 if in_fractions else epochs
    # Steps are whole numbers. Epochs are drawn with fractions, since a curve may change within an epoch.
    count = last if schedule.unit == "step" else max(1000, 20 * last)
    positions = np.linspace(0, last, min(count, _MOST_POINTS) + 1)
    positions, values = preview(schedule, np.unique(np.round(positions)) if schedule.unit == "step" else positions)
    # pyplot would keep every figure, and may need a display.
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    label = "fraction of the run" if in_fractions else schedule.unit
    axes = figure.add_subplot(xlabel=label, ylabel="value", title=str(schedule.schedule))
    axes.plot(positions, values, linewidth=1.8, drawstyle="steps-post" if schedule.unit == "step" else "default")
    for end in (schedule.start_epoch, schedule.end_epoch):
        if end is not None and 0 < end < last:
            axes.axvline(end, color="0.7", linestyle=":", linewidth=1.0, zorder=0)
    axes.set_xlim(0, last)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
