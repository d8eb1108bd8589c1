"""Draw every curve that comes with this project, with the page that shows them, and the run of the quickstart."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nectargan_core import LossLog, Schedule, catalog, plot

GALLERY = Path(__file__).parent / "gallery"
QUICKSTART = Path(__file__).parent / "quickstart.md"

LONGEST = 120  # characters of code that fit a window of 1300 pixels

FROM_10_TO_1: dict[str, Any] = {"start": 20, "end": 80, "initial_value": 10.0, "target_value": 1.0}
FROM_1_TO_0: dict[str, Any] = {"end": 100, "initial_value": 1.0, "target_value": 0.0}

SHOWN = [
    (Schedule("linear", **FROM_10_TO_1), 100),
    (Schedule("exponential", **FROM_10_TO_1), 100),
    (Schedule("cosine", **FROM_10_TO_1), 100),
    (Schedule("cosine-restarts", end=70, target_value=0.0, params={"period": 10, "multiplier": 2}), 80),
    (Schedule("polynomial", **FROM_10_TO_1, params={"power": 3.0}), 100),
    (Schedule("sigmoid", **FROM_10_TO_1, params={"steepness": 12.0}), 100),
    (Schedule("step", initial_value=8.0, target_value=1.0, params={"every": 20, "gamma": 0.5}), 100),
    (Schedule("multistep", params={"milestones": [30, 60, 80], "gamma": 0.5}), 100),
    (Schedule("inverse-sqrt", unit="step", params={"warmup": 400}), 4000),
    (Schedule("warmup-cosine", **FROM_1_TO_0, params={"warmup": 10}), 100),
    (Schedule("one-cycle", unit="fraction", end=1, initial_value=1.0, target_value=0.0), 100),
    (Schedule("cyclic", start=10, end=90, initial_value=0.1, target_value=1.0, params={"period": 20}), 100),
    (Schedule("window", start=30, end=60, initial_value=0.0, target_value=1.0), 100),
    (Schedule("every", unit="step", initial_value=0.0, target_value=16.0, params={"n": 16}), 100),
    (Schedule("constant", initial_value=1.0), 100),
    (Schedule("piecewise-linear", params={"points": [[0, 0.0], [10, 1.0], [60, 0.6], [80, 0.0]]}), 100),
    (
        Schedule(
            "sequence",
            params={
                "parts": [
                    Schedule("linear", end=10, initial_value=0.0),
                    Schedule("cosine", start=40, end=90, target_value=0.0),
                ]
            },
        ),
        100,
    ),
    (
        Schedule(
            "product",
            params={
                "factors": [
                    Schedule("cosine", end=100, target_value=0.0),
                    Schedule("cyclic", initial_value=0.5, params={"period": 10}),
                ]
            },
        ),
        100,
    ),
]


def draw_run() -> None:
    """Run the program of the quickstart with its second objective, and draw its log."""
    page = QUICKSTART.read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(# first\.py\n.*?)```", page, re.DOTALL)
    (formula,) = re.findall(r'python first\.py "(.*)" runs/second', page)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "first.py").write_text(program, encoding="utf-8")
        command = [sys.executable, "first.py", formula, "second"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - a page of our own
        LossLog(Path(place) / "second").plot().savefig(GALLERY / "run.png", dpi=100)


def draw_curves() -> None:
    """Draw every curve, and write the page, into `docs/gallery`."""
    own = {
        entry.plugin.name
        for entry in catalog.plugins(catalog.SCHEDULES)
        if entry.plugin.key in ("nectargan-core", "nectargan-schedules")
    }
    if missing := own - {str(schedule.schedule) for schedule, _ in SHOWN}:
        raise SystemExit(f"the gallery shows no {', '.join(sorted(missing))}; add them to {__file__}")
    GALLERY.mkdir(exist_ok=True)
    page = [
        "# Schedules gallery",
        "",
        "Each curve that comes with this project, drawn from the definition above it. The formulas are in",
        "[schedules](../schedules.md#the-curves); dotted lines are start and end.",
        "",
        *(f'[![{name}]({name}.png){{w="24%"}}](#{name})' for name in (str(schedule.schedule) for schedule, _ in SHOWN)),
    ]
    for schedule, epochs in SHOWN:
        name = str(schedule.schedule)
        plot(schedule, epochs, GALLERY / f"{name}.png")
        summary = (inspect.getdoc(catalog.find(catalog.SCHEDULES, name).load()) or "").splitlines()[0]
        definition = schedule.model_dump_json(exclude_defaults=True)
        if len(definition) > LONGEST:
            definition = schedule.model_dump_json(exclude_defaults=True, indent=1)
        page += ["", f"## {name}", "", summary, "", "```json", definition, "```", "", f"![{name}]({name}.png)"]
    (GALLERY / "index.md").write_text("\n".join(page) + "\n", encoding="utf-8")


def main() -> None:
    """Draw everything."""
    draw_curves()
    draw_run()


if __name__ == "__main__":
    main()
