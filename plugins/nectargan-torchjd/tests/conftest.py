"""Shared fixtures: steps made from gradients, and each weighting beside the aggregator of TorchJD that it equals."""

import nectargan_torchjd as ours
import pytest
import torch
from nectargan_torchjd.draws import Draws
from torchjd.aggregation import (
    IMTLG,
    MGDA,
    PCD,
    AlignedMTL,
    CAGrad,
    CRMOGMWeighting,
    DualProj,
    FairGrad,
    GradVac,
    GramianWeightedAggregator,
    Krum,
    MGDAWeighting,
    PCGrad,
    UPGrad,
)
from torchjd.linalg import QuadprogProjector

NAMES = ("G_GAN", "G_L1", "G_VGG", "G_SOBEL", "G_KL", "G_TV")


class Step:
    """A step of losses with the gradients that it is given."""

    def __init__(self, rows, weights=None, step=0, names=NAMES):
        self.rows = rows
        self.names = names[: len(rows)]
        self.weights = [1.0] * len(rows) if weights is None else weights
        self.step = step

    def gram(self, weighted=False):
        rows = self.rows * torch.tensor(self.weights, dtype=self.rows.dtype)[:, None] if weighted else self.rows
        return rows @ rows.T


# Each with params that differ from its defaults somewhere.
PAIRS = {
    "torchjd-mgda": (ours.MGDA, {}, MGDA),
    "torchjd-mgda few": (ours.MGDA, {"epsilon": 1e-6, "max_iters": 3}, lambda: MGDA(1e-6, 3)),
    "torchjd-pcgrad": (ours.PCGrad, {}, PCGrad),
    "torchjd-gradvac": (ours.GradVac, {}, GradVac),
    "torchjd-gradvac slow": (ours.GradVac, {"beta": 0.01, "eps": 1e-4}, lambda: GradVac(0.01, 1e-4)),
    "torchjd-aligned-mtl": (ours.AlignedMTL, {}, AlignedMTL),
    "torchjd-aligned-mtl median": (
        ours.AlignedMTL,
        {"scale_mode": "median", "pref_vector": [0.5, 0.2, 2.0]},
        lambda: AlignedMTL(torch.tensor([0.5, 0.2, 2.0], dtype=torch.float64), "median"),
    ),
    "torchjd-aligned-mtl rmse": (ours.AlignedMTL, {"scale_mode": "rmse"}, lambda: AlignedMTL(scale_mode="rmse")),
    "torchjd-imtl-g": (ours.IMTLG, {}, IMTLG),
    "torchjd-krum": (ours.Krum, {"n_byzantine": 0, "n_selected": 2}, lambda: Krum(0, 2)),
    "torchjd-pcd": (ours.PCD, {}, PCD),
    "torchjd-pcd shares": (
        ours.PCD,
        {"tau": [0.5, 0.9], "beta": 0.5, "eps": 1e-3},
        lambda: PCD(torch.tensor([0.5, 0.9], dtype=torch.float64), 0.5, 1e-3),
    ),
    "torchjd-cr-mogm": (
        ours.CRMOGM,
        {"weighting": "torchjd-mgda"},
        lambda: GramianWeightedAggregator(CRMOGMWeighting(MGDAWeighting())),
    ),
    "torchjd-cr-mogm from": (
        ours.CRMOGM,
        {"weighting": "torchjd-mgda", "alpha": 0.3, "initial_weights": [0.1, 0.2, 0.7]},
        lambda: GramianWeightedAggregator(
            CRMOGMWeighting(MGDAWeighting(), 0.3, torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64))
        ),
    ),
    "torchjd-cagrad": (ours.CAGrad, {"c": 0.5}, lambda: CAGrad(0.5)),
    "torchjd-fairgrad": (ours.FairGrad, {"alpha": 1.0}, lambda: FairGrad(1.0)),
    "torchjd-fairgrad few": (ours.FairGrad, {"alpha": 2.0, "max_iters": 3}, lambda: FairGrad(2.0, 3)),
    "torchjd-upgrad": (ours.UPGrad, {}, UPGrad),
    "torchjd-upgrad preferred": (
        ours.UPGrad,
        {"pref_vector": [0.5, 0.2, 2.0], "norm_eps": 1e-6, "reg_eps": 1e-5},
        lambda: UPGrad(
            torch.tensor([0.5, 0.2, 2.0], dtype=torch.float64), QuadprogProjector(norm_eps=1e-6, reg_eps=1e-5)
        ),
    ),
    "torchjd-dualproj": (ours.DualProj, {}, DualProj),
}


NAMED = [name for name in PAIRS if " " not in name]


def pytest_generate_tests(metafunc):
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", PAIRS.values(), ids=PAIRS)
    if "pair_for_any_number" in metafunc.fixturenames:
        chosen = {
            name: pair for name, pair in PAIRS.items() if not any(isinstance(param, list) for param in pair[1].values())
        }
        metafunc.parametrize("pair_for_any_number", chosen.values(), ids=chosen)
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", NAMED)


@pytest.fixture(scope="session")
def make():
    """Return a function that makes a weighting by its name, with what it needs."""

    def made(name, **params):
        cls, needed, _ = PAIRS[name]
        return cls(**{**needed, **params})

    return made


@pytest.fixture(scope="session")
def needed():
    """Return a function that returns the params that a weighting needs, by its name."""
    return lambda name: PAIRS[name][1]


@pytest.fixture(scope="session")
def names():
    """Return the names of all weightings."""
    return NAMED


@pytest.fixture(scope="session")
def step():
    return Step


@pytest.fixture(scope="session")
def rows():
    """Return a function that draws gradients in double precision, from a seed."""

    def drawn(seed, losses=3, entries=40):
        generator = torch.Generator().manual_seed(seed)
        shared = torch.randn(entries, generator=generator, dtype=torch.float64)
        own = torch.randn(losses, entries, generator=generator, dtype=torch.float64)
        scales = torch.rand(losses, 1, generator=generator, dtype=torch.float64) * 3 + 0.1
        return (own + 0.3 * shared) * scales

    return drawn


@pytest.fixture(scope="session")
def drawing_at():
    """Return a context in which TorchJD draws what it draws for a weighting with seed 0 at a step."""
    return Draws(0).at
