"""Options as text: weights and schedules, and how those of two runs differ."""

import contextlib
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nectargan_pix2pix.options import OptionError, Options, read_schedule, read_weights, split_schedules

from nectargan_core import Schedule

RUN = Options(
    spec="pix2pix",
    objective=None,
    data=None,
    epochs=30,
    batch_size=8,
    channels=16,
    seed=0,
    lr_g=1e-3,
    lr_d=2e-4,
    weights={"G_L1": 50.0},
    schedules={},
    config={"train": {"loss": {"lambda_l1": 7}}},
    device="cpu",
    checkpoint_every=None,
    log_to=["acme"],
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear:end=30,target_value=0", Schedule(end=30, target_value=0.0)),
        ("linear : end = 30 , target_value = 0 ", Schedule(end=30, target_value=0.0)),
        ("cosine:start_epoch=1,end_epoch=2.5", Schedule("cosine", start=1, end=2.5)),
        ("acme/wave:period=4,phase=early", Schedule("acme/wave", params={"period": 4, "phase": "early"})),
        ("step:every=10,unit=step,factor=0.5", Schedule("step", unit="step", factor=0.5, params={"every": 10})),
        ("multistep:milestones=[1,2],gamma=0.5", Schedule("multistep", params={"milestones": [1, 2], "gamma": 0.5})),
        ('said:text="a,b",last=1', Schedule("said", params={"text": "a,b", "last": 1})),
        ("linear", Schedule()),
    ],
)
def test_a_schedule_is_read(text, expected):
    assert read_schedule(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear:start=3,end=1", r"start \(3\) is after end \(1\)"),
        ("linear:start=x", "start: Input should be a valid number, unable to parse string as a number; expected"),
        ("linear:end=2,unit=fraction", r"end \(2\) is not from 0 to 1"),
    ],
)
def test_a_wrong_schedule_is_told_in_the_words_of_the_option(text, expected):
    with pytest.raises(OptionError, match=expected):
        read_schedule(text)


@given(st.text(max_size=40))
def test_any_text_is_a_schedule_or_an_error_of_an_option(text):
    with contextlib.suppress(OptionError):
        assert isinstance(read_schedule(text), Schedule)


@given(st.text(max_size=40))
def test_any_text_is_a_weight_or_an_error_of_an_option(text):
    with contextlib.suppress(OptionError):
        assert len(read_weights([text])) == 1


NAMES = st.from_regex(r"[A-Za-z_]+[0-9=]?", fullmatch=True)


@given(st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False)))
def test_weights_are_read_as_they_are_written(weights):
    assert read_weights(f"{name}={weight!r}" for name, weight in weights.items()) == weights


def test_schedules_are_kept_as_text_by_loss():
    assert split_schedules(["G_L1=linear:end=3"]) == {"G_L1": "linear:end=3"}


def test_options_are_plain_data_and_back():
    assert Options.of(asdict(RUN)) == RUN


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"speed": 3}, "its options are"), ({"epochs": "3"}, "epochs is '3'"), ({"weights": None}, "weights is None")],
)
def test_other_options_are_refused(change, expected):
    with pytest.raises(ValueError, match=expected):
        Options.of({**asdict(RUN), **change})


def test_options_that_are_given_again_do_not_differ():
    assert RUN.differences(asdict(RUN)) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch_size": 4}, "--batch-size is 8 in that run, and 4 is given"),
        ({"epochs": 20}, "--epochs is 30 in that run, and 20 is given"),
        ({"weights": {"G_L1": 5.0}}, "--weight G_L1 is 50.0 in that run, and 5.0 is given"),
        ({"weights": {}}, "--weight G_L1 is 50.0 in that run, and left out is given"),
        ({"schedules": {"G_L1": "linear"}}, "--schedule G_L1 is left out in that run, and linear is given"),
        ({"objective": {"formula": "l1"}}, "--objective is left out in that run, and is given"),
        (
            {"config": {"train": {"loss": {"lambda_l1": 8}}}},
            "--config train.loss.lambda_l1 is 7 in that run, and 8 is given",
        ),
    ],
)
def test_an_option_that_is_given_otherwise_is_named(given, expected):
    assert RUN.differences(given) == [expected]


def test_the_keys_of_an_objective_that_differ_are_named():
    run = replace(RUN, spec=None, objective={"terms": [{"formula": "l1"}], "losses": {"G_L1": {"weight": 5.0}}})
    given = {"terms": [{"formula": "l2"}], "losses": {"G_L1": {"weight": 6.0}}}
    assert run.differences({"objective": given}) == [
        "--objective terms[0].formula is l1 in that run, and l2 is given",
        "--objective losses.G_L1.weight is 5.0 in that run, and 6.0 is given",
    ]


def test_device_checkpoints_and_more_epochs_may_be_given_otherwise():
    assert RUN.differences({"device": "cuda", "checkpoint_every": 5, "epochs": 31, "log_to": []}) == []
