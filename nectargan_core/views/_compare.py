"""`compare`: runs beside each other, with the best values of a metric, last values, and what differs between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import UnknownLossError
from nectargan_core.log import Kind, Value, entries
from nectargan_core.objectives import Objective, value_of
from nectargan_core.views._runs import Paths, Run, named, open_runs
from nectargan_core.views._series import ComparedSeries, is_better_high, summarize

# What says where the numbers come from, and not what they are; stands last.
_OF_ORIGIN = ("order", "provider", "version")
# What a header says of a run beside its objective and its metadata.
_FACTS = ("device", "dataroot", "dataset_length", "world_size", "total_epochs", "total_steps")


@dataclass(frozen=True)
class RunDifference:
    """Something in which runs differ.

    Args:
        kind: What differs: a kind of `Difference`, `"metadata"`, `"run"` (what else the log says of it), or
            `"objective"` where a run has recorded none.
        name: Of what.
        values: What each run has, in the order of the runs.
    """

    kind: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ComparedRun:
    """What is said of one run.

    Args:
        label: What it is called: so many of the last parts of its path as tell it from the others.
        path: The directory or log.
        best: The best value of the metric, with its step and epoch; None where there is none.
        steps: How many steps it has made, 0 of a log without records.
        epochs: How many epochs it was in, 0 likewise.
        seconds: How long it took, without the time between its end and where it was resumed; None where that is not
            known.
        resumed: How often it was resumed.
        ranks: The ranks whose logs are there.
        series: What is said of each name in its log: `kind`, `records`, and `last`, `lowest` and `highest`, of which
            each has `value`, `step` and `epoch`.
    """

    label: str
    path: str
    best: Value | None
    steps: int
    epochs: int
    seconds: float | None
    resumed: int
    ranks: tuple[int, ...]
    series: Mapping[str, ComparedSeries]


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other, as `compare` returns them.

    In a notebook it is shown as tables.

    Args:
        metric: The metric that was asked for, None if none was.
        best: Whether its lowest (`"min"`) or highest (`"max"`) value is the best one; None without a metric.
        runs: The runs; with a metric, the one with the best value first. Each has `label`, `path`, `best`, `steps`,
            `epochs`, `seconds`, `resumed`, `ranks`, and `series`, what is said of each name in its log.
        differences: In what the runs differ, each with `kind`, `name` and the `values` in the order of the runs: first
            what affects numbers, then metadata and other facts, and last where things come from.
        notes: What else there is to say, such as how often a loss was nan.
    """

    metric: str | None
    best: Literal["min", "max"] | None
    runs: tuple[ComparedRun, ...]
    differences: tuple[RunDifference, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, which JSON holds: what `nectargan log compare --json` prints."""
        return {
            "metric": self.metric,
            "best": self.best,
            "runs": [_plain(run) for run in self.runs],
            "differences": [asdict(each) | {"values": list(each.values)} for each in self.differences],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        from nectargan_core.views._tables import as_html

        return as_html(self)


def compare(runs: Paths, metric: str | None = None, best: Literal["min", "max"] | None = None) -> Comparison:
    """Compare runs by their logs: the best value of a metric, last values, and what differs in their objectives.

    Values are unweighted, so that runs with other weights or schedules compare. Of a loss of the training, in a run of
    several epochs, the mean of each epoch counts; of everything else, such as the losses of a split and recorded
    scalars, the mean of each step. Means are weighted by the sizes of the batches where the log has them.

    Args:
        runs: The directory of a run, or its log, also NectarGAN's own; several of them; or a mapping from labels to
            them.
        metric: A name in the logs, such as `"val/psnr"`.
        best: Whether the lowest or the highest value of the metric is the best one. None: of losses the lowest; of a
            recorded scalar what its name suggests (`psnr` is better high), which `notes` then says.

    Returns:
        What there is to say of each run, the best one first, and in what they differ.

    Raises:
        UnknownLossError: If no run has the metric.
        LossLogError: If there is no log at one of the paths.
        TypeError: If a run is no path, or the metric no str.
        ValueError: If no run is given, one is given twice, or `best` is something else, or is given without a metric.

    Example:
        >>> import tempfile, torch
        >>> from nectargan_core import LossManager
        >>> place = tempfile.mkdtemp()
        >>> for weight in (1.0, 10.0):
        ...     with LossManager(experiment_dir=f"{place}/{weight:g}") as manager:
        ...         manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=weight)
        ...         for step in range(3):
        ...             manager.tick()
        ...             _ = manager.compute_loss_xy("G_L1", torch.zeros(1), torch.tensor([weight / (step + 1)]))
        >>> found = compare([f"{place}/1", f"{place}/10"], metric="G_L1")
        >>> [(run.label, round(run.best.value, 3), run.best.step) for run in found.runs]
        [('1', 0.333, 2), ('10', 3.333, 2)]
        >>> found.differences[0]
        RunDifference(kind='weight', name='G_L1', values=('1', '10'))
    """
    if metric is not None:
        arguments.text("metric", metric)
    elif best is not None:
        raise ValueError(f"best={best!r} is of a metric; give metric=, such as metric='val/psnr'")
    if best is not None:
        arguments.one_of("best", best, ("min", "max"))
    return compare_opened(open_runs(runs), metric, best)


def compare_opened(runs: Sequence[Run], metric: str | None, best: Literal["min", "max"] | None) -> Comparison:
    """Compare runs whose logs are open."""
    _check_metric(runs, metric)
    found = [_compared(run) for run in runs]
    notes: list[str] = []
    if metric is not None:
        best, said = _direction(metric, best, found)
        notes += said
        found = [_with_best(run, metric, best) for run in found]
        sign = 1 if best == "min" else -1
        order = sorted(
            range(len(found)), key=lambda index: math.inf if (at := found[index].best) is None else sign * at.value
        )
        found, runs = [found[index] for index in order], [runs[index] for index in order]
    objectives = [run.objectives() for run in runs]
    differences = _differences(runs, [objective[-1] if objective else None for objective, _ in objectives])
    for run, compared, (recorded, wrong) in zip(runs, found, objectives, strict=True):
        notes += _notes(run, compared, metric, recorded, wrong)
    return Comparison(metric, best, tuple(found), tuple(differences), tuple(notes))


def _check_metric(runs: Sequence[Run], metric: str | None) -> None:
    known = tuple(dict.fromkeys(name for run in runs for name in run.log.names))
    if metric is not None and metric not in known:
        of = "the run" if len(runs) == 1 else f"none of the {len(runs)} runs"
        has = "has no records" if len(runs) == 1 else "has records"
        raise UnknownLossError(
            f"{of} {has} of {metric!r}; there are {listed(known)}.{did_you_mean(metric, known)}",
            name=metric,
            known=known,
        )


def _compared(run: Run) -> ComparedRun:
    log = run.log
    series: dict[str, ComparedSeries] = {}
    last_step, first_epoch, last_epoch = -1, math.inf, -math.inf
    for entry in entries(log):
        records = log._passing(entry.name)
        if not len(records):
            continue
        last_step = max(last_step, int(records.step.max()))
        first_epoch = min(first_epoch, float(records.epoch.min()))
        last_epoch = max(last_epoch, float(records.epoch.max()))
        is_noisy = entry.kind in ("loss", "component") and not entry.split
        several = math.floor(records.epoch.max()) > math.floor(records.epoch.min())
        series[entry.name] = summarize(records, entry.kind, by_epoch=is_noisy and several)
    return ComparedRun(
        label=run.label,
        path=str(run.path),
        best=None,
        steps=last_step + 1,
        epochs=math.floor(last_epoch) - math.floor(first_epoch) + 1 if series else 0,
        seconds=log.duration,
        resumed=max(0, len(log.headers) - 1),
        ranks=log.ranks,
        series=series,
    )


def _direction(
    metric: str, best: Literal["min", "max"] | None, runs: Iterable[ComparedRun]
) -> tuple[Literal["min", "max"], list[str]]:
    if best is not None:
        return best, []
    kinds: set[Kind] = {run.series[metric].kind for run in runs if metric in run.series}
    if kinds != {"metric"}:
        return "min", []
    if is_better_high(metric):
        return "max", [f"the highest {metric} counts as the best, by its name"]
    return "min", [f"the lowest {metric} counts as the best"]


def _with_best(run: ComparedRun, metric: str, best: Literal["min", "max"]) -> ComparedRun:
    summary = run.series.get(metric)
    value = None if summary is None else summary.lowest if best == "min" else summary.highest
    return replace(run, best=value)


def _notes(
    run: Run, compared: ComparedRun, metric: str | None, objectives: Sequence[Objective], wrong: Iterable[str]
) -> Iterator[str]:
    if not compared.series:
        yield f"{run.label}: its log has no records yet"
    elif metric is not None and metric not in compared.series:
        hint = did_you_mean(metric, compared.series)
        yield f"{run.label}: it has no records of {metric}{'.' if hint else ''}{hint}"
    # The cosine of a gradient that is 0 is nan, which says nothing.
    wrong_values = [
        f"{name} in {summary.nonfinite:,} of {summary.records:,} records"
        for name, summary in compared.series.items()
        if summary.nonfinite and summary.kind != "gradient"
    ]
    if wrong_values:
        yield f"{run.label}: nan or infinite, and left out: {listed(wrong_values)}"
    for before, after in pairwise(objectives):
        differences = [each for each in before.differences(after) if each.kind not in _OF_ORIGIN]
        if differences:
            yield f"{run.label}: it was resumed with another objective: {named(differences)}"
    for reason in wrong:
        yield f"{run.label}: what its log says of its objective cannot be read: {reason}"


# What differs


def _differences(runs: Sequence[Run], objectives: Sequence[Objective | None]) -> list[RunDifference]:
    if len(runs) < 2:
        return []
    of_objectives = _of_objectives(objectives)
    recorded = [recorded_of(run) for run in runs]
    of_metadata = _of_values("metadata", [each["metadata"] for each in recorded])
    of_facts = _of_values("run", [each["run"] for each in recorded])
    origin = [each for each in of_objectives if each.kind in _OF_ORIGIN]
    return [
        *(each for each in of_objectives if each.kind not in _OF_ORIGIN),
        *of_metadata,
        *of_facts,
        *sorted(origin, key=lambda each: _OF_ORIGIN.index(each.kind)),
    ]


def _of_objectives(objectives: Sequence[Objective | None]) -> list[RunDifference]:
    """Compare each objective with the first one that was recorded; others that agree with it have its value."""
    recorded = [objective for objective in objectives if objective is not None]
    if not recorded:
        return []
    first = recorded[0]
    values: dict[tuple[str, str], list[str]] = {}
    for index, objective in enumerate(objectives):
        for each in first.differences(objective) if objective is not None else ():
            row = values.setdefault((each.kind, each.name), [each.before] * len(objectives))
            row[index] = each.after
    rows = [RunDifference(kind, name, tuple(row)) for (kind, name), row in values.items()]
    if len(recorded) < len(objectives):
        names = ["not recorded" if each is None else each.name or "recorded, without a formula" for each in objectives]
        known = [each is not None for each in objectives]
        rows = [
            replace(row, values=tuple(v if k else "not recorded" for k, v in zip(known, row.values, strict=True)))
            for row in rows
        ]
        return [RunDifference("objective", "the run", tuple(names)), *rows]
    return rows


def recorded_of(run: Run) -> dict[str, dict[str, str]]:
    """Return what the log of a run says of it beside its objective: the metadata, and other facts, by their kinds."""
    header = run.log.headers[-1] if run.log.headers else {}
    return {"metadata": _flat(header.get("metadata")), "run": _facts(header)}


def _facts(header: Mapping[str, Any]) -> dict[str, str]:
    return _flat({name: header[name] for name in _FACTS if header.get(name) is not None})


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {
            place: text
            for key, item in value.items()
            for place, text in _flat(item, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value if isinstance(value, str) else value_of(value)} if name else {}


def _of_values(kind: str, values: Sequence[Mapping[str, str]]) -> list[RunDifference]:
    names = dict.fromkeys(name for each in values for name in each)
    rows = [RunDifference(kind, name, tuple(each.get(name, "not given") for each in values)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


# Plain data


def _plain(run: ComparedRun) -> dict[str, Any]:
    return {
        "run": run.label,
        "path": run.path,
        "best": _plain_value(run.best),
        "steps": run.steps,
        "epochs": run.epochs,
        "seconds": None if run.seconds is None else round(run.seconds, 3),
        "resumed": run.resumed,
        "ranks": list(run.ranks),
        "series": {
            name: {
                "kind": summary.kind,
                "records": summary.records,
                "last": _plain_value(summary.last),
                "lowest": _plain_value(summary.lowest),
                "highest": _plain_value(summary.highest),
                "nonfinite": summary.nonfinite,
            }
            for name, summary in run.series.items()
        },
    }


def _plain_value(value: Value | None) -> dict[str, float] | None:
    if value is None:
        return None
    epoch = int(value.epoch) if value.epoch.is_integer() else value.epoch
    return {"value": value.value, "step": value.step, "epoch": epoch}
