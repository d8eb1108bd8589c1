"""TorchJD's weightings for nectargan-core: losses balanced by the inner products of their gradients."""

from nectargan_torchjd.direct import IMTLG, MGDA, AlignedMTL, Krum
from nectargan_torchjd.priority import PCD
from nectargan_torchjd.smoothing import CRMOGM
from nectargan_torchjd.solvers import CAGrad, DualProj, FairGrad, UPGrad
from nectargan_torchjd.surgery import GradVac, PCGrad

__all__ = [
    "CRMOGM",
    "IMTLG",
    "MGDA",
    "PCD",
    "AlignedMTL",
    "CAGrad",
    "DualProj",
    "FairGrad",
    "GradVac",
    "Krum",
    "PCGrad",
    "UPGrad",
]
