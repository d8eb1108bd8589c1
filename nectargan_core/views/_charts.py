"""The curves of a report as plain data: what each chart shows, in so few points that a page can hold all of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nectargan_core._printable import printable
from nectargan_core.log import GRADIENTS, Curve, LossLog, Panel, PanelKind, extremes, panels

_Floats: TypeAlias = "npt.NDArray[np.float64]"

# So many bytes all curves together may have. The plotting library has 4.8 MB, and a report is to have less than 6 MB.
_BYTES = 700_000
# A point is two numbers of four bytes, and base64 makes four bytes of three.
_BYTES_OF_POINT = 8 * 4 / 3
# No picture shows more points than this.
_MOST_POINTS = 3000
_FEWEST_POINTS = 40
# So many curves can have the fewest points.
_MOST_CURVES = 1000
# Of the points of a curve, the part that its smoothed line has.
_SMOOTH_SHARE = 0.25

_DECADES = 30.0
_SHARES = GRADIENTS["grad_share"]
_LARGEST_SINGLE = 1e37

# What a reader looks for first stands first, and is left out last.
_SECTIONS: dict[PanelKind, str] = {
    "losses": "Losses (weighted)",
    "metrics": "Metrics",
    "weights": "Weights",
    "gradients": "What pulls how hard",
    "components": "Components",
}


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves that are drawn in one picture.

    Args:
        title: What it shows.
        curves: The curves.
        log_scale: Whether its values begin on a logarithmic axis.
        steps: Whether a value stands until the next one.
        folded: What to call the charts that this one is folded away with; empty for one that is in sight.
    """

    title: str
    curves: tuple[Curve, ...]
    log_scale: bool
    steps: bool
    folded: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """Charts of one kind.

    Args:
        title: What they show.
        kind: The kind of their panels.
        charts: The charts.
    """

    title: str
    kind: PanelKind
    charts: tuple[Chart, ...]


def sections_of(logs: Mapping[str, LossLog]) -> tuple[list[Section], list[str]]:
    """Return the curves of runs, and what is to be said of those that are left out.

    Of one run a chart has the losses of a tag; of several runs it has one loss, with a curve for each run.
    """
    expected = sum(len(log.names) for log in logs.values())
    points = _points(max(1, round(1.3 * expected)))
    found = panels(logs, points=points)
    by_kind = {kind: [panel for panel in found if panel.kind == kind] for kind in _SECTIONS}
    notes: list[str] = []
    for kind, title in reversed(_SECTIONS.items()):
        count = sum(len(panel.curves) for of_kind in by_kind.values() for panel in of_kind)
        here = sum(len(panel.curves) for panel in by_kind[kind])
        if count > _MOST_CURVES and here and here < count:
            by_kind[kind] = []
            notes.append(
                f"{title}: {here:,} curves are not drawn, since there are {count:,} in all, and a page holds about "
                f"{_MOST_CURVES}; give fewer runs, or see `nectargan log plot`"
            )
    split = len(logs) > 1
    sections = []
    for kind, title in _SECTIONS.items():
        # Those in sight stand before those that are folded away.
        charts = sorted(_charts(by_kind[kind], split), key=lambda chart: bool(chart.folded))
        if charts:
            sections.append(Section(title, kind, tuple(charts)))
    return sections, notes


def _points(curves: int) -> int:
    fitting = int((1 - _SMOOTH_SHARE) * _BYTES / _BYTES_OF_POINT / curves)
    return min(_MOST_POINTS, max(_FEWEST_POINTS, fitting))


def _charts(of_kind: Iterable[Panel], split: bool) -> Iterable[Chart]:
    seen: set[tuple[str, str]] = set()
    for panel in of_kind:
        steps = panel.kind == "weights"
        # Charts for each loss of each kind of gradient are many; the shares say the most.
        is_folded = panel.kind == "components" or (split and panel.kind == "gradients" and panel.title != _SHARES)
        folded = panel.title if is_folded else ""
        if not split:
            yield Chart(panel.title, panel.curves, panel.log_scale, steps, folded)
            continue
        curves: dict[str, list[Curve]] = {}
        for curve in panel.curves:
            curves.setdefault(curve.base, []).append(curve)
        for name, of_name in curves.items():
            title = f"{panel.title}: {name}" if panel.kind == "gradients" else name
            # A loss of two tags is in two panels, and one chart.
            if (panel.kind, title) not in seen:
                seen.add((panel.kind, title))
                yield Chart(title, tuple(of_name), panel.log_scale and _spans_decades(of_name), steps, folded)


def _spans_decades(curves: Iterable[Curve]) -> bool:
    """Whether some curves of a panel need its logarithmic axis also where they are alone."""
    drawn = np.concatenate([curve.y if curve.smooth is None else curve.smooth[1] for curve in curves])
    drawn = drawn[drawn > 0]
    return bool(len(drawn)) and bool(drawn.max() > _DECADES * drawn.min())


def as_data(sections: Sequence[Section], runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the charts as JSON holds them, in the order of the sections."""
    charts = [chart for section in sections for chart in section.charts]
    first = [section.charts[0] for section in sections]
    count = max(1, sum(len(chart.curves) for chart in charts))
    smooth = int(min(500, max(10, _SMOOTH_SHARE * _BYTES / _BYTES_OF_POINT / count)))
    return [
        {
            "title": printable(chart.title),
            "log": chart.log_scale,
            "steps": chart.steps,
            "first": chart in first,
            "empty": not any(np.isfinite(curve.y).any() for curve in chart.curves),
            "curves": [_curve(curve, runs, smooth) for curve in chart.curves],
        }
        for chart in charts
    ]


def _curve(curve: Curve, runs: Sequence[str], smooth: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": printable(curve.name),
        "run": runs.index(curve.run) if curve.run in runs else 0,
        "split": printable(curve.split),
        "x": _packed(curve.x, exact=True),
        "y": _packed(curve.y),
        "n": len(curve.x),
    }
    if curve.is_sum:
        data["sum"] = True
    if curve.nonfinite:
        data["gaps"] = curve.nonfinite
    if curve.smooth is not None:
        x, y = curve.smooth
        # A smoothed line has no peaks, but may have gaps.
        kept = np.arange(len(x)) if len(x) <= smooth else extremes(y, smooth)
        data |= {"smooth_x": _packed(x[kept], exact=True), "smooth_y": _packed(y[kept])}
    return data


def _packed(values: _Floats, exact: bool = False) -> dict[str, str]:
    """Return numbers as plotly reads them, in four bytes each where nothing is lost that a picture could show.

    Args:
        values: The numbers.
        exact: Whether neighbours must not become the same, as those of steps.

    Example:
        >>> _packed(np.array([0.0, 1.0, 2.0]), exact=True)
        {'dtype': 'i4', 'bdata': 'AAAAAAEAAAACAAAA'}
    """
    finite = np.abs(values[np.isfinite(values)])
    dtype = "<f8"
    if exact:
        if bool((values == np.round(values)).all()) and finite.max(initial=0.0) < 2**31:
            dtype = "<i4"
    elif finite.max(initial=0.0) < _LARGEST_SINGLE and finite[finite > 0].min(initial=1.0) > 1 / _LARGEST_SINGLE:
        dtype = "<f4"
    return {"dtype": dtype[1:], "bdata": base64.b64encode(values.astype(dtype).tobytes()).decode()}
