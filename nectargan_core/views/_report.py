"""`write_report`: runs as one page that opens in a browser without a network, with curves, pictures and objectives."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import listed, shown
from nectargan_core._printable import printable
from nectargan_core._writing import replace_file
from nectargan_core.errors import NectarganError
from nectargan_core.log import time_of
from nectargan_core.objectives import Objective
from nectargan_core.views._charts import Section, as_data, sections_of
from nectargan_core.views._compare import Comparison, compare_opened, recorded_of
from nectargan_core.views._pictures import Pictures, PictureSeries, series_of
from nectargan_core.views._runs import Paths, Run, open_runs
from nectargan_core.views._tables import (
    Table,
    html_table,
    safe,
    table_of_differences,
    table_of_runs,
    table_of_values,
    turned,
)

# Of more runs than these, tables have a row for each, and no column.
_FEW_RUNS = 4
# A browser shows a file without a suffix by what is in it.
_SUFFIXES = (".html", ".htm", "")
_TEMPLATES = Path(__file__).parent / "templates"
# The page itself can load nothing from anywhere.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(runs: Paths, path: str | os.PathLike[str], pictures: Pictures | None = None) -> None:
    """Write runs as one HTML file, which opens in any browser and loads nothing.

    It has curves of losses, metrics, weights that change and recorded gradients, which one can zoom and hide; tables of
    the runs and of what differs; the pictures of the runs; and the objective of each. It has less than 6 MB plus
    pictures, however long the logs are; the largest and smallest values are kept, and nan is a gap.

    Args:
        runs: The directory of a run, or its log, also NectarGAN's own; several of them; or a mapping from labels to
            them.
        path: The file, of a name that ends with `.html` or `.htm`, or has no suffix. One that is there is replaced when
            the new one is complete, and keeps its mode; through a symlink the file is written that it leads to.
        pictures: Paths of PNG, JPEG, GIF or WebP pictures, or a mapping from captions to paths. Those whose names
            differ in numbers only are shown in one place, with a slider. None: `grids/*.png` in the directory of each
            run.

    Raises:
        LossLogError: If there is no log at one of the runs.
        NectarganError: If plotly is not installed, a picture that was given cannot be shown, or the file cannot be
            written.
        TypeError: If a run, the file or a picture is no path.
        ValueError: If no run is given, or one is given twice, or the path is none of a page.

    Example:
        >>> import tempfile, torch
        >>> from nectargan_core import LossManager
        >>> directory = Path(tempfile.mkdtemp())
        >>> with LossManager(experiment_dir=directory) as manager:
        ...     manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        ...     for step in range(3):
        ...         manager.tick()
        ...         _ = manager.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1) / (step + 1))
        >>> write_report(directory, directory / "report.html")
        >>> (directory / "report.html").stat().st_size < 6_000_000
        True
    """
    file = file_of_page(path)
    library = _library()
    opened = open_runs(runs)
    comparison = compare_opened(opened, None, None)
    of_runs, of_pictures = series_of(opened, pictures)
    labels = [run.label for run in opened]
    sections, of_charts = sections_of({run.label: run.log for run in opened})
    objectives = {run.label: next(reversed(run.objectives()[0]), None) for run in opened}
    notes = [*comparison.notes, *of_charts, *of_pictures]
    data = {
        "runs": [printable(label) for label in labels],
        "range": _range(sections),
        "charts": as_data(sections, labels),
        # The last one stands in the page itself.
        "pictures": [
            [
                *({"caption": printable(each.caption), "uri": each.uri} for each in one.pictures[:-1]),
                {"caption": printable(one.pictures[-1].caption)},
            ]
            for one in of_runs
        ],
    }
    body = "\n".join(_body(opened, comparison, sections, of_runs, objectives, notes))
    try:
        replace_file(file, _page(_title(labels), body, data, library).encode())
    except OSError as error:
        raise NectarganError(f"cannot write {file}: {error.strerror or error}") from error


def file_of_page(path: str | os.PathLike[str]) -> Path:
    """Return the file that a report is written to.

    Raises:
        TypeError: If it is no path.
        ValueError: If it has no name, or a name that no browser would open as a page.

    Example:
        >>> file_of_page("report.html").name
        'report.html'
    """
    file = arguments.path("path", path)
    if not file.name or not os.fspath(path):
        raise ValueError(f"a report needs the name of a file, such as report.html, got {shown(os.fspath(path))}")
    if file.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            "a report is an HTML page, which a browser knows by its name; write it to "
            f"{file.with_suffix('.html').name}, and not to {file.name}"
        )
    return file


def _library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise NectarganError("a report needs plotly; pip install 'nectargan-core[cli]' brings it") from error
    library: str = get_plotlyjs()
    return library


def _title(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    return f"{len(labels)} runs: {listed(labels)}" if len(labels) <= _FEW_RUNS else f"{len(labels)} runs"


def _range(sections: Sequence[Section]) -> list[float]:
    """Return where the axis of the steps begins and ends, the same in all charts."""
    curves = [curve for section in sections for chart in section.charts for curve in chart.curves]
    if not curves:
        return [0.0, 1.0]
    low, high = min(float(curve.x[0]) for curve in curves), max(float(curve.x[-1]) for curve in curves)
    room = 0.01 * (high - low) or 0.5
    return [low - room, high + room]


def _page(title: str, body: str, data: Any, library: str) -> str:
    # What a name says must not end the script that it stands in.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    css, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{safe(title)} - NectarGAN</title>
<style>
{css}</style>
</head>
<body>
<h1>{safe(title)}</h1>
{body}
<noscript><p>The curves need JavaScript.</p></noscript>
<script type="application/json" id="data">{text}</script>
<script>{library}</script>
<script>
{script}</script>
</body>
</html>
"""


def _body(
    opened: Sequence[Run],
    comparison: Comparison,
    sections: Sequence[Section],
    pictures: Sequence[PictureSeries],
    objectives: Mapping[str, Objective | None],
    notes: Sequence[str],
) -> Iterator[str]:
    written = time.strftime("%Y-%m-%d %H:%M")
    yield f'<p class="quiet">Written {written} by nectargan-core {safe(version("nectargan-core"))}</p>'
    several = len(comparison.runs) > 1
    parts = [("Runs" if several else "Run", "".join(_runs(opened, comparison, notes)))]
    if pictures:
        parts.append(("Pictures", "".join(_pictures(pictures))))
    number = 0
    for section in sections:
        parts.append((section.title, "".join(_charts(section, number))))
        number += len(section.charts)
    if not sections:
        parts.append(("Curves", '<p class="quiet">There are no records to draw yet.</p>'))
    parts.append(("Objectives" if several else "Objective", "".join(_objectives(objectives))))
    links = (f'<a href="#part{index}">{safe(title)}</a>' for index, (title, _) in enumerate(parts))
    yield f"<nav>{' '.join(links)}</nav>"
    for index, (title, html) in enumerate(parts):
        yield f'<section><h2 id="part{index}">{safe(title)}</h2>\n{html}</section>'


def _runs(opened: Sequence[Run], comparison: Comparison, notes: Sequence[str]) -> Iterator[str]:
    runs = table_of_runs(comparison)
    started = [time_of(run.log.header.get("started")) or "" for run in opened]
    if any(started):
        runs.headings.insert(1, "started")
        for row, text in zip(runs.rows, started, strict=True):
            row.insert(1, text)
    several = len(comparison.runs) > 1
    yield _wide(html_table(runs, swatches=several))
    if notes:
        yield f'<ul class="notes">{"".join(f"<li>{safe(note)}</li>" for note in notes)}</ul>'
    values = table_of_values(comparison)
    if values.rows:
        yield f"<h3>{safe(values.title)}</h3>"
        yield _wide(html_table(turned(values, "run") if len(comparison.runs) > _FEW_RUNS else values))
    if not several:
        said = [
            [kind, name, value] for kind, values in recorded_of(opened[0]).items() for name, value in values.items()
        ]
        if said:
            yield "<h3>Metadata and other facts</h3>"
            yield _wide(html_table(Table("", ["what", "of", "value"], said)))
        return
    yield "<h3>What differs</h3>"
    differences = table_of_differences(comparison)
    if differences.rows and len(comparison.runs) > _FEW_RUNS:
        named = [[f"{kind} {name}", *values] for kind, name, *values in differences.rows]
        table = Table(differences.title, ["", *differences.headings[2:]], named)
        yield _wide(html_table(turned(table, "run")))
    elif differences.rows:
        yield _wide(html_table(differences))
    else:
        yield "<p>Nothing differs in what the logs say of the objectives, the metadata and the runs.</p>"


def _charts(section: Section, first: int) -> Iterator[str]:
    if section.kind == "losses":
        yield (
            '<p class="quiet">Drag to zoom all charts, double-click to zoom out. Click a name in a legend to hide its '
            "curve.</p>"
        )
    if section.kind == "gradients":
        yield (
            '<p class="quiet">Gradients of the weighted losses: their norms, their shares of the sum of the norms, and '
            "the cosines with the gradient of the total.</p>"
        )
    for folded, charts in groupby(enumerate(section.charts, first), key=lambda numbered: numbered[1].folded):
        numbered = list(charts)
        one = " one" if len(numbered) == 1 else ""
        html = f'<div class="charts{one}">{"".join(_chart(chart.title, number) for number, chart in numbered)}</div>'
        yield f"<details><summary>{safe(folded)} ({len(numbered)})</summary>{html}</details>" if folded else html


def _chart(title: str, number: int) -> str:
    return (
        f'<div class="chart"><div class="chart-head"><h3>{safe(title)}</h3>'
        '<button type="button" class="scale" aria-pressed="false">log scale</button>'
        f'</div><div class="plot" data-chart="{number}"></div></div>'
    )


def _pictures(pictures: Sequence[PictureSeries]) -> Iterator[str]:
    yield '<div class="pictures">'
    for number, series in enumerate(pictures):
        last = series.pictures[-1]
        slider = ""
        if len(series.pictures) > 1:
            end = len(series.pictures) - 1
            slider = f'<input type="range" min="0" max="{end}" value="{end}" aria-label="{safe(series.title)}">'
        of = len(series.pictures) + series.left_out
        left_out = f" ({len(series.pictures)} of {of} pictures are here)" if series.left_out else ""
        yield (
            f'<figure data-series="{number}"><img alt="{safe(last.caption)}" src="{last.uri}">{slider}'
            f"<figcaption><span>{safe(last.caption)}</span>{left_out}</figcaption></figure>"
        )
    yield "</div>"


def _objectives(objectives: Mapping[str, Objective | None]) -> Iterator[str]:
    """Yield each objective once, with the runs that had it."""
    runs: dict[str, list[str]] = {}
    for label, objective in objectives.items():
        html = '<p class="quiet">The log has no record of it.</p>' if objective is None else objective._repr_html_()
        runs.setdefault(_wide(html), []).append(label)
    for html, labels in runs.items():
        opened = " open" if len(runs) <= _FEW_RUNS else ""
        summary = f"<summary>{safe(listed(labels))}</summary>"
        yield f"<details{opened}>{summary}{html}</details>" if len(objectives) > 1 else html


def _wide(table: str) -> str:
    return f'<div class="wide">{table}</div>' if table else ""
