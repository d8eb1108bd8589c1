"""A parameter that cannot be used is an error when the weighting is made; it names the parameter and its value."""

import importlib.util

import nectargan_torchjd
import pytest

NAMES = ["G_GAN", "G_L1", "G_VGG"]


@pytest.mark.parametrize(
    ("which", "params", "said"),
    [
        ("torchjd-mgda", {"epsilon": 0}, "epsilon must be a finite number above 0, got 0"),
        ("torchjd-mgda", {"epsilon": float("nan")}, "epsilon must be a finite number above 0, got nan"),
        ("torchjd-mgda", {"epsilon": 10**400}, "epsilon must be a finite number above 0, got 1000"),
        ("torchjd-mgda", {"epsilon": "0.1"}, "epsilon must be a finite number above 0, got '0.1'"),
        ("torchjd-mgda", {"max_iters": 0}, "max_iters must be an integer of at least 1, got 0"),
        ("torchjd-mgda", {"max_iters": 2.0}, r"max_iters must be an integer of at least 1, got 2\.0"),
        ("torchjd-mgda", {"max_iters": True}, "max_iters must be an integer of at least 1, got True"),
        ("torchjd-mgda", {"weighted": 1}, "weighted must be True or False, got 1"),
        ("torchjd-pcgrad", {"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ("torchjd-pcgrad", {"seed": None}, "seed must be an integer of at least 0, got None"),
        ("torchjd-gradvac", {"beta": 1.5}, r"beta must be a number from 0 to 1, got 1\.5"),
        ("torchjd-gradvac", {"eps": -1e-9}, "eps must be a finite number of at least 0, got -1e-09"),
        ("torchjd-gradvac", {"seed": 0.5}, r"seed must be an integer of at least 0, got 0\.5"),
        ("torchjd-aligned-mtl", {"scale_mode": "max"}, 'scale_mode must be "min", "median" or "rmse", got \'max\''),
        ("torchjd-aligned-mtl", {"pref_vector": 2.0}, "pref_vector must be a list with a number for each loss"),
        ("torchjd-aligned-mtl", {"pref_vector": "123"}, "pref_vector must be a list with a number for each loss"),
        ("torchjd-aligned-mtl", {"pref_vector": [1, -1]}, r"pref_vector\[1\] must be a finite number of at least 0"),
        ("torchjd-aligned-mtl", {"pref_vector": {"a": None}}, r"pref_vector\['a'\] must be a finite number"),
        ("torchjd-krum", {"n_byzantine": -1}, "n_byzantine must be an integer of at least 0, got -1"),
        ("torchjd-krum", {"n_selected": 0}, "n_selected must be an integer of at least 1, got 0"),
        ("torchjd-pcd", {"primary": 0}, "primary must be the name of a loss, got 0"),
        ("torchjd-pcd", {"tau": 1.1}, r"tau must be a number from 0 to 1, got 1\.1"),
        ("torchjd-pcd", {"tau": True}, "tau must be a number from 0 to 1, got True"),
        ("torchjd-pcd", {"tau": None}, "tau must be a list with a number for each loss"),
        ("torchjd-pcd", {"tau": [0.1, 2]}, r"tau\[1\] must be a number from 0 to 1, got 2"),
        ("torchjd-pcd", {"beta": 1}, "beta must be a number from 0 to below 1, got 1"),
        ("torchjd-pcd", {"eps": -1.0}, "eps must be a finite number of at least 0"),
        ("torchjd-cr-mogm", {"weighting": "mgda"}, "weighting must be one of torchjd-aligned-mtl, .* got 'mgda'"),
        ("torchjd-cr-mogm", {"weighting": "torchjd-cr-mogm"}, "weighting must be one of torchjd-aligned-mtl"),
        ("torchjd-cr-mogm", {"weighting": ["torchjd-mgda"]}, "weighting must be one of torchjd-aligned-mtl"),
        ("torchjd-cr-mogm", {"params": {"weighted": False}}, "params must be a dict .* without weighted"),
        ("torchjd-cr-mogm", {"params": [1]}, r"params must be a dict .*, got \[1\]"),
        ("torchjd-cr-mogm", {"params": {"epsilon": 0}}, "epsilon must be a finite number above 0, got 0"),
        ("torchjd-cr-mogm", {"alpha": -0.1}, r"alpha must be a number from 0 to 1, got -0\.1"),
        ("torchjd-cr-mogm", {"initial_weights": 1}, "initial_weights must be a list with a number for each loss"),
        ("torchjd-cagrad", {"c": -1}, "c must be a finite number of at least 0, got -1"),
        ("torchjd-cagrad", {"norm_eps": float("inf")}, "norm_eps must be a finite number of at least 0, got inf"),
        ("torchjd-fairgrad", {"alpha": -1}, "alpha must be a finite number of at least 0, got -1"),
        ("torchjd-fairgrad", {"max_iters": 0}, "max_iters must be an integer of at least 1, got 0"),
        ("torchjd-upgrad", {"norm_eps": "x"}, "norm_eps must be a finite number of at least 0, got 'x'"),
        ("torchjd-upgrad", {"reg_eps": -1}, "reg_eps must be a finite number of at least 0, got -1"),
        ("torchjd-dualproj", {"pref_vector": [None]}, r"pref_vector\[0\] must be a finite number of at least 0"),
    ],
)
def test_a_parameter_out_of_its_range_is_named(which, params, said, make):
    with pytest.raises(ValueError, match=f"^{said}"):
        make(which, **params)


@pytest.mark.parametrize(("which", "parameter"), [("CAGrad", "c"), ("FairGrad", "alpha"), ("Krum", "n_byzantine")])
def test_a_parameter_without_a_default_has_to_be_given(which, parameter):
    with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{parameter}'"):
        getattr(nectargan_torchjd, which)()


@pytest.mark.parametrize(
    ("which", "params", "said"),
    [
        ("torchjd-aligned-mtl", {"pref_vector": [1, 2]}, "pref_vector must have .* each of the 3 losses .*, got 2"),
        ("torchjd-upgrad", {"pref_vector": [1] * 4}, "pref_vector must have .* each of the 3 losses .*, got 4"),
        ("torchjd-dualproj", {"pref_vector": []}, "pref_vector must have .* each of the 3 losses .*, got 0"),
        (
            "torchjd-aligned-mtl",
            {"pref_vector": {"G_GAN": 1, "G_L1": 1, "G_VG": 1}},
            "pref_vector must have .* and no other, but it differs in G_VG, G_VGG",
        ),
        ("torchjd-krum", {"n_byzantine": 1}, "n_byzantine and n_selected as given take at least 4 losses .*, got 3: G"),
        ("torchjd-krum", {"n_selected": 4}, "n_byzantine and n_selected as given take at least 4 losses .*, got 3: G"),
        ("torchjd-pcd", {"primary": "G_L"}, "primary must be one of G_GAN, G_L1, G_VGG, got 'G_L'"),
        ("torchjd-pcd", {"tau": [0.1] * 3}, "tau must have a number for each of the 2 losses G_L1, G_VGG, got 3"),
        ("torchjd-cr-mogm", {"initial_weights": [1]}, "initial_weights must have .* of the 3 losses .*, got 1"),
        (
            "torchjd-cr-mogm",
            {"weighting": "torchjd-krum", "params": {"n_byzantine": 1}},
            "n_byzantine and n_selected as given take at least 4",
        ),
    ],
)
def test_a_parameter_that_does_not_fit_the_losses_is_named_when_they_are_known(which, params, said, make):
    weighting = make(which, **params)
    with pytest.raises(ValueError, match=f"^{said}"):
        weighting.begin(NAMES)


def test_numbers_for_losses_are_theirs_when_some_do_not_run(make, step, rows):
    jacobian = rows(0)
    weighting = make("torchjd-aligned-mtl", pref_vector=[1.0, 5.0, 2.0])
    weighting.begin(NAMES)
    some = step(jacobian[[0, 2]], names=("G_GAN", "G_VGG"))
    assert weighting.factors(some) == make("torchjd-aligned-mtl", pref_vector=[1.0, 2.0]).factors(some)
    by_name = make("torchjd-aligned-mtl", pref_vector={"G_VGG": 2.0, "G_L1": 5.0, "G_GAN": 1.0})
    by_name.begin(NAMES)
    assert by_name.factors(some) == weighting.factors(some)


def test_a_loss_without_a_number_is_named(make, step, rows):
    weighting = make("torchjd-aligned-mtl", pref_vector=[1.0, 5.0])
    weighting.begin(NAMES[:2])
    with pytest.raises(ValueError, match="^pref_vector has no number for G_VGG; it has for G_GAN, G_L1$"):
        weighting.factors(step(rows(0)))


def test_krum_with_too_few_losses_that_run_says_how_many_it_takes(make, step, rows):
    with pytest.raises(ValueError, match="^n_byzantine and n_selected as given take at least 3 losses that run, got 2"):
        make("torchjd-krum").factors(step(rows(0)[:2]))


@pytest.mark.parametrize(
    ("which", "module", "extra"),
    [
        ("torchjd-cagrad", "cvxpy", "cagrad"),
        ("torchjd-fairgrad", "scipy", "fairgrad"),
        ("torchjd-upgrad", "quadprog", "quadprog"),
        ("torchjd-dualproj", "qpsolvers", "quadprog"),
    ],
)
def test_a_solver_that_is_not_installed_is_an_error_that_names_the_extra(which, module, extra, make, monkeypatch):
    found = importlib.util.find_spec
    absent = lambda name, *rest: None if name == module else found(name, *rest)  # noqa: E731 -- as short as it is
    monkeypatch.setattr("torchjd._mixins.find_spec", absent)
    with pytest.raises(ImportError, match=rf'pip install "nectargan-torchjd\[{extra}\]"'):
        make(which)
