"""`compare`: runs beside each other, in Python and as `nectargan log compare`."""

import json
import math
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from logs import strictly

from nectargan_core import LossLog, LossManager, compare
from nectargan_core.cli import main
from nectargan_core.errors import LossLogError, UnknownLossError
from nectargan_core.log import Records, encode_chunk
from nectargan_core.log._format import encode_header

STARTED = 1_700_000_000.0


def logged(directory, series, *, losses=None, metadata=None, started=STARTED, ended=STARTED + 60.0, **header):
    """Write a log by hand: `series` maps names to (step, epoch, value) or (step, epoch, value, weight, batch)."""
    directory.mkdir(parents=True, exist_ok=True)
    names = series if losses is None else losses
    fields = {"started": started, "tags": {name: [] for name in names}, "metadata": metadata or {}, **header}
    lines = [encode_header(fields)]
    for name, rows in series.items():
        step, epoch, value, weight, batch = (
            np.array(column, dtype=float)
            for column in zip(*((*row, *(1.0, 0)[len(row) - 3 :]) for row in rows), strict=True)
        )
        records = Records(name, step.astype(int), epoch, value * weight, weight, value, batch=batch.astype(int))
        lines.append(encode_chunk(records, ended))
    with (directory / "loss_log.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(lines)
    return directory


def trained(directory, weight=1.0, values=(3.0, 2.0, 1.0), **kwargs):
    with LossManager(experiment_dir=directory, nonfinite="ignore", **kwargs) as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), weight, tags=["G"])
        for epoch, value in enumerate(values):
            manager.tick(epoch=epoch)
            manager.compute_loss_xy("G_L1", torch.zeros(1), torch.tensor([value]))
    return directory


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["log", "compare", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


class TestBest:
    def test_the_best_run_is_first_with_where_it_was_best(self, tmp_path):
        a = logged(tmp_path / "a", {"val/psnr": [(9, 0, 20.0), (19, 1, 24.0), (29, 2, 23.0)]}, losses=[])
        b = logged(tmp_path / "b", {"val/psnr": [(9, 0, 25.0), (19, 1, 22.0)]}, losses=["G_L1"])
        found = compare([a, b], metric="val/psnr", best="max")
        assert [(run.label, tuple(run.best)) for run in found.runs] == [("b", (25.0, 9, 0.0)), ("a", (24.0, 19, 1.0))]
        found = compare([b, a], metric="val/psnr", best="min")
        assert [(run.label, run.best.value) for run in found.runs] == [("a", 20.0), ("b", 22.0)]

    def test_of_a_loss_the_lowest_counts(self, tmp_path):
        found = compare(trained(tmp_path / "a", weight=5.0), metric="G_L1")
        assert (found.best, found.runs[0].best.value, found.notes) == ("min", 1.0, ())

    @pytest.mark.parametrize(
        ("name", "best"), [("val/psnr", "max"), ("accuracy", "max"), ("fid", "min"), ("lr", "min")]
    )
    def test_of_a_metric_it_is_said_what_counts(self, tmp_path, name, best):
        found = compare(logged(tmp_path / "a", {name: [(0, 0, 1.0)]}, losses=["G_L1"]), metric=name)
        word = "highest" if best == "max" else "lowest"
        assert found.best == best
        assert found.notes[0].startswith(f"the {word} {name} counts as the best")
        other = "min takes the lowest" if best == "max" else "max takes the highest"
        assert f"Note: --best {other} {name}\n" in run(tmp_path / "a", "--metric", name)
        assert "--best" not in run(tmp_path / "a", "--metric", name, "--best", best)

    def test_a_loss_that_is_called_ssim_is_a_loss(self, tmp_path):
        found = compare(logged(tmp_path / "a", {"val/G_SSIM": [(0, 0, 1.0)]}, losses=["G_SSIM"]), metric="val/G_SSIM")
        assert (found.best, found.notes) == ("min", ())

    def test_a_run_without_the_metric_is_last_and_named(self, tmp_path):
        a = logged(tmp_path / "a", {"psnr2": [(0, 0, 1.0)]})
        b = logged(tmp_path / "b", {"psnr": [(0, 0, 1.0)]})
        found = compare([a, b], metric="psnr", best="max")
        assert [(run.label, run.best is None) for run in found.runs] == [("b", False), ("a", True)]
        assert found.notes == ('a: it has no records of psnr. Did you mean "psnr2"?',)

    def test_a_metric_that_no_run_has_is_an_error_with_close_matches(self, tmp_path):
        a = trained(tmp_path / "a")
        with pytest.raises(UnknownLossError, match=r"the run has no records of 'G_l1'; there are G_L1. Did you mean"):
            compare(a, metric="G_l1")

    def test_values_that_are_not_finite_are_left_out_and_counted(self, tmp_path):
        rows = [(0, 0, math.nan), (1, 0, -math.inf), (2, 0, 5.0), (3, 0, 4.0), (4, 0, math.inf)]
        found = compare(logged(tmp_path / "a", {"psnr": rows}), metric="psnr", best="min")
        assert tuple(found.runs[0].best) == (4.0, 3, 0.0)
        assert found.notes == ("a: nan or infinite, and left out: psnr in 3 of 5 records",)

    def test_large_numbers_have_commas(self, tmp_path):
        rows = [(step, 0, math.nan if step < 1100 else 1.0) for step in range(1200)]
        a = logged(tmp_path / "a", {"psnr": rows}, losses=[])
        assert "left out: psnr in 1,100 of 1,200 records" in compare(a).notes[0]
        assert run(a, "--metric", "psnr", "--best", "min").splitlines()[1].split()[:5] == [
            "a",
            "1",
            "1,100",
            "0",
            "1,200",
        ]

    def test_a_run_that_has_only_such_values_is_last(self, tmp_path):
        a = logged(tmp_path / "a", {"psnr": [(0, 0, math.nan)]})
        b = logged(tmp_path / "b", {"psnr": [(0, 0, 9.0)]})
        assert [run.label for run in compare([a, b], metric="psnr", best="min").runs] == ["b", "a"]


class TestMeans:
    EPOCHS = ((0, 0, 9.0), (1, 0, 1.0), (2, 1, 4.0), (3, 1, 4.0))

    def test_of_a_loss_of_the_training_the_mean_of_each_epoch_counts(self, tmp_path):
        summary = compare(logged(tmp_path / "a", {"G_L1": self.EPOCHS})).runs[0].series["G_L1"]
        assert tuple(summary.lowest) == (4.0, 3, 1.0)
        assert tuple(summary.highest) == (5.0, 1, 0.0)

    def test_epochs_may_be_fractions(self, tmp_path):
        rows = [(0, 0.0, 9.0), (1, 0.5, 1.0), (2, 1.0, 4.0), (3, 1.75, 4.0)]
        summary = compare(logged(tmp_path / "a", {"G_L1": rows})).runs[0].series["G_L1"]
        assert tuple(summary.highest) == (5.0, 1, 0.0)

    @pytest.mark.parametrize("name", ["val/G_L1", "psnr"])
    def test_of_splits_and_metrics_the_mean_of_each_step_does(self, tmp_path, name):
        rows = [*self.EPOCHS, (4, 1, 1.0), (4, 1, 2.0)]
        summary = compare(logged(tmp_path / "a", {name: rows}, losses=["G_L1"])).runs[0].series[name]
        assert tuple(summary.lowest) == (1.0, 1, 0.0)
        assert tuple(summary.last) == (1.5, 4, 1.0)

    def test_in_one_epoch_the_mean_of_each_step_does(self, tmp_path):
        summary = compare(logged(tmp_path / "a", {"G_L1": self.EPOCHS[:2]})).runs[0].series["G_L1"]
        assert tuple(summary.lowest) == (1.0, 1, 0.0)

    def test_batches_count_by_their_sizes(self, tmp_path):
        rows = [(7, 0, 1.0, 1.0, 3), (7, 0, 5.0, 1.0, 1)]
        assert compare(logged(tmp_path / "a", {"val/G_L1": rows})).runs[0].series["val/G_L1"].last.value == 2.0

    def test_batches_of_unknown_size_count_alike(self, tmp_path):
        rows = [(7, 0, 1.0, 1.0, 3), (7, 0, 5.0, 1.0, 0)]
        assert compare(logged(tmp_path / "a", {"val/G_L1": rows})).runs[0].series["val/G_L1"].last.value == 3.0

    def test_values_are_unweighted(self, tmp_path):
        summary = compare(trained(tmp_path / "a", weight=100.0)).runs[0].series["G_L1"]
        assert [summary.last.value, summary.highest.value] == [1.0, 3.0]

    def test_a_step_that_comes_again_later_is_one_step(self, tmp_path):
        rows = [(0, 0, 1.0), (1, 0, 4.0), (0, 0, 2.0)]
        summary = compare(logged(tmp_path / "a", {"psnr": rows})).runs[0].series["psnr"]
        assert (tuple(summary.lowest), tuple(summary.last)) == ((1.5, 0, 0.0), (4.0, 1, 0.0))

    def test_a_mean_of_large_values_does_not_overflow(self, tmp_path):
        rows = [(0, 0, 1.5e308), (0, 0, 1.5e308)]
        assert compare(logged(tmp_path / "a", {"psnr": rows})).runs[0].series["psnr"].last.value == 1.5e308

    def test_a_loss_that_was_never_computed_has_no_value(self, tmp_path):
        found = compare(trained(tmp_path / "a", weight=0.0))
        assert found.runs[0].series["G_L1"].last is None
        assert found.notes == ()


class TestKinds:
    def test_losses_components_gradients_and_metrics_are_told_apart(self, tmp_path):
        with LossManager(experiment_dir=tmp_path / "a") as manager:
            manager.register_loss_fn("G", lambda x, y: {"first": x.mean(), "second": y.mean()})
            x = torch.ones(2, requires_grad=True)
            manager.tick()
            losses = manager.compute_losses({"y_fake": x, "y": torch.ones(2)})
            manager.record_gradients(losses, x)
            manager.record("psnr", 3.0)
        kinds = {name: summary.kind for name, summary in compare(tmp_path / "a").runs[0].series.items()}
        assert kinds == {
            "G": "loss",
            "G.first": "component",
            "G.second": "component",
            "psnr": "metric",
            **dict.fromkeys(("G@grad_norm", "G@grad_share", "G@grad_cosine"), "gradient"),
        }

    def test_all_names_of_nectargans_own_log_are_losses(self, tmp_path):
        log = {"LOSSMANAGER_LOG": {"loss_functions": {"G_L1": {"loss": [8.0, 4.0], "weights": [4.0, 4.0]}}}}
        (tmp_path / "loss_log.json").write_text(json.dumps(log), encoding="utf-8")
        (only,) = compare(tmp_path, metric="G_L1").runs
        assert (only.best.value, only.best.step, only.steps, only.seconds) == (1.0, 1, 2, None)


class TestDifferences:
    def rows(self, *runs, **kwargs):
        return [(each.kind, each.name, each.values) for each in compare(runs, **kwargs).differences]

    def test_what_affects_numbers_is_first_then_metadata_then_versions(self, tmp_path):
        a = trained(tmp_path / "a", metadata={"seed": 1, "same": 2, "data": {"size": 64}})
        b = trained(tmp_path / "b", weight=2.0, metadata={"seed": 2, "same": 2})
        header = json.loads((a / "loss_log.jsonl").read_text(encoding="utf-8").splitlines()[0])
        manifest = header["manifest"]
        manifest["versions"]["torch"] = "1.0"
        logged(tmp_path / "a2", {"G_L1": [(0, 0, 1.0)]}, manifest=manifest, metadata=header["metadata"], world_size=1)
        assert self.rows(tmp_path / "a2", b) == [
            ("weight", "G_L1", ("1", "2")),
            ("metadata", "seed", ("1", "2")),
            ("metadata", "data.size", ("64", "not given")),
            ("version", "torch", ("1.0", torch.__version__)),
        ]

    def test_each_of_several_runs_has_its_value(self, tmp_path):
        runs = [trained(tmp_path / str(weight), weight=weight) for weight in (1.0, 2.0, 3.0)]
        assert self.rows(*runs) == [("weight", "G_L1", ("1", "2", "3"))]

    def test_a_run_without_a_record_is_told(self, tmp_path):
        a, b, c = (
            trained(tmp_path / "a"),
            trained(tmp_path / "b", weight=2.0),
            logged(tmp_path / "c", {"G_L1": [(0, 0, 1)]}),
        )
        rows = self.rows(c, a, b)
        assert rows[0][0] == "objective"
        assert rows[0][2][0] == "not recorded"
        assert rows[1] == ("weight", "G_L1", ("not recorded", "1", "2"))

    def test_equal_runs_have_none(self, tmp_path):
        assert self.rows(trained(tmp_path / "a"), trained(tmp_path / "b")) == []

    def test_one_run_has_none(self, tmp_path):
        assert self.rows(trained(tmp_path / "a", metadata={"seed": 3})) == []

    def test_values_are_in_the_order_of_the_runs(self, tmp_path):
        a, b = trained(tmp_path / "a"), trained(tmp_path / "b", weight=2.0, values=(1.0, 0.5))
        found = compare([a, b], metric="G_L1")
        assert [run.label for run in found.runs] == ["b", "a"]
        assert found.differences[0].values == ("2", "1")

    def test_an_objective_that_cannot_be_read_is_told(self, tmp_path):
        logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0)]}, manifest={"losses": 3})
        (note,) = compare(tmp_path / "a").notes
        assert note.startswith("a: what its log says of its objective cannot be read: ")


class TestRuns:
    def test_steps_epochs_and_duration(self, tmp_path):
        rows = [(step, step // 10, 1.0) for step in range(35)]
        (only,) = compare(logged(tmp_path / "a", {"G_L1": rows})).runs
        assert (only.steps, only.epochs, only.seconds, only.resumed) == (35, 4, 60.0, 0)

    def test_the_time_before_a_run_was_resumed_does_not_count(self, tmp_path):
        logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0)]})
        logged(tmp_path / "a", {"G_L1": [(1, 0, 1.0)]}, started=STARTED + 1000, ended=STARTED + 1005, resumed=True)
        (only,) = compare(tmp_path / "a").runs
        assert (only.steps, only.seconds, only.resumed) == (2, 65.0, 1)

    def test_a_run_that_was_resumed_with_other_weights_says_so(self, tmp_path):
        trained(tmp_path / "a")
        trained(tmp_path / "a", weight=2.0, resume=True)
        assert compare(tmp_path / "a").notes == ("a: it was resumed with another objective: weight of G_L1: 1 -> 2",)

    def test_a_log_without_records_says_so(self, tmp_path):
        LossManager(experiment_dir=tmp_path / "a").close()
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a/loss_log.jsonl").write_text(encode_header({"started": 0.0}), encoding="utf-8")
        found = compare(tmp_path / "a")
        assert found.notes == ("a: its log has no records yet",)
        assert (found.runs[0].steps, found.runs[0].epochs, found.runs[0].seconds) == (0, 0, None)

    def test_labels_are_as_short_as_tells_runs_apart(self, tmp_path):
        paths = [trained(tmp_path / name) for name in ("x/first", "y/first", "second")]
        paths[2] = paths[2] / "loss_log.jsonl"
        assert [run.label for run in compare(paths).runs] == ["x/first", "y/first", "second"]

    def test_labels_may_be_given(self, tmp_path):
        assert compare({"mine": trained(tmp_path / "a")}).runs[0].label == "mine"

    def test_several_ranks_are_one_run(self, tmp_path):
        logged(tmp_path / "a", {"psnr": [(0, 0, 1.0)]})
        logged(tmp_path / "b", {"psnr": [(0, 0, 3.0)]})
        (tmp_path / "b/loss_log.jsonl").rename(tmp_path / "a/loss_log.rank1.jsonl")
        assert compare(tmp_path / "a").runs[0].series["psnr"].last.value == 2.0

    @pytest.mark.parametrize(
        ("runs", "kind", "message"),
        [
            ([], ValueError, "no run is given"),
            (3, TypeError, "runs must be paths"),
            ([3], TypeError, "a run must be a path"),
            (
                lambda log: log,
                TypeError,
                "a run must be a path, got a LossLog; give the directory or file that it was opened",
            ),
            (lambda log: [log], TypeError, "a run must be a path, got a LossLog"),
            (lambda log: {"mine": log}, TypeError, "a run must be a path, got a LossLog"),
            ("nowhere", LossLogError, "there is no loss log at nowhere"),
            (["nowhere", "./nowhere"], ValueError, "is given twice"),
            ({3: "nowhere"}, TypeError, "the label of a run must be a str"),
        ],
    )
    def test_what_is_no_run_is_an_error(self, tmp_path, runs, kind, message):
        given = runs(LossLog(trained(tmp_path))) if callable(runs) else runs
        with pytest.raises(kind, match=message):
            compare(given)

    @pytest.mark.parametrize(
        ("keywords", "kind", "message"),
        [
            ({"metric": 3}, TypeError, "metric must be a str"),
            ({"metric": "G_L1", "best": "low"}, ValueError, "best must be 'min' or 'max', got 'low'"),
            ({"best": "min"}, ValueError, "give metric="),
        ],
    )
    def test_what_is_no_metric_is_an_error(self, tmp_path, keywords, kind, message):
        with pytest.raises(kind, match=message):
            compare(trained(tmp_path), **keywords)


class TestShown:
    def test_as_plain_data_it_is_strict_json(self, tmp_path):
        a = trained(tmp_path / "a", values=(math.nan, 2.0))
        found = strictly(run(a, "--json"))
        assert found == compare(a).to_dict() == strictly(json.dumps(found))
        value = {"value": 2.0, "step": 1, "epoch": 1}
        (only,) = found["runs"]
        assert only["series"]["G_L1"] == {
            "kind": "loss",
            "records": 2,
            "last": value,
            "lowest": value,
            "highest": value,
            "nonfinite": 1,
        }

    def test_a_notebook_shows_tables_in_which_names_are_text(self, tmp_path):
        a = logged(tmp_path / "a", {"<script>alert(1)</script>": [(0, 0, 1.0)]}, metadata={"<b>": "<i>"})
        html = compare([a, trained(tmp_path / "b")])._repr_html_()
        assert "<table>" in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert not re.search("<script|<b>|<i>", html)


class TestCommand:
    def test_without_a_metric_it_shows_runs_values_and_differences(self, tmp_path):
        a = logged(tmp_path / "a", {"G_L1": [(0, 0, 0.5), (1, 0, 0.25)]}, metadata={"seed": 1})
        b = logged(tmp_path / "b", {"G_L1": [(0, 0, 1.0)], "val/psnr": [(0, 0, 20.0)]}, metadata={"seed": 2})
        assert run(a, b).splitlines() == [
            "RUN  STEPS  EPOCHS  DURATION",
            "a    2      1       1 min 0 s",
            "b    1      1       1 min 0 s",
            "",
            "Last values (unweighted; in training the mean of an epoch):",
            "NAME      a     b",
            "G_L1      0.25  1",
            "val/psnr  -     20",
            "",
            "What differs:",
            "WHAT      OF    a  b",
            "metadata  seed  1  2",
        ]

    def test_with_a_metric_it_says_where_that_was_best(self, tmp_path):
        a = logged(tmp_path / "a", {"val/psnr": [(9, 1, 20.0), (19, 2, 24.5)]}, losses=["G_L1"])
        lines = run(a, "--metric", "val/psnr", "--best", "max").splitlines()
        assert lines[0].split() == ["RUN", "highest", "val/psnr", "AT", "STEP", "EPOCH", "STEPS", "EPOCHS", "DURATION"]
        assert lines[1].split()[:4] == ["a", "24.5", "19", "2"]

    def test_a_value_of_an_earlier_epoch_says_so(self, tmp_path):
        a = logged(tmp_path / "a", {"psnr": [(9, 1, 20.0)], "G_L1": [(19, 2, 1.0)]})
        assert "psnr  20 (epoch 1)" in run(a)

    @pytest.mark.parametrize(("losses", "runs"), [(3, 20), (30, 2), (30, 20), (1, 1)])
    def test_it_fits_a_page_and_has_all_values(self, tmp_path, losses, runs):
        paths = []
        for number in range(runs):
            series = {f"G_LOSS_{loss:02d}": [(0, 0, 1 + number / 100 + loss / 1000)] for loss in range(losses)}
            paths.append(logged(tmp_path / f"run_{number:02d}", series, metadata={"seed": number, "half": number % 2}))
        output = run(*paths)
        assert max(map(len, output.splitlines())) <= 100
        for number in range(runs):
            for loss in range(losses):
                assert f"{1 + number / 100 + loss / 1000:.5g}" in output
        if runs > 4:
            evens = ", ".join(f"run_{number:02d}" for number in range(0, runs, 2))
            assert f"0: {evens}" in " ".join(output.split())

    def test_runs_that_do_not_differ_say_so(self, tmp_path):
        a, b = (logged(tmp_path / name, {"G_L1": [(0, 0, 1.0)]}) for name in "ab")
        assert "Nothing differs in what the logs say of the objectives" in run(a, b)

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["nowhere"], 1, "Error: there is no loss log at nowhere"),
            ([], 2, "Missing argument"),
            (["a", "--best", "max"], 2, "give --metric"),
            (["a", "--metric", "G_L2"], 1, 'Did you mean "G_L1"?'),
            (["a", "a"], 2, "a is given twice"),
            (["a", "--best", "most"], 2, "'most' is not one of"),
        ],
    )
    def test_exit_statuses(self, tmp_path, monkeypatch, arguments, status, message):
        trained(tmp_path / "a")
        monkeypatch.chdir(tmp_path)
        assert message in run(*arguments, status=status)

    def test_what_a_name_may_do_to_a_terminal_is_escaped(self, tmp_path):
        a = logged(tmp_path / "a", {"x\x1b[2J": [(0, 0, 1.0)]}, metadata={"\x1b": "\x1b[31m"})
        assert "\x1b" not in run(a, logged(tmp_path / "b", {"y": [(0, 0, 1.0)]}))
