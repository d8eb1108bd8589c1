"""Draws the curves of runs with matplotlib, as a figure that a notebook shows and a file holds."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nectargan_core._printable import printable
from nectargan_core.log._curves import LARGEST_DRAWN, Curve, Panel, needs_log

_STYLES = ("-", "--", ":", "-.")
# Of so few records each is marked, since a line through them would not say where they are.
_FEW = 60
# Inches: a cell without its legend, and a line of a legend.
_CELL = (6.2, 2.9)
_LINE = 0.145
# So many entries has a legend at most; the others are counted.
_ENTRIES = 36
# Longer names are cut in their middle.
_LONGEST = 30
# No logarithmic axis goes further below what is usual.
_BELOW = 1e-4


class LossFigure(Figure):
    """A figure that notebooks show also where nothing has told them how, as pyplot would; pyplot does not keep it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def draw(found: Sequence[Panel], runs: Sequence[str], by: str) -> LossFigure:
    """Return a figure of panels.

    Of one run each panel has its axes, with a colour for each loss. To compare several, each loss has axes of its own,
    with a colour for each run. Splits differ by the style of the line. The records are drawn pale, and the smoothed
    line above them; what is nan or infinite is a gap, with a red mark at the bottom.

    Args:
        found: At least one panel.
        runs: The labels of the runs. That of a single one is the title.
        by: What stands at the axis of the positions.
    """
    is_comparison = len(runs) > 1
    cells = list(_one_a_name(found)) if is_comparison else [_titled(panel) for panel in found]
    colours = _colours(runs if is_comparison else _bases(found))
    styles = _split_styles(found)

    def look(curve: Curve) -> tuple[Any, str]:
        if is_comparison:
            return colours[curve.run], styles[curve.split]
        return mpl.rcParams["text.color"] if curve.is_sum else colours[curve.base], styles[curve.split]

    columns = 1 if len(cells) == 1 else 2 if len(cells) <= 8 or not is_comparison else 3
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(_height(cell, is_comparison) for cell in row) for row in rows]
    width = (8.6 if columns == 1 else _CELL[0] * columns) if not is_comparison else max(8.6, 4.6 * columns)
    figure = LossFigure(figsize=(width, sum(heights) + (0.7 if is_comparison else 0.3)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    extent = _extent(found)
    for index, cell in enumerate(cells):
        axes = figure.add_subplot(grid[index // columns, index % columns], xlim=extent)
        _draw_cell(axes, cell, look)
        axes.set_xlabel(by if index + columns >= len(cells) else "")
        if not is_comparison:
            _add_legend(axes, cell, look)
    if is_comparison:
        _add_legend_of_runs(figure, runs, colours, styles)
    elif runs[0]:
        _plain(figure.suptitle(" "), runs[0], longest=80)
    return figure


# What is drawn where


def _one_a_name(found: Sequence[Panel]) -> Iterable[Panel]:
    """Yield a panel for each name, in which there are all runs and splits; of a loss of two tags once."""
    seen: set[tuple[str, str]] = set()
    for panel in found:
        named: dict[str, list[Curve]] = {}
        for curve in panel.curves:
            named.setdefault(curve.base, []).append(curve)
        for base, curves in named.items():
            # Components and metrics have names of their own.
            title = {"weights": f"weight of {base}", "gradients": f"{panel.title} of {base}"}.get(panel.kind, base)
            if (panel.kind, title) not in seen:
                seen.add((panel.kind, title))
                yield Panel(title, panel.kind, tuple(curves), needs_log(curves))


def _titled(panel: Panel) -> Panel:
    return replace(panel, title=f"components of {panel.title}") if panel.kind == "components" else panel


def _extent(found: Sequence[Panel]) -> tuple[float, float]:
    """Return the ends of the axis of the positions, which all cells share."""
    curves = [curve for panel in found for curve in panel.curves]
    low, high = min(float(curve.x[0]) for curve in curves), max(float(curve.x[-1]) for curve in curves)
    room = 0.02 * (high - low) or 1.0
    return low - room, high + room


def _height(panel: Panel, is_comparison: bool) -> float:
    if is_comparison:
        return 2.5
    return max(_CELL[1], 0.5 + _LINE * min(len(panel.curves), _ENTRIES))


def _bases(found: Sequence[Panel]) -> list[str]:
    curves = [curve for panel in found for curve in panel.curves if not curve.is_sum]
    return list(dict.fromkeys(curve.base for curve in curves))


def _colours(names: Iterable[str]) -> dict[str, Any]:
    every = list(names)
    pairs = list(mpl.color_sequences["tab20"])
    table = [*pairs[::2], *pairs[1::2], *mpl.color_sequences["tab20b"], *mpl.color_sequences["tab20c"]]
    return {name: table[index % len(table)] for index, name in enumerate(every)}


def _split_styles(found: Sequence[Panel]) -> dict[str, str]:
    splits = sorted({curve.split for panel in found for curve in panel.curves})
    # Where there is no training to tell it from, a split is no less a line.
    return {split: _STYLES[min(index, len(_STYLES) - 1)] for index, split in enumerate(splits)}


# A cell

_Look = Callable[[Curve], tuple[Any, str]]


def _draw_cell(axes: Axes, panel: Panel, look: _Look) -> None:
    _plain(
        axes.set_title(" ", loc="left", fontsize=10, fontweight="bold"),
        panel.title,
        longest=42 if panel.curves[0].run else 60,
    )
    many = len(panel.curves) > 8
    for curve in panel.curves:
        colour, style = look(curve)
        y = _drawable(curve.y)
        is_step = panel.kind == "weights"
        pale = curve.smooth is not None
        marker = "o" if len(curve.x) <= _FEW and not is_step and not pale else ""
        axes.plot(
            curve.x,
            y,
            color=colour,
            linestyle="-" if pale else style,
            linewidth=0.6 if pale else 1.4,
            alpha=(0.2 if many else 0.35) if pale else 0.9,
            marker=marker,
            markersize=3,
            drawstyle="steps-post" if is_step else "default",
            zorder=2,
        )
        alone = _alone(y)
        if not marker and alone.any():
            axes.plot(curve.x[alone], y[alone], ".", color=colour, markersize=2.5, zorder=2)
        if curve.smooth is not None:
            x, means = curve.smooth
            thick = 2.0 if curve.is_sum else 1.4
            axes.plot(x, _drawable(means), color=colour, linestyle=style, linewidth=thick, zorder=3)
        gaps = np.isnan(curve.y)
        if curve.nonfinite and gaps.any():
            at_the_bottom = axes.get_xaxis_transform()
            axes.plot(
                curve.x[gaps], np.zeros(int(gaps.sum())), "|", color="red", transform=at_the_bottom, clip_on=False
            )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _set_scale(axes, panel)
    _name_what_is_not_drawn(axes, panel)


def _set_scale(axes: Axes, panel: Panel) -> None:
    values = np.concatenate([_drawable(curve.y) for curve in panel.curves])
    values = values[np.isfinite(values)]
    positions = np.concatenate([curve.x for curve in panel.curves])
    # No step is a fraction.
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=bool((positions == np.floor(positions)).all())))
    axes.xaxis.set_major_formatter(FuncFormatter(_position))
    if panel.log_scale:
        positive = np.maximum(values[values > 0], 1 / LARGEST_DRAWN)
        bottom = max(float(positive.min()), float(np.percentile(positive, 5)) * _BELOW)
        # The limits first: matplotlib would look for some that it may not find.
        axes.set_ylim(bottom / 1.3, min(float(positive.max()) * 1.3, LARGEST_DRAWN))
        axes.set_yscale("log", nonpositive="clip")
        return
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    # An offset or a power beside the axis is easily overlooked.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    if not len(values):
        axes.set_yticks([])
        return
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low)
    if math.isclose(low, high, rel_tol=1e-6, abs_tol=1 / LARGEST_DRAWN):
        # By itself the axis would magnify the rounding errors of a constant.
        room = 0.1 * abs(high) if abs(high) > 1 / LARGEST_DRAWN else 1.0
    axes.set_ylim(low - room, high + room)


def _position(value: float, _: object) -> str:
    """Return the label of a step: 2,000 and 1.5M rather than 1.5e6."""
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value:,g}"


def _name_what_is_not_drawn(axes: Axes, panel: Panel) -> None:
    """Say what is not finite, and what is too large for an axis, in lines of their own below the title."""
    lines = []
    for what, counted in (
        ("nan or infinite", [(curve, curve.nonfinite) for curve in panel.curves if curve.nonfinite]),
        (f"drawn at {LARGEST_DRAWN:g}, but larger", [(curve, curve.beyond) for curve in panel.curves if curve.beyond]),
    ):
        named = [f"{_in_note(curve)} {count:,}" for curve, count in counted[:4]]
        more = f" and {len(counted) - 4} more" if len(counted) > 4 else ""
        if named:
            lines.append(_as_drawn(f"{what}: {', '.join(named)}{more}", longest=60))
    if not lines:
        return
    text = axes.set_title(" ", loc="right", fontsize=7, color="red")
    text.set_parse_math(False)
    text.set_text("\n".join(lines))
    axes.set_title(axes.get_title(loc="left") + "\n" * len(lines), loc="left", fontsize=10, fontweight="bold")


def _in_note(curve: Curve) -> str:
    # Where runs are compared, the title says the name.
    return " ".join(filter(None, (curve.run, curve.split))) if curve.run else curve.name


def _drawable(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.clip(values, -LARGEST_DRAWN, LARGEST_DRAWN)


def _alone(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which values have a gap on both sides: no line is drawn to them."""
    gap = np.concatenate(([True], np.isnan(values), [True]))
    alone: npt.NDArray[np.bool_] = ~gap[1:-1] & gap[:-2] & gap[2:]
    return alone


# Legends and text


def _add_legend(axes: Axes, panel: Panel, look: _Look) -> None:
    if len(panel.curves) == 1 and panel.curves[0].name == panel.title:
        return
    named = panel.curves if len(panel.curves) <= _ENTRIES else panel.curves[: _ENTRIES - 1]
    handles = [_line(*look(curve), 2.0 if curve.is_sum else 1.4) for curve in named]
    names = [curve.name for curve in named]
    if len(named) < len(panel.curves):
        handles.append(_line("none", "-", 0.0))
        names.append(f"and {len(panel.curves) - len(named)} more")
    _legend(axes, handles, names)


def _legend(axes: Axes, handles: Sequence[Line2D], names: Sequence[str]) -> None:
    # Names that begin with `_` would be left out, and `$` would begin a formula.
    legend = axes.legend(
        handles,
        ["x"] * len(names),
        loc="upper left",
        bbox_to_anchor=(1.0, 1.03),
        fontsize=7,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.8,
        labelspacing=0.25,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        _plain(text, name)


def _add_legend_of_runs(
    figure: Figure, runs: Iterable[str], colours: Mapping[str, Any], styles: Mapping[str, str]
) -> None:
    names = list(runs)
    handles = [_line(colours[run], "-", 2.0) for run in names]
    if len(styles) > 1:
        handles += [_line(mpl.rcParams["text.color"], style, 1.4) for style in styles.values()]
        names += [split or "training" for split in styles]
    # As many columns as the width has room for.
    longest = max(len(_cut(name, _LONGEST)) for name in names)
    columns = max(1, min(len(names), int(figure.get_figwidth() / (0.5 + 0.09 * longest))))
    legend = figure.legend(
        handles, ["x"] * len(names), loc="outside upper center", ncols=columns, frameon=False, fontsize=9
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        _plain(text, name)


def _line(colour: Any, style: Any, width: float) -> Line2D:
    return Line2D([], [], color=colour, linestyle=style, linewidth=width)


def _plain(text: Text, shown: str, longest: int = _LONGEST) -> None:
    """Let a text show a name as it is: it is no formula, and has no letter that the font lacks."""
    text.set_parse_math(False)
    text.set_text(_as_drawn(shown, longest))


def _as_drawn(shown: str, longest: int) -> str:
    return "".join(map(_with_glyph, _cut(printable(shown), longest)))


def _cut(name: str, longest: int) -> str:
    half = longest // 2 - 1
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


@cache
def _with_glyph(char: str) -> str:
    """Return a letter, or an escape of it where the font has none, which would be drawn as an empty box."""
    if char.isascii() or get_font(findfont(FontProperties())).get_char_index(ord(char)):
        return char
    return char.encode("unicode_escape").decode("ascii")
