"""Draws the curves of runs as a figure, and writes one to a file; matplotlib is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nectargan_core.errors import LossLogError, NectarganError
from nectargan_core.log._curves import Panel, panels
from nectargan_core.log._tables import ranks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nectargan_core.log._reader import LossLog

# A side of a picture has fewer pixels.
_PIXELS = 60_000
_DPI = 150
# The points of a curve, and about how many those of all may be: a picture of twenty runs is drawn in seconds.
_MOST_POINTS, _FEWEST_POINTS, _ALL_POINTS = 2000, 400, 100_000


def draw_runs(
    runs: Mapping[str, LossLog],
    *,
    query: str | Iterable[str] | None = None,
    by: Literal["step", "epoch"] = "step",
    smooth: float | None = None,
) -> tuple[Figure, list[Panel]]:
    """Return a figure of the curves of runs, and the panels that it shows.

    Args:
        runs: The log of each run by its label, at least one.
        query: As for `panels`.
        by: As for `panels`.
        smooth: As for `panels`.

    Raises:
        LossLogError: If there are no records.
        NectarganError: If matplotlib is not installed.
        UnknownLossError: As for `panels`.
        ValueError: As for `panels`.
    """
    try:
        from nectargan_core.log._plot import draw
    except ImportError as error:
        raise NectarganError("drawing a log needs matplotlib; pip install 'nectargan-core[cli]' brings it") from error
    points = _ALL_POINTS // max(1, sum(len(log.names) for log in runs.values()))
    points = min(_MOST_POINTS, max(_FEWEST_POINTS, points))
    found = panels(runs, query=query, by=by, smooth=smooth, points=points)
    if not found:
        named = (repr(label or str(log._path)) for label, log in runs.items())
        raise LossLogError(f"there are no records to draw yet in {', '.join(named)}")
    titles = list(runs)
    if len(runs) == 1 and (ranks := ranks_of(runs[titles[0]])):
        titles = [f"{titles[0]} ({ranks})" if titles[0] else ranks]
    return draw(found, titles, by), found


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, in the format that its suffix names.

    Raises:
        OSError: If it cannot be written.
        ValueError: If there is no such format.
    """
    figure.savefig(path, dpi=min(_DPI, _PIXELS / max(figure.get_size_inches())))
