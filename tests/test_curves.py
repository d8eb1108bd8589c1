"""The curves of a log: what is in which panel, sums, epochs, smoothing, gaps, and that no peak is lost."""

import tracemalloc

import numpy as np
import pytest
import torch
from logs import log_of, records

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import UnknownLossError
from nectargan_core.log import entries, extremes, panels

TAGS = {"G_GAN": ["G"], "G_L1": ["G"], "D_REAL": ["D"]}


def some(directory, *chunks, tags=TAGS, **header):
    return log_of(directory, *chunks, tags=tags, **header)


def shown(log, **options):
    """Return the names of the curves by the kinds and titles of their panels."""
    runs = log if isinstance(log, dict) else {"run": log}
    return {(panel.kind, panel.title): [curve.name for curve in panel.curves] for panel in panels(runs, **options)}


def curve(log, name, **options):
    runs = log if isinstance(log, dict) else {"run": log}
    (found,) = [each for panel in panels(runs, **options) for each in panel.curves if each.name == name][:1]
    return found


# Panels


def test_there_is_a_panel_for_each_tag_with_its_sum_first(tmp_path):
    log = some(tmp_path, records("G_GAN", [1, 2]), records("G_L1", [10, 20]), records("D_REAL", [5, 5]))
    assert shown(log) == {("losses", "G"): ["sum of G", "G_GAN", "G_L1"], ("losses", "D"): ["D_REAL"]}
    assert curve(log, "sum of G").y.tolist() == [11.0, 22.0]


def test_a_loss_of_two_tags_is_in_both_panels(tmp_path):
    tags = {"a": ["G", "edge"], "b": ["G"]}
    log = some(tmp_path, records("a", [1]), records("b", [2]), tags=tags)
    assert shown(log) == {("losses", "G"): ["sum of G", "a", "b"], ("losses", "edge"): ["a"]}


def test_tags_of_the_same_losses_share_a_panel(tmp_path):
    log = some(tmp_path, records("a", [1]), records("b", [2]), tags={"a": ["G", "all"], "b": ["G", "all"]})
    assert shown(log) == {("losses", "G, all"): ["sum of G, all", "a", "b"]}


def test_losses_without_a_tag_are_in_one_panel(tmp_path):
    log = some(tmp_path, records("a", [1]), records("b", [2]), tags={"a": [], "b": []})
    assert shown(log) == {("losses", "losses"): ["sum", "a", "b"]}


def test_a_log_whose_header_says_nothing_of_losses_has_losses_only(tmp_path):
    log = log_of(tmp_path, records("a", [1]), records("b", [2]))
    assert shown(log) == {("losses", "losses"): ["sum", "a", "b"]}


def test_the_losses_of_a_resumed_run_are_known_from_its_header(tmp_path):
    for number, name in enumerate("ab"):
        with LossManager(experiment_dir=tmp_path, resume=True) as manager:
            manager.register_loss_fn(name, lambda x, y: x, tags=["G"])
            manager.tick(epoch=number)
            manager.compute_loss_xy(name, torch.ones(1), None)
    assert {entry.name: (entry.kind, entry.tags) for entry in entries(LossLog(tmp_path))} == {
        "a": ("loss", ("G",)),
        "b": ("loss", ("G",)),
    }


def test_a_scalar_has_a_panel_of_its_own_with_its_splits(tmp_path):
    log = some(tmp_path, records("G_L1", [1]), records("psnr", [20]), records("val/psnr", [21]), records("lr", [0.1]))
    assert shown(log)["metrics", "psnr"] == ["psnr", "val/psnr"]
    assert shown(log)["metrics", "lr"] == ["lr"]


def test_a_loss_that_was_unregistered_is_still_a_loss(tmp_path):
    log = some(tmp_path, records("G_L1", [1]), records("former", [4, 2], weights=2.0))
    assert ("losses", "losses") in shown(log)


def test_gradients_are_in_a_panel_of_their_kind_under_the_name_of_their_loss(tmp_path):
    kinds = ("norm", "share", "cosine")
    gradients = [records(f"{name}@grad_{kind}", [1]) for name in ("G_GAN", "G_L1") for kind in kinds]
    log = some(tmp_path, records("G_GAN", [1]), records("G_L1", [1]), *gradients)
    for kind in kinds:
        assert shown(log)["gradients", f"gradient {kind}"] == ["G_GAN", "G_L1"]


def test_components_are_in_a_panel_of_their_loss(tmp_path):
    parts = [records(f"G_L1.{part}", [1], component_of="G_L1") for part in "ab"]
    log = some(tmp_path, records("G_L1", [2]), *parts)
    assert shown(log) == {("losses", "G"): ["G_L1"], ("components", "G_L1"): ["G_L1.a", "G_L1.b"]}


def test_a_scalar_that_is_named_like_a_component_is_none(tmp_path):
    log = some(tmp_path, records("G_L1", [2]), records("G_L1.seconds", [1]))
    assert ("metrics", "G_L1.seconds") in shown(log)


def test_what_a_weighting_adds_to_the_total_is_a_part_of_the_sum(tmp_path):
    manifest = {"weightings": {"G": {"weighting": "acme/uncertainty", "losses": ["G_GAN", "G_L1"]}}}
    chunks = [records("G_GAN", [1]), records("G_L1", [2]), records("uncertainty", [0.5])]
    log = some(tmp_path, *chunks, manifest=manifest)
    assert shown(log) == {("losses", "G"): ["sum of G", "G_GAN", "G_L1", "uncertainty"]}
    assert curve(log, "sum of G").y.tolist() == [3.5]


def test_only_weights_that_change_are_shown(tmp_path):
    changing = records("G_L1", [1, 2, 3], weights=[1, 0.5, 0])
    log = some(
        tmp_path, changing, records("G_GAN", [1, 2, 3], weights=2.0), records("val/G_L1", [1, 2], weights=[1, 0])
    )
    assert shown(log)["weights", "weights"] == ["G_L1"]
    (panel,) = [panel for panel in panels({"run": log}) if panel.kind == "weights"]
    assert panel.curves[0].y.tolist() == [1.0, 0.5, 0.0]


def test_panels_stand_in_the_order_of_their_kinds(tmp_path):
    chunks = [
        records("psnr", [1]),
        records("G_L1@grad_norm", [1]),
        records("G_L1.a", [1], component_of="G_L1"),
        records("G_L1", [1, 2], weights=[1, 2]),
    ]
    kinds = [panel.kind for panel in panels({"run": some(tmp_path, *chunks)})]
    assert kinds == ["losses", "weights", "metrics", "gradients", "components"]


def test_several_runs_are_in_the_same_panels_under_their_labels(tmp_path):
    runs = {name: some(tmp_path / name, records("G_L1", [1])) for name in ("one", "two")}
    (panel,) = panels(runs)
    assert [(curve.run, curve.name) for curve in panel.curves] == [("one", "G_L1"), ("two", "G_L1")]
    assert [curve.run for panel in panels({"one": runs["one"]}) for curve in panel.curves] == [""]


def test_a_log_without_records_has_no_panels(tmp_path):
    assert panels({"run": some(tmp_path)}) == []


# What is asked for


@pytest.fixture
def log(tmp_path):
    chunks = [records("G_GAN", [1]), records("G_L1", [2]), records("D_REAL", [3]), records("val/G_L1", [4])]
    return some(tmp_path, *chunks, records("psnr", [5]), tags=TAGS | {"G_L1": ["G", "pixel"]})


def test_a_tag_shows_its_panel_and_no_other_of_its_losses(log):
    assert shown(log, query="G") == {("losses", "G"): ["sum of G", "G_GAN", "G_L1", "val/G_L1"]}


def test_a_name_shows_all_panels_of_the_loss_and_no_sum_of_others(log):
    assert shown(log, query="G_L1") == {("losses", "G, pixel"): ["G_L1", "val/G_L1"]}


def test_a_name_with_its_split_shows_that_split(log):
    assert [name for names in shown(log, query=["val/G_L1"]).values() for name in names] == ["val/G_L1"]


def test_several_names_show_all_of_them(log):
    assert list(shown(log, query=["psnr", "D"])) == [("losses", "D"), ("metrics", "psnr")]


def test_a_split_stands_for_all_that_was_recorded_in_it(log):
    found = [name for names in shown(log, query="val").values() for name in names]
    assert found
    assert all(name.startswith("val/") for name in found)


def test_an_unknown_name_is_an_error_with_close_names(log):
    with pytest.raises(UnknownLossError, match="nothing of the name, tag or split 'G_l1'.*Did you mean \"G_L1\""):
        panels({"run": log}, query="G_l1")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"by": "hour"}, "by must be"), ({"smooth": 2}, "smooth must be"), ({"smooth": "x"}, "smooth must be")],
)
def test_an_option_out_of_range_is_an_error(log, options, said):
    with pytest.raises(ValueError, match=said):
        panels({"run": log}, **options)


@pytest.mark.parametrize("query", [3, ["G", 3]])
def test_a_query_of_something_else_is_an_error(log, query):
    with pytest.raises(TypeError, match="query must be a tag, split or name"):
        panels({"run": log}, query=query)


# Sums


def test_a_sum_is_of_the_losses_that_were_computed_at_the_step(tmp_path):
    log = some(tmp_path, records("G_GAN", [1, 2, 3, 4]), records("G_L1", [10, 20], steps=[1, 4]))
    total = curve(log, "sum of G")
    assert dict(zip(total.x.tolist(), total.y.tolist(), strict=True)) == {0: 1, 1: 12, 2: 3, 3: 4, 4: 20}


def test_several_records_of_a_step_count_with_their_mean(tmp_path):
    log = some(tmp_path, records("G_GAN", [1, 3, 5], steps=[0, 0, 1]), records("G_L1", [10, 20]))
    assert curve(log, "sum of G").y.tolist() == [12.0, 25.0]


def test_a_sum_with_nan_is_a_gap(tmp_path):
    log = some(tmp_path, records("G_GAN", [1, np.nan, 3]), records("G_L1", [1, 1, np.inf]))
    np.testing.assert_array_equal(curve(log, "sum of G").y, [2, np.nan, np.nan])


def test_each_split_has_its_sum(tmp_path):
    chunks = [records(name, [1]) for name in ("G_GAN", "G_L1", "val/G_GAN", "val/G_L1")]
    assert [name for name in shown(some(tmp_path, *chunks))["losses", "G"] if "sum" in name] == [
        "sum of G",
        "val/sum of G",
    ]


# Epochs


def test_epochs_in_whole_numbers_are_divided_by_their_steps(tmp_path):
    log = some(tmp_path, records("G_L1", range(8), epochs=[0, 0, 0, 0, 1, 1, 1, 1]))
    np.testing.assert_allclose(curve(log, "G_L1", by="epoch").x, np.arange(8) / 4)


def test_a_validation_stands_at_the_end_of_its_epoch(tmp_path):
    log = some(
        tmp_path,
        records("G_L1", range(8), epochs=[0, 0, 0, 0, 1, 1, 1, 1]),
        records("val/G_L1", [1, 2], steps=[3, 7], epochs=[0, 1]),
    )
    assert curve(log, "val/G_L1", by="epoch").x.tolist() == [0.75, 1.75]


def test_a_run_of_one_epoch_goes_up_to_its_end(tmp_path):
    assert curve(some(tmp_path, records("G_L1", range(4))), "G_L1", by="epoch").x.tolist() == [0, 0.25, 0.5, 0.75]


def test_epochs_with_fractions_are_taken_as_they_are(tmp_path):
    log = some(tmp_path, records("G_L1", [1, 2, 3], epochs=[0, 0.4, 0.9]))
    assert curve(log, "G_L1", by="epoch").x.tolist() == [0, 0.4, 0.9]


def test_epochs_that_go_back_are_never_drawn_backwards(tmp_path):
    log = some(tmp_path, records("G_L1", [1, 2, 3], epochs=[1, 2, 1]))
    assert curve(log, "G_L1", by="epoch").x.tolist() == [1, 2, 2]


def test_records_that_are_out_of_order_are_drawn_in_the_order_of_their_steps(tmp_path):
    drawn = curve(some(tmp_path, records("G_L1", [1, 2, 3], steps=[5, 1, 3])), "G_L1")
    assert (drawn.x.tolist(), drawn.y.tolist()) == ([1, 3, 5], [2, 3, 1])


# Points


def test_few_records_are_all_drawn(tmp_path):
    assert curve(some(tmp_path, records("G_L1", range(100))), "G_L1").y.tolist() == list(range(100))


@pytest.mark.parametrize("where", [0, 1, 7_777, 49_999])
@pytest.mark.parametrize("peak", [1e9, -1e9])
def test_a_peak_of_one_step_is_drawn(tmp_path, where, peak):
    values = np.random.default_rng(0).random(50_000)
    values[where] = peak
    drawn = curve(some(tmp_path, records("G_L1", values)), "G_L1", points=100)
    assert len(drawn.x) <= 103
    assert drawn.y[drawn.x == where].tolist() == [peak]


def test_a_single_nan_among_many_records_is_a_gap(tmp_path):
    values = np.ones(100_000)
    values[70_000] = np.nan
    drawn = curve(some(tmp_path, records("G_L1", values)), "G_L1", points=100)
    assert drawn.nonfinite == 1
    assert drawn.x[np.isnan(drawn.y)].tolist() == [70_000]


def test_a_peak_beside_a_nan_is_drawn(tmp_path):
    values = np.ones(100_000)
    values[70_000:70_003] = [np.nan, 50.0, np.inf]
    drawn = curve(some(tmp_path, records("G_L1", values)), "G_L1", points=100)
    assert 50.0 in drawn.y
    assert np.isfinite(drawn.y[~np.isnan(drawn.y)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_never_finite_is_a_gap_all_along(tmp_path, bad):
    drawn = curve(some(tmp_path, records("G_L1", np.full(50_000, bad))), "G_L1", points=100)
    assert np.isnan(drawn.y).all()
    assert drawn.nonfinite == 50_000
    assert drawn.smooth is None or np.isnan(drawn.smooth[1]).all()


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 12_345])
def test_the_first_and_the_last_record_are_drawn(count):
    places = extremes(np.zeros(count), 100)
    assert (places[0], places[-1]) == (0, count - 1)
    assert len(places) <= 102


# The smoothed line


def test_the_smoothed_line_is_the_mean_around_a_point(tmp_path):
    values = np.random.default_rng(0).random(101)
    x, y = curve(some(tmp_path, records("G_L1", values)), "G_L1", smooth=0.1).smooth
    assert x.tolist() == list(range(101))
    expected = [values[max(0, at - 5) : at + 6].mean() for at in range(101)]
    np.testing.assert_allclose(y, expected)


def test_many_records_are_smoothed_as_few_are(tmp_path):
    steps = np.arange(200_000)
    wave = np.sin(steps / 10_000)
    noise = np.random.default_rng(0).standard_normal(len(steps))
    x, y = curve(some(tmp_path, records("G_L1", wave + noise)), "G_L1").smooth
    inside = slice(20, -20)
    np.testing.assert_allclose(y[inside], np.sin(x[inside] / 10_000), atol=0.06)


def test_few_records_have_no_smoothed_line(tmp_path):
    log = some(tmp_path, records("G_L1", range(29)), records("G_GAN", range(30)))
    assert curve(log, "G_L1").smooth is None
    assert curve(log, "G_GAN").smooth is not None


def test_without_smoothing_there_is_no_line(tmp_path):
    assert curve(some(tmp_path, records("G_L1", range(1000))), "G_L1", smooth=0).smooth is None


def test_weights_are_not_smoothed(tmp_path):
    log = some(tmp_path, records("G_L1", range(1000), weights=range(1000)))
    (panel,) = [panel for panel in panels({"run": log}) if panel.kind == "weights"]
    assert panel.curves[0].smooth is None


def test_the_smoothed_line_has_the_gaps_of_the_records(tmp_path):
    values = np.ones(1000)
    values[300:400] = np.nan
    x, y = curve(some(tmp_path, records("G_L1", values)), "G_L1", smooth=0.2).smooth
    assert set(x[np.isnan(y)]) <= set(range(300, 400))
    assert np.isnan(y).sum() >= 45


@pytest.mark.parametrize("huge", [1e300, 1.7e308])
def test_a_huge_value_spoils_the_smoothed_line_nowhere_else(tmp_path, huge):
    values = np.ones(10_000)
    values[5000:5003] = huge
    x, y = curve(some(tmp_path, records("G_L1", values)), "G_L1", smooth=0.01).smooth
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[np.abs(x - 5000) > 100], 1.0)


# The scale


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        (np.geomspace(1000, 1, 100), True),
        (np.linspace(1, 2, 100), False),
        (np.linspace(2e-4, 0, 100), False),
        (np.append(np.ones(99), 1e6), True),
        (np.geomspace(1000, 1, 100) * np.where(np.arange(100) == 50, -1, 1), False),
        (np.zeros(100), False),
        (np.full(100, np.nan), False),
        ([1.0], False),
        (np.random.default_rng(0).random(10_000), False),
    ],
    ids=["decay", "flat", "to zero", "a peak", "a negative value", "zeros", "nan", "one record", "noise"],
)
def test_an_axis_is_logarithmic_where_the_values_demand_it(tmp_path, values, is_log):
    (panel,) = panels({"run": some(tmp_path, records("G_L1", values))})
    assert panel.log_scale is is_log


@pytest.mark.parametrize(("large", "is_log"), [(1000.0, True), (60.0, True), (40.0, False)])
def test_a_small_loss_beside_a_large_one_demands_a_logarithmic_axis(tmp_path, large, is_log):
    log = some(tmp_path, records("G_GAN", np.ones(50)), records("G_L1", np.full(50, large)))
    assert panels({"run": log})[0].log_scale is is_log


# Memory


def test_of_a_large_log_one_series_is_held_at_a_time(tmp_path):
    names, count = [f"loss{number}" for number in range(8)], 50_000
    steps = np.arange(count).reshape(-1, 1000)
    chunks = [records(name, np.ones(1000), steps=part) for part in steps for name in names]
    log_of(tmp_path, *chunks, tags={name: [] for name in names})
    log = LossLog(tmp_path)
    tracemalloc.start()
    try:
        panels({"run": log})
        # Five columns of a loss, the positions and the sum, and not the columns of six losses.
        assert tracemalloc.get_traced_memory()[1] < 3 * 40 * count
    finally:
        tracemalloc.stop()
