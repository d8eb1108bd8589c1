"""Which plugins this project offers, for messages: name to distribution. Written by `make tables`."""

from __future__ import annotations

from typing import Final

from nectargan_core.catalog._groups import SCHEDULES, SPECS, WEIGHTINGS

FIRST_PARTY: Final = {
    SPECS: {
        "info-nce": "nectargan-contrastive",
        "kl": "nectargan-vae",
        "laplacian": "nectargan-laplacian",
        "mel": "nectargan-audio",
        "patchnce": "nectargan-contrastive",
        "pix2pix": "nectargan-pix2pix",
        "sobel": "nectargan-sobel",
        "stft": "nectargan-audio",
        "vgg": "nectargan-vgg",
        "vq": "nectargan-vae",
    },
    SCHEDULES: {
        "constant": "nectargan-schedules",
        "cosine": "nectargan-schedules",
        "cosine-restarts": "nectargan-schedules",
        "cyclic": "nectargan-schedules",
        "every": "nectargan-schedules",
        "inverse-sqrt": "nectargan-schedules",
        "multistep": "nectargan-schedules",
        "one-cycle": "nectargan-schedules",
        "piecewise-linear": "nectargan-schedules",
        "polynomial": "nectargan-schedules",
        "product": "nectargan-schedules",
        "sequence": "nectargan-schedules",
        "sigmoid": "nectargan-schedules",
        "step": "nectargan-schedules",
        "warmup-cosine": "nectargan-schedules",
        "window": "nectargan-schedules",
    },
    WEIGHTINGS: {
        "balancer": "nectargan-weightings",
        "dwa": "nectargan-weightings",
        "gradnorm": "nectargan-weightings",
        "last-layer": "nectargan-weightings",
        "random": "nectargan-weightings",
        "relobralo": "nectargan-weightings",
        "softadapt": "nectargan-weightings",
        "torchjd-aligned-mtl": "nectargan-torchjd",
        "torchjd-cagrad": "nectargan-torchjd",
        "torchjd-cr-mogm": "nectargan-torchjd",
        "torchjd-dualproj": "nectargan-torchjd",
        "torchjd-fairgrad": "nectargan-torchjd",
        "torchjd-gradvac": "nectargan-torchjd",
        "torchjd-imtl-g": "nectargan-torchjd",
        "torchjd-krum": "nectargan-torchjd",
        "torchjd-mgda": "nectargan-torchjd",
        "torchjd-pcd": "nectargan-torchjd",
        "torchjd-pcgrad": "nectargan-torchjd",
        "torchjd-upgrad": "nectargan-torchjd",
        "uncertainty": "nectargan-weightings",
    },
}
