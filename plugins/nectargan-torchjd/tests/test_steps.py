"""What is drawn follows from seed and step; what is remembered is kept by the names of losses, and can be resumed."""

import json
from collections import Counter

import pytest
import torch

DRAWING = ["torchjd-pcgrad", "torchjd-gradvac"]
REMEMBERING = {
    "torchjd-gradvac": {"beta": 0.3},
    "torchjd-pcd": {"beta": 0.7, "tau": 0.2},
    "torchjd-cr-mogm": {"weighting": "torchjd-pcd", "params": {"tau": 0.2}},
    "torchjd-cr-mogm ": {"weighting": "torchjd-gradvac"},
}


@pytest.mark.parametrize("name_of_one", DRAWING)
def test_what_is_drawn_at_a_step_depends_on_nothing_before(name_of_one, make, step, rows):
    jacobian = rows(0, losses=6)
    expected = make(name_of_one).factors(step(jacobian, step=7))
    torch.manual_seed(123)
    torch.rand(10)
    assert make(name_of_one).factors(step(jacobian, step=7)) == expected


@pytest.mark.parametrize("name_of_one", DRAWING)
def test_other_steps_and_seeds_draw_something_else(name_of_one, make, step):
    # Each two of these gradients conflict.
    jacobian = torch.diag(torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4], dtype=torch.float64))
    jacobian -= jacobian.mean(0)
    found = {
        tuple(make(name_of_one, seed=seed).factors(step(jacobian, step=at))) for seed in range(3) for at in range(10)
    }
    assert len(found) > 25


def test_all_orders_are_drawn_equally_often(drawing_at):
    counted = Counter()
    for at in range(6000):
        with drawing_at(at):
            counted[tuple(torch.randperm(3).tolist())] += 1
    assert len(counted) == 6
    # Some five standard deviations.
    assert all(abs(count - 1000) < 150 for count in counted.values())


@pytest.mark.parametrize("name_of_one", DRAWING)
def test_the_generator_is_restored_after_an_error_too(name_of_one, make, step, rows):
    weighting = make(name_of_one)
    weighting.torchjd.forward = lambda gramian: 1 / 0
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="cannot weigh"):
        weighting.factors(step(rows(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name_of_one", REMEMBERING)
def test_what_is_remembered_belongs_to_names_not_to_places(name_of_one, make, step, rows):
    params = {**REMEMBERING[name_of_one]}
    if name_of_one == "torchjd-pcd":
        params["primary"] = "a"
    elif params.get("weighting") == "torchjd-pcd":
        params["params"] = {"tau": 0.2, "primary": "a"}
    straight, turned = make(name_of_one.strip(), **params), make(name_of_one.strip(), **params)
    for at in range(6):
        jacobian = rows(at, losses=2)
        expected = straight.factors(step(jacobian, names=("a", "b"), step=at))
        if at % 2:
            found = turned.factors(step(jacobian.flip(0), names=("b", "a"), step=at))[::-1]
        else:
            found = turned.factors(step(jacobian, names=("a", "b"), step=at))
        assert found == pytest.approx(expected, rel=1e-12)


def test_gradvac_remembers_a_pair_while_another_loss_comes_and_goes(make, step, rows):
    weighting = make("torchjd-gradvac", beta=0.5)
    first, second, third = rows(0)
    cosine = torch.cosine_similarity(first, second, dim=0).item()
    assert cosine > 0.0
    weighting.factors(step(torch.stack([first, second]), names=("a", "b")))
    weighting.factors(step(torch.stack([third, second]), names=("c", "b"), step=1))
    assert weighting.state_dict()["cosines"]["a"] == {"b": pytest.approx(0.5 * cosine)}
    weighting.factors(step(torch.stack([second, first]), names=("b", "a"), step=2))
    assert weighting.state_dict()["cosines"]["a"] == {"b": pytest.approx(0.75 * cosine)}
    assert set(weighting.state_dict()["cosines"]["b"]) == {"a", "c"}


def test_pcd_corrects_the_average_of_a_loss_that_runs_seldom_by_its_own_number_of_steps(make, step):
    # With equal norms at all steps where a loss runs, the corrected average is the norm, however seldom that is.
    jacobian = torch.tensor([[2.0, 0.0, 0.0], [-1.0, 3.0, 0.0], [0.5, 0.0, 5.0]], dtype=torch.float64)
    weighting = make("torchjd-pcd", tau=0.5, eps=0.0)
    expected = make("torchjd-pcd", tau=0.5, eps=0.0).factors(step(jacobian))
    for at in range(40):
        if at % 16:
            weighting.factors(step(jacobian[:2], step=at))
        else:
            assert weighting.factors(step(jacobian, step=at)) == pytest.approx(expected, rel=1e-9)
    assert weighting.state_dict()["calls"] == {"G_GAN": 40.0, "G_L1": 40.0, "G_VGG": 3.0}


def test_pcd_leaves_the_others_as_they_are_while_the_primary_loss_does_not_run(make, step, rows):
    weighting = make("torchjd-pcd", primary="G_KL")
    assert weighting.factors(step(rows(0))) == [1.0, 1.0, 1.0]


def test_cr_mogm_starts_a_loss_that_runs_for_the_first_time_at_its_weight(make, step, rows):
    smooth, plain = make("torchjd-cr-mogm"), make("torchjd-mgda")
    smooth.factors(step(rows(0)[:2]))
    assert smooth.factors(step(rows(1)))[2] == pytest.approx(plain.factors(step(rows(1)))[2])


@pytest.mark.parametrize("name_of_one", REMEMBERING)
@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {"cosines": {"a": {"b": "x"}}, "squares": {"a": "x"}, "calls": {"a": 1}, "weights": {"a": None}, "other": {}},
        {"cosines": {"a": {"b": float("nan")}}, "squares": {"a": -1.0}, "calls": {"a": 1}, "weights": {"a": True}},
        {"cosines": {"a": {"b": 10**400}}, "squares": {"a": 10**400}, "calls": {"a": 1}, "weights": {"a": 10**400}},
        {"cosines": {"a": 1.0}, "squares": {"a": 1.0}, "calls": {}, "weights": {"a": 1.0}, "other": {}},
    ],
)
def test_a_state_of_another_shape_is_refused_and_changes_nothing(name_of_one, make, step, rows, broken):
    weighting = make(name_of_one.strip(), **REMEMBERING[name_of_one])
    weighting.factors(step(rows(0)))
    before = json.dumps(weighting.state_dict())
    with pytest.raises(ValueError, match="state"):
        weighting.load_state_dict(broken)
    assert json.dumps(weighting.state_dict()) == before


def test_what_has_no_state_has_no_methods_for_one(name, make):
    assert hasattr(make(name), "state_dict") == (name in {each.strip() for each in REMEMBERING})
