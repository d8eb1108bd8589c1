"""Objectives as files and records: what is written is what is read, and what a record builds has the same record."""

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published import of_the_page
from torch import nn

from nectargan_core import Config, LMLoss, LossManager, Objective, Schedule, Weighting, catalog
from nectargan_core.errors import NectarganWarning, ObjectiveError, PluginNotFoundError, ScheduleError
from nectargan_core.objectives import variants_of

DIRECTORY = Path(tempfile.mkdtemp())
SUFFIXES = (".toml", ".json")
COUNT = itertools.count()


def through_file(objective, suffix):
    path = DIRECTORY / f"{next(COUNT)}{suffix}"
    objective.save(path)
    back = Objective.load(path)
    path.unlink()
    return back


def rebuilt(objective, **keywords):
    return LossManager.from_spec(objective, strict=True, **keywords)


def assert_comes_back(manager):
    """The record of a manager, through a file of each kind, builds losses of which the record is the same."""
    record = manager.manifest()
    for suffix in SUFFIXES:
        back = through_file(record, suffix)
        assert back == record
        again = rebuilt(back)
        assert again.manifest() == record
        assert again.manifest().to_dict() == record.to_dict()
        assert list(again.get_registered_losses()) == list(manager.get_registered_losses())
        assert again.get_loss_weights(precision=None) == manager.get_loss_weights(precision=None)
    return record


# From a model to a file and back

TRICKY = [
    "a.b",
    "a b",
    '"',
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "#",
    "=",
    "[x]",
    "ü",
    "名前",
    "\u2028",
    "\x7f",
    "\x01",
    "1",
    "true",
]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(TRICKY)
some = text.filter(bool)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 0.1])
whole = st.integers(-(2**70), 2**70)
leaves = st.booleans() | whole | floats | text
data = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
params = st.dictionaries(some.filter(lambda name: name != "schedule"), data, max_size=2)
weights = st.none() | floats | st.integers(-(10**6), 10**6)
renames = st.dictionaries(some, some, max_size=2)


def without_schedules(value):
    """Whether no dict in some data describes a schedule, as far as params go."""
    if isinstance(value, dict):
        return "schedule" not in value and all(map(without_schedules, value.values()))
    return all(map(without_schedules, value)) if isinstance(value, list) else True


@st.composite
def any_schedules(draw, depth=2):
    """Schedules whose names need not be installed, with other schedules in their params."""
    unit = draw(st.sampled_from(["epoch", "step", "fraction"]))
    positions = st.floats(0, 1) if unit == "fraction" else st.integers(0, 10**6) | st.floats(0, 1e6)
    start, end = sorted((draw(positions), draw(positions)))
    given = draw(params.filter(without_schedules))
    if depth and draw(st.booleans()):
        given = {**given, "parts": draw(st.lists(any_schedules(depth=depth - 1), max_size=2))}
    fields = {"start_epoch": start, "end_epoch": draw(st.sampled_from([end, None])), "unit": unit, "params": given}
    for name in ("initial_value", "target_value"):
        if draw(st.booleans()):
            fields[name] = draw(floats)
    if draw(st.booleans()):
        fields["factor"] = draw(floats)
    return Schedule(draw(some), **fields)


terms = st.fixed_dictionaries(
    {"formula": text},
    optional={
        "prefix": text.filter(lambda letters: "/" not in letters),
        "rename_inputs": st.dictionaries(some, some | renames, max_size=2),
        "options": st.dictionaries(some, st.dictionaries(some, data, max_size=2), max_size=2),
        "without": st.lists(some, max_size=2),
    },
)
set_losses = st.fixed_dictionaries(
    {}, optional={"weight": weights, "schedule": st.none() | any_schedules(), "enabled": st.booleans()}
)
recorded_losses = st.fixed_dictionaries(
    {"function": some},
    optional={
        "weight": weights,
        "schedule": any_schedules(),
        "arguments": st.dictionaries(text, data, max_size=2),
        "unknown": st.lists(text, max_size=2),
        "tags": st.lists(text, max_size=2),
        "inputs": st.lists(some, max_size=2) | renames,
        "version": st.integers(1, 2**53),
        "provider": some,
        "term": some,
        "weighting": some,
    },
)
weightings = st.fixed_dictionaries(
    {"weighting": some},
    optional={
        "params": st.dictionaries(text, data, max_size=2),
        "every": st.integers(1, 2**53),
        "wrt": some,
        "reduce": st.just("mean"),
        "losses": st.lists(some, max_size=2),
    },
)
extras = st.fixed_dictionaries(
    {"name": some, "function": st.sampled_from(["torch.nn:L1Loss", "torch.nn:HuberLoss", "torch.nn:Missing"])},
    optional={
        "arguments": st.dictionaries(text, data, max_size=2),
        "weight": weights,
        "schedule": any_schedules(),
        "tags": st.lists(text, max_size=2),
        "inputs": st.lists(some, max_size=2) | renames,
        "skip_when_zero": st.booleans(),
    },
)
objectives = st.fixed_dictionaries(
    {},
    optional={
        "terms": st.lists(terms, max_size=2),
        "losses": st.dictionaries(some, set_losses | recorded_losses, max_size=2),
        "options": st.dictionaries(some, st.dictionaries(some, data, max_size=2), max_size=2),
        "weightings": st.dictionaries(some, weightings, max_size=2),
        "extra": st.lists(extras, max_size=2),
        "providers": st.dictionaries(some, text, max_size=2),
        "versions": st.dictionaries(some, text, max_size=2),
        "weight_files": st.dictionaries(some, text, max_size=2),
        "fingerprint": some,
    },
)
lengths = st.one_of(
    st.just({}),
    st.builds(lambda epochs: {"total_epochs": epochs}, st.integers(1, 2**53) | st.floats(1e-300, 1e300)),
    st.builds(lambda steps: {"total_steps": steps}, st.integers(1, 2**53)),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(objectives, lengths)
def test_an_objective_is_what_its_file_says(suffix, fields, length):
    objective = Objective(**fields, **length)
    back = through_file(objective, suffix)
    assert back == objective
    assert back.to_dict() == objective.to_dict()
    assert Objective.from_dict(objective.to_dict()) == objective


@given(st.lists(leaves))
def test_numbers_keep_their_type_and_all_their_digits(value):
    objective = Objective(formula="x", options={"x": {"given": value}})
    for suffix in SUFFIXES:
        back = through_file(objective, suffix).options["x"]["given"]
        assert repr(back) == repr(objective.options["x"]["given"])


def test_json_holds_a_none_and_toml_refuses_it(tmp_path):
    objective = Objective(formula="x", options={"x": {"a": [1, None]}})
    assert through_file(objective, ".json") == objective
    with pytest.raises(ObjectiveError, match=r"terms|options\.x\.a\[1\] is None") as refused:
        objective.save(tmp_path / "objective.toml")
    assert refused.value.key == "options.x.a[1]"
    assert not list(tmp_path.iterdir())


# From a manager to its record, a file, and a manager of the same record

# Each term with options that it takes; their specs need no weight files.
TERMS = {
    "l1": [{}],
    "l2:masked": [{}],
    "huber": [{}, {"delta": 0.25}, {"delta": 2}],
    "charbonnier": [{}, {"epsilon": 1e-6}],
    "smooth-l1": [{"beta": 0.5}],
    "gan:hinge": [{}, {"over_discriminators": "sum"}],
    "gan:lsgan": [{"label_smoothing": 0.1}],
    "gan:relativistic": [{"detach_mean": True}],
    "gradient-penalty": [{}, {"every": 4, "center": 0.0}],
    "r1": [{"every": 16}],
    "sobel": [{}],
    "ssim": [{"window_size": 7, "input_range": (0, 1)}],
    "ms-ssim": [{"scale_weights": [0.5, 0.5]}],
    "focal": [{}, {"alpha": 0.25}, {"class_weights": [1.0, 2, 0.5], "gamma": 1}, {"ignore_index": None}],
    "nectargan-segmentation/ce": [{"class_weights": (1.0, 2.0)}],
    "dice-ce": [{"scales": [1, 2], "batch": True}],
    "wavelet": [{"wavelet": "haar", "weights": (0.1, 0.2, 0.3, 0.4)}],
    "kl": [{"free_bits": 0.5}],
    "path-length": [{"decay": 0.1}],
    "pix2pix:extended": [{}],
    "vq": [{"beta": 0.5}],
}
# What each installed curve takes, relative to a run of 20 epochs or 400 steps.
CURVES = {
    "linear": ({}, True),
    "exponential": ({}, True),
    "cosine": ({}, True),
    "polynomial": ({"power": 2.0}, True),
    "sigmoid": ({"steepness": 5}, True),
    "warmup-cosine": ({"warmup": 0.25}, True),
    "one-cycle": ({"rise": 0.3}, True),
    "constant": ({}, False),
    "window": ({}, True),
    "step": ({"every": 0.5, "gamma": 0.5}, False),
    "nectargan-schedules/multistep": ({"milestones": [0.25, 0.5]}, False),
    "piecewise-linear": ({"points": [[0, 1.0], [0.5, 0.5]]}, False),
    "product": ({"factors": [{"schedule": "cosine", "end": 1, "initial_value": 1.0, "target_value": 0.5}]}, False),
    "sequence": ({"parts": [{"schedule": "linear", "end": 1, "initial_value": 1.0, "target_value": 0.0}]}, False),
}
NAMED_WEIGHTINGS = [
    Weighting("relobralo", params={"temperature": 0.1}),
    Weighting("random"),
    Weighting("dwa", every=5),
    Weighting("gradnorm", wrt="last_layer", params={"alpha": 0.5}, reduce="mean"),
    Weighting("nectargan-weightings/uncertainty"),
]
MODULES = [
    lambda: nn.HuberLoss(delta=0.3),
    lambda: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.1, 3.0]), label_smoothing=0.1),
    lambda: nn.BCEWithLogitsLoss(pos_weight=torch.tensor([[2.0], [0.7]])),
    lambda: nn.SmoothL1Loss(beta=1),
    lambda: nn.L1Loss(reduction="sum"),
    lambda: nn.KLDivLoss(log_target=True, reduction="batchmean"),
    lambda: nn.TripletMarginLoss(margin=0.5, swap=True),
    lambda: nn.NLLLoss(weight=torch.tensor([1.0, 2.0]), ignore_index=3),
]
# A factor that makes a weight too small for a float is refused.
factors = st.floats(1e-30, 1e6) | st.integers(0, 1000) | st.sampled_from([0.0, 0.1, 1e-4])
PREFIXES = ["", "a.b_", "ü ", "x\"y'", "#=[]", "\\n"]


@st.composite
def schedules(draw):
    """Schedules of installed curves, over a part of the run, with each end given or left out."""
    name = draw(st.sampled_from(sorted(CURVES)))
    given, needs_end = CURVES[name]
    unit = draw(st.sampled_from(["fraction", "epoch", "step"]))
    given = {
        key: [Schedule(**part, unit=unit) for part in value] if key in ("factors", "parts") else value
        for key, value in given.items()
    }
    fields = {"unit": unit, "start_epoch": draw(st.sampled_from([0, 0.0])), "params": given}
    if needs_end or draw(st.booleans()):
        fields["end_epoch"] = draw(st.sampled_from([1, 1.0]))
    ends = st.floats(1e-3, 1e3) | st.integers(1, 100)
    for end in ("initial_value", "target_value"):
        if draw(st.booleans()):
            fields[end] = draw(ends)
    if draw(st.booleans()):
        fields["factor"] = draw(st.sampled_from([0.5, 3, 1e-3]))
    return Schedule(name, **fields)


@st.composite
def managers(draw):
    """Managers as a training script might leave them."""
    length = draw(st.sampled_from([{"total_epochs": 20}, {"total_epochs": 2.5}, {"total_steps": 400}]))
    lambdas = {"lambda_l1": 7.0, "lambda_gan": 2, "lambda_sobel": 0.5} if draw(st.booleans()) else {}
    config = {"train": {"loss": lambdas}}
    manager = LossManager(config, **length)
    for number in range(draw(st.integers(1, 3))):
        chosen = draw(st.lists(st.sampled_from(sorted(TERMS)), min_size=1, max_size=2, unique=True))
        # Only one of the two may define the same losses.
        if sum(each.partition(":")[0] in ("gan", "l1", "l2", "pix2pix", "sobel") for each in chosen) > 1:
            chosen = chosen[:1]
        options = {}
        for each in chosen:
            given = draw(st.sampled_from(TERMS[each]))
            if given:
                options[draw(st.sampled_from([each, each.rpartition("/")[2].partition(":")[0]]))] = given
        summands = [f"{draw(factors)!r}*{each}" if draw(st.booleans()) else each for each in chosen]
        prefix = f"{draw(st.sampled_from(PREFIXES))}{number}"
        if draw(st.booleans()):
            options = {name: given for name, given in options.items() if "/" not in name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NectarganWarning)  # of a factor that goes before a lambda
            own = LossManager(config, **length).register_spec(" + ".join(summands), prefix=prefix, options=options)
        names = list(own.get_registered_losses())
        kwargs = {"prefix": prefix, "options": options}
        name = draw(st.sampled_from(names))
        kind = draw(st.sampled_from(["", "weights", "schedules"]))
        if kind:
            kwargs[kind] = {name: draw(factors) if kind == "weights" else draw(schedules())}
        if draw(st.booleans()):
            loss = own.get_registered_losses()[name]
            read = draw(st.sampled_from(list(loss.inputs.values() if isinstance(loss.inputs, dict) else loss.inputs)))
            if read not in loss.as_is:
                kwargs["rename_inputs"] = draw(st.sampled_from([{name: {read: "ü.y"}}, {read: "other"}]))
        if draw(st.booleans()):
            kwargs["weightings"] = {draw(st.sampled_from(names)): draw(st.sampled_from(NAMED_WEIGHTINGS))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NectarganWarning)  # of a factor that goes before a lambda
            try:
                manager.register_spec(" + ".join(summands), **kwargs)
            except ScheduleError:  # Some curves refuse some ends.
                del kwargs[kind]
                manager.register_spec(" + ".join(summands), **kwargs)
    for number in range(draw(st.integers(0, 2))):
        schedule = draw(st.none() | schedules())
        begins = schedule is not None and schedule.initial_value is not None
        with contextlib.suppress(ScheduleError):
            manager.register_loss_fn(
                f"G_OWN{number}",
                draw(st.sampled_from(MODULES))(),
                None if begins else draw(st.none() | factors),
                schedule,
                draw(st.sampled_from([(), ["G"], ["ü", "G"]])),
                inputs=draw(st.sampled_from([("y_fake", "y"), {"input": "logits", "target": "labels"}])),
                skip_when_zero=draw(st.booleans()),
            )
    for _ in range(draw(st.integers(0, 4))):
        names = list(manager.get_registered_losses())
        name, change = draw(st.sampled_from(names)), draw(st.integers(0, 5))
        balanced = manager.manifest().losses[name].weighting
        if change == 0:
            manager.set_weight(name, draw(factors))
        elif change == 1:
            with contextlib.suppress(ScheduleError):
                manager.set_schedule(name, draw(schedules()))
        elif change == 2:
            manager.disable(name)
        elif change == 3 and len(names) > 1:
            manager.unregister(name)
        elif change == 4 and balanced is None:
            manager.set_weighting(draw(st.sampled_from(NAMED_WEIGHTINGS)), name)
        elif change == 5 and balanced is not None:
            manager.set_weighting(None, name)
    return manager


@given(managers())
@settings(max_examples=12)
def test_a_record_through_a_file_builds_losses_of_the_same_record(manager):
    assert_comes_back(manager)


@given(managers(), st.data())
@settings(max_examples=12)
def test_records_differ_where_something_is_told_and_fingerprints_where_that_affects_numbers(manager, draw):
    before = manager.manifest()
    name = draw.draw(st.sampled_from(list(before.losses)))
    change = draw.draw(st.integers(0, 3))
    if change == 0:
        manager.set_weight(name, draw.draw(factors))
    elif change == 1:
        with contextlib.suppress(ScheduleError):
            manager.set_schedule(name, draw.draw(schedules()))
    elif change == 2:
        manager.disable(name)
    after = manager.manifest()
    told = {each.kind for each in before.differences(after)}
    assert (not told) is (before == after)
    assert bool(told - {"order", "provider", "version"}) is (before.fingerprint != after.fingerprint)


@pytest.mark.slow
@given(managers())
@settings(max_examples=200)
def test_many_records_through_files_build_losses_of_the_same_records(manager):
    assert_comes_back(manager)


def test_a_spec_function_that_a_plugin_publishes_is_recorded_by_its_name():
    from nectargan_pix2pix import pix2pix

    config = Config.model_validate({"train": {"loss": {"lambda_l1": 7.0, "lambda_ssim": 3}}})
    called = LossManager().init_from_spec(pix2pix, config, "extended+ssim")
    assert assert_comes_back(called) == LossManager.from_spec("pix2pix:extended + ssim", config).manifest()


def test_options_given_to_a_spec_function_are_recorded():
    from nectargan_gan import gan

    called = LossManager().init_from_spec(gan, Config(), "lsgan", label_smoothing=0.1)
    assert assert_comes_back(called).terms[0].options == {"gan": {"label_smoothing": 0.1}}


def test_torch_losses_of_a_function_that_no_plugin_publishes_come_back():
    def spec(config):
        huber = LMLoss(name="G_HUBER", function=nn.HuberLoss(delta=0.5), loss_weight=2.0, tags=["G"])
        return {"G_HUBER": huber, "G_MSE": LMLoss(name="G_MSE", function=nn.MSELoss())}

    assert_comes_back(LossManager.from_spec(spec))


def test_the_order_of_losses_comes_back():
    manager = LossManager.from_spec("l1")
    manager.register_loss_fn("A", nn.MSELoss())
    manager.register_spec("l2 + sobel")
    manager.unregister("G_L1")
    manager.register_spec("l1")
    assert list(assert_comes_back(manager).losses) == ["A", "G_L2", "G_SOBEL", "G_L1"]


def test_a_weighting_of_losses_that_no_query_finds_comes_back():
    manager = LossManager.from_spec("pix2pix:extended", weightings={"G": Weighting("random")})
    manager.unregister("G_L2")
    manager.register_spec("ssim")  # with the tag, and not balanced
    assert "G_SSIM" not in assert_comes_back(manager).weightings["G"].losses


def test_a_weighting_that_a_spec_brings_comes_back_with_the_names_that_a_prefix_makes():
    manager = LossManager.from_spec("vqgan", prefix="a_", device="meta")
    manager.register_spec("vqgan", prefix="b_", rename_inputs={"last_layer": "other_layer"})
    manager.unregister("a_G_L1")
    record = manager.manifest()
    assert [each.wrt for each in record.weightings.values()] == ["last_layer", "other_layer"]
    for suffix in SUFFIXES:
        assert rebuilt(through_file(record, suffix), device="meta").manifest() == record
    manager.set_weighting(None, ["a_G_LPIPS", "a_G_GAN"])
    assert rebuilt(manager.manifest(), device="meta").manifest() == manager.manifest()


@pytest.mark.parametrize(
    ("name", "arguments", "inputs"),
    [
        ("PairwiseDistance", {}, ["y_fake", "y"]),
        ("PairwiseDistance", {"p": 1.0}, ["y_fake", "y"]),
        ("TripletMarginWithDistanceLoss", {"margin": 0.5}, ["a", "b", "c"]),
        ("Hardtanh", {"min_val": 0.0}, ["y_fake"]),
        ("CrossEntropyLoss", {"weight": [1, 2, 0.1]}, ["logits", "labels"]),
    ],
)
def test_a_class_of_torch_in_a_file_comes_back_whatever_it_keeps_of_its_arguments(name, arguments, inputs):
    extra = {"name": "A", "function": f"torch.nn:{name}", "arguments": arguments, "inputs": inputs}
    manager = LossManager.from_spec(Objective(extra=[extra]))
    assert manager.manifest().losses["A"].unknown == []
    assert_comes_back(manager)


def test_integers_in_a_file_are_class_weights_in_single_precision():
    extra = {
        "name": "A",
        "function": "torch.nn:CrossEntropyLoss",
        "arguments": {"weight": [1, 2]},
        "inputs": ["a", "b"],
    }
    manager = LossManager.from_spec(Objective(extra=[extra]))
    manager.compute_losses({"a": torch.zeros(3, 2), "b": torch.tensor([0, 1, 1])})
    assert manager.get_loss_values() == {"A": 0.69}


def test_numbers_of_a_tensor_are_written_in_few_digits():
    manager = LossManager()
    manager.register_loss_fn("A", nn.CrossEntropyLoss(torch.tensor([0.1, 1 / 3])))
    assert manager.manifest().losses["A"].arguments["weight"] == [0.1, 0.33333334]
    assert_comes_back(manager)


@pytest.mark.parametrize("name", [each for each in vars(nn) if each.endswith("Loss")])
def test_a_loss_of_torch_comes_back(name):
    takes = {
        "AdaptiveLogSoftmaxWithLoss": {"in_features": 4, "n_classes": 6, "cutoffs": [2]},
        "LinearCrossEntropyLoss": {"in_features": 4, "num_classes": 6},
    }
    manager = LossManager()
    manager.register_loss_fn("A", getattr(nn, name)(**takes.get(name, {})), 2.0)
    # They have a function by default, and attributes that are not what was given.
    if name in ("TripletMarginWithDistanceLoss", *takes):
        with pytest.raises(ObjectiveError, match=r"loss A: .* absent; .*register it in Python"):
            rebuilt(manager.manifest())
    else:
        assert_comes_back(manager)


def test_a_record_of_nothing_comes_back():
    assert_comes_back(LossManager())
    assert_comes_back(LossManager(total_steps=3))


# What no file can bring back


class Doubled(nn.Module):
    """A module that torch.nn does not have."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = scale

    def forward(self, x, y):
        return self.scale * (x - y).abs().mean()


class Halves:
    """A weighting that no plugin offers."""

    needs = "values"

    def factors(self, step):
        return [0.5] * len(step.losses)


def absolute(x, y):
    return (x - y).abs().mean()


def rising(schedule, epoch):
    return 1.0 + epoch


@pytest.mark.parametrize(
    ("function", "path", "fix"),
    [
        (lambda x, y: (x - y).mean(), "test_objective_files:<lambda>", "no import path"),
        (absolute, "test_objective_files:absolute", "plugins and classes of torch.nn"),
        (Doubled(3.0), "test_objective_files:Doubled", "plugins and classes of torch.nn"),
        (
            functools.partial(nn.functional.smooth_l1_loss, beta=0.5),
            "torch.nn.functional:smooth_l1_loss",
            "by register",
        ),
        (torch.dist, "torch:_VariableFunctionsClass.dist", "by register_loss_fn"),
        (Doubled().forward, "test_objective_files:Doubled.forward", "by register_loss_fn"),
    ],
)
def test_a_function_that_no_file_brings_back_is_recorded_and_missed(function, path, fix):
    manager = LossManager.from_spec("l1")
    manager.register_loss_fn("G_OWN", function, 2.0, tags=["G"])
    record = through_file(manager.manifest(), ".toml")
    assert record.losses["G_OWN"].function.rpartition(".")[2] == path.rpartition(".")[2]
    with pytest.warns(NectarganWarning, match=r"loss G_OWN: recorded .*, here absent; .*" + fix):
        again = LossManager.from_spec(record)
    assert list(again.get_registered_losses()) == ["G_L1"]
    with pytest.raises(ObjectiveError, match=r"loss G_OWN: .*register_loss_fn") as refused:
        rebuilt(record)
    assert [(each.kind, each.name) for each in refused.value.differences] == [("loss", "G_OWN")]
    again.register_loss_fn("G_OWN", function, 2.0, tags=["G"])
    assert again.manifest() == record


def test_a_schedule_function_is_a_label_until_it_is_given_again():
    schedule = Schedule(rising, end=10)
    record = through_file(LossManager.from_spec("10*l1", schedules={"G_L1": schedule}).manifest(), ".json")
    with pytest.warns(NectarganWarning, match=r"schedule of G_L1: recorded .*rising.*, here none; .* by schedules="):
        assert LossManager.from_spec(record).get_loss_weights()["G_L1"] == 10
    with pytest.raises(ObjectiveError, match="schedule of G_L1"):
        rebuilt(record)
    assert rebuilt(record, schedules={"G_L1": schedule}).manifest() == record


def test_a_weighting_class_is_a_label_until_it_is_given_again():
    record = LossManager.from_spec("l1 + ssim", weightings={"G": Weighting(Halves)}).manifest()
    with pytest.warns(
        NectarganWarning, match=r"weighting of G_L1, G_SSIM: recorded .*Halves, here none; .*weightings="
    ):
        LossManager.from_spec(through_file(record, ".toml"))
    assert rebuilt(record, weightings={"G": Weighting(Halves)}).manifest() == record


SPECS = """
import torch
from nectargan_core import LMLoss

class Scaled(torch.nn.Module):
    def __init__(self, network=None, scale=1.0):
        super().__init__()
        self.network, self.scale = network, scale
        self.weight_files = FILES

    def forward(self, x, y):
        return self.scale * (x - y).abs().mean()

class Hidden(torch.nn.Module):
    def __init__(self, scale=1.0, checkpoint=None):
        super().__init__()
        self._scale, self.weight_files = scale, FILES

    def forward(self, x, y):
        return self._scale * (x - y).abs().mean()

FILES = {}
VERSION = 1

def scaled(config, *, network=None, scale=1.0):
    weight = config.loss_weight("scaled", default=2.0)
    loss = LMLoss(name="G_S", function=Scaled(network, scale), loss_weight=weight, tags=["G"], version=VERSION)
    return {"G_S": loss}

def hidden(config, *, scale=1.0, checkpoint=None):
    return {"G_H": LMLoss(name="G_H", function=Hidden(scale, checkpoint), tags=["G"])}
"""


@pytest.fixture
def acme(site):
    """A distribution with the specs above, and its module."""
    specs = {name: f"acme_scaled:{name}" for name in ("scaled", "hidden")}
    site.install("acme-scaled", "1.0", specs=specs, modules={"acme_scaled.py": SPECS})
    yield __import__("acme_scaled")
    del sys.modules["acme_scaled"]


def test_an_option_that_is_an_object_is_named_until_it_is_given_again(acme):
    network = object()
    manager = LossManager.from_spec("scaled", options={"scaled": {"network": network, "scale": 3}})
    record = through_file(manager.manifest(), ".toml")
    assert record.terms[0].unwritten == ["scaled.network"]
    assert record.terms[0].options == {"scaled": {"scale": 3}}
    with pytest.warns(NectarganWarning, match=r"option of scaled\.network: recorded an object that no file can hold"):
        LossManager.from_spec(record)
    with pytest.raises(ObjectiveError, match=r"pass options=\{'scaled': \{'network': \.\.\.\}\}"):
        rebuilt(record)
    assert rebuilt(record, options={"scaled": {"network": network}}).manifest() == record


# Fingerprints


def fingerprint(spec="pix2pix:extended", config=None, change=None, **keywords):
    manager = LossManager.from_spec(spec, config, **keywords)
    if change is not None:
        change(manager)
    return manager.manifest().fingerprint


def fraction(end):
    return Schedule(unit="fraction", end=end, target_value=0.0)


def test_what_stands_for_the_same_has_the_same_fingerprint():
    lambdas = {"train": {"loss": {"lambda_l1": 7.0}}}
    same = [
        fingerprint(config=lambdas),
        fingerprint(weights={"G_L1": 7}),
        fingerprint(change=lambda manager: manager.set_weight("G_L1", 7.0)),
        fingerprint("nectargan-pix2pix/pix2pix:extended", lambdas),
        fingerprint(Objective(formula="pix2pix:extended", losses={"G_L1": {"weight": 7}})),
        fingerprint(config=lambdas, total_epochs=20),  # to which no schedule is relative
        fingerprint(config={**lambdas, "device": "cpu"}),
        fingerprint(config=lambdas, device="meta"),
    ]
    assert set(same) == {same[0]}
    assert fingerprint("pix2pix") == fingerprint("pix2pix:basic")
    assert fingerprint("l1 + ssim") == fingerprint("ssim+l1")


@pytest.mark.parametrize(
    ("short", "spelt_out"),
    [
        (Weighting("dwa"), Weighting("nectargan-weightings/dwa", params={"temperature": 2.0})),
        (Schedule(end=10, target_value=0.0), Schedule("nectargan-core/linear", end=10, target_value=0.0)),
        (
            Schedule("polynomial", end=10, target_value=0.0),
            Schedule("polynomial", end=10, target_value=0.0, params={"power": 1}),
        ),
    ],
)
def test_a_provider_and_defaults_that_are_spelt_out_are_in_no_fingerprint(short, spelt_out):
    keyword, name = ("weightings", "G") if isinstance(short, Weighting) else ("schedules", "G_L1")
    assert fingerprint(**{keyword: {name: short}}) == fingerprint(**{keyword: {name: spelt_out}})


@pytest.mark.parametrize(
    "keywords",
    [
        {"weights": {"G_L1": 7.0}},
        {"schedules": {"G_L1": Schedule(end=10, target_value=0.0)}},
        {"schedules": {"G_L1": Schedule("cosine", end=10, target_value=0.0)}},
        {"schedules": {"G_L1": Schedule("polynomial", end=10, target_value=0.0, params={"power": 3})}},
        {"schedules": {"G_L1": fraction(0.5)}, "total_epochs": 20},
        {"schedules": {"G_L1": fraction(0.5)}, "total_epochs": 21},
        {"schedules": {"G_L1": fraction(0.5)}, "total_steps": 20},
        {"rename_inputs": {"y": "x"}},
        {"rename_inputs": {"G_L1": {"y": "x"}}},
        {"prefix": "a"},
        {"weightings": {"G": Weighting("random")}},
        {"weightings": {"G": Weighting("relobralo")}},
        {"weightings": {"G": Weighting("relobralo", params={"temperature": 0.5})}},
        {"weightings": {"G": Weighting("relobralo", every=2)}},
        {"weightings": {"G_L1": Weighting("relobralo")}},
        {"change": lambda manager: manager.disable("G_L1")},
        {"change": lambda manager: manager.unregister("G_L1")},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.L1Loss())},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.L1Loss(), tags=["G"])},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.L1Loss(reduction="sum"))},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.HuberLoss())},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.HuberLoss(delta=0.5))},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.CrossEntropyLoss(torch.tensor([1.0, 2.0])))},
        {"change": lambda manager: manager.register_loss_fn("G_A", nn.CrossEntropyLoss(torch.tensor([1.0, 3.0])))},
    ],
)
def test_what_changes_numbers_changes_the_fingerprint(keywords):
    seen = SEEN.setdefault(fingerprint(**keywords), keywords)
    assert seen is keywords
    assert fingerprint() not in SEEN


SEEN = {}


def test_options_weight_files_and_versions_of_meaning_are_in_the_fingerprint(acme, monkeypatch):
    seen = [fingerprint("scaled"), fingerprint("scaled", options={"scaled": {"scale": 2.0}})]
    seen += [fingerprint("hidden"), fingerprint("hidden", options={"hidden": {"scale": 2.0}})]
    monkeypatch.setattr(acme, "VERSION", 2)
    seen.append(fingerprint("scaled"))
    monkeypatch.setattr(acme, "FILES", {"vgg.pth": "0" * 64})
    seen.append(fingerprint("scaled"))
    monkeypatch.setattr(acme, "FILES", {"vgg.pth": "1" * 64})
    seen.append(fingerprint("scaled"))
    assert len(set(seen)) == len(seen)


def test_options_by_default_are_options_like_others(acme):
    spelt = {"hidden": {"scale": 1.0, "checkpoint": None}}
    assert fingerprint("hidden", options=spelt) == fingerprint("hidden") == fingerprint("acme-scaled/hidden")
    assert fingerprint("hidden", options={"hidden": {"checkpoint": object()}}) == fingerprint(
        "hidden", options={"hidden": {"checkpoint": object()}}
    )


def test_where_a_weight_file_lies_is_not_in_the_fingerprint(acme, monkeypatch, tmp_path):
    monkeypatch.setattr(acme, "FILES", {"vgg.pth": "0" * 64})
    places = [None, "vgg.pth", "/models/vgg.pth", tmp_path / "vgg.pth", "C:\\models\\vgg.pth"]
    assert len({fingerprint("hidden", options={"hidden": {"checkpoint": place}}) for place in places}) == 1


def upgrade(site):
    """Replace the distribution by its next release, of the module that is imported already."""
    site.install("acme-scaled", "1.1", specs={name: f"acme_scaled:{name}" for name in ("scaled", "hidden")})
    (site.path / "acme_scaled-1.0.dist-info").rename(site.path / "old")
    catalog.refresh()


def test_releases_of_distributions_are_beside_the_fingerprint(acme, site):
    record = LossManager.from_spec("scaled").manifest()
    assert record.providers == {"acme-scaled": "1.0"}
    upgrade(site)
    with pytest.warns(
        NectarganWarning, match=r"version of acme-scaled: recorded 1\.0, here 1\.1; pip install acme-scaled==1\.0"
    ):
        newer = LossManager.from_spec(record).manifest()
    assert (newer.fingerprint, newer.providers) == (record.fingerprint, {"acme-scaled": "1.1"})
    assert [each.kind for each in record.differences(newer)] == ["version"]


def test_a_loss_that_a_plugin_no_longer_brings_is_a_difference_with_the_release_that_brings_it(acme, site, monkeypatch):
    record = LossManager.from_spec("scaled + hidden").manifest()
    monkeypatch.setattr(acme.scaled, "__code__", (lambda config, *, network=None, scale=1.0: {}).__code__)
    with pytest.raises(
        ObjectiveError, match=r"loss G_S: .*, here absent; acme-scaled 1\.0 is here, and does not bring"
    ):
        rebuilt(record)
    upgrade(site)
    with pytest.raises(ObjectiveError, match=r"loss G_S: .*, here absent; pip install acme-scaled==1\.0"):
        rebuilt(record)


def test_a_plugin_that_is_gone_is_an_error_with_the_line_that_installs_it(site, tmp_path):
    info = site.install_spec("acme-losses", "lossy", "2.3")
    record = LossManager.from_spec("lossy").manifest()
    record.save(tmp_path / "run.json")
    site.uninstall(info)
    with pytest.raises(PluginNotFoundError, match=r"pip install acme-losses==2\.3") as missing:
        LossManager.from_spec(tmp_path / "run.json")
    assert str(missing.value).startswith(str(tmp_path / "run.json"))


PROCESS = """
import sys
from pathlib import Path
from nectargan_core import LossLog, LossManager, Objective
record = Objective.load(Path(sys.argv[1]))
made = LossManager.from_spec(record, strict=True).manifest()
assert made == record, record.differences(made)
print(made.fingerprint)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", *(pytest.param(seed, marks=pytest.mark.slow) for seed in ("1", "4242"))])
def test_the_header_of_a_log_rebuilds_the_objective_in_a_new_process(tmp_path, seed):
    schedules = {"G_L1": Schedule("cosine", unit="fraction", start=0.5, end=1.0, target_value=0.0)}
    with LossManager.from_spec(
        "pix2pix:extended + 10*ssim", None, tmp_path, schedules=schedules, total_epochs=3
    ) as run:
        run.register_loss_fn("G_HUBER", nn.HuberLoss(delta=0.5), 5.0, tags=["G", "B", "A"])
        run.set_weighting(Weighting("relobralo"), "G")
        run.tick(epoch=0)
        x = torch.randn(1, 3, 16, 16, requires_grad=True).tanh()
        run.compute_losses(dict.fromkeys(("y_fake", "y", "pred_fake", "pred_real"), x / 2))
    found = subprocess.run(
        [sys.executable, "-c", PROCESS, tmp_path],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == run.manifest().fingerprint


# Published objectives


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({entry.plugin.name for entry in catalog.plugins(catalog.SPECS)}))
def test_a_published_objective_survives_file_and_back(name):
    variants = variants_of(catalog.find(catalog.SPECS, name).load()) or ()
    fingerprints = []
    for term in (name, *(f"{name}:{variant}" for variant in variants)):
        record = LossManager.from_spec(term, device="meta").manifest()  # without weight files
        fingerprints.append(record.fingerprint)
        for suffix in SUFFIXES:
            again = rebuilt(through_file(record, suffix), device="meta").manifest()
            assert (again, again.fingerprint) == (record, record.fingerprint)
    # One variant is what the name alone stands for, and no two are the same.
    assert len(set(fingerprints[1:])) == len(variants)
    assert not variants or fingerprints[0] in fingerprints[1:]


@pytest.mark.parametrize("name", ["gfpgan", "codeformer_1", "codeformer_2", "codeformer_3", "neosr"])
def test_an_objective_of_the_page_survives_file_and_back(name):
    assert_comes_back(of_the_page(name))


def test_an_option_that_is_a_module_of_torch_comes_back(acme):
    options = {"scaled": {"network": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))}}
    record = assert_comes_back(LossManager.from_spec("scaled", options=options))
    assert record.terms[0].unwritten == []
    assert record.terms[0].options["scaled"]["network"]["function"] == "torch.nn:CrossEntropyLoss"
