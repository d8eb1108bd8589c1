"""The names that plugins of this project offer, and the distribution to install for each; used in error messages."""

from __future__ import annotations

from typing import Final

from nectargan_core.catalog._groups import SCHEDULES, SPECS, WEIGHTINGS

FIRST_PARTY: Final = {
    SPECS: {
        "charbonnier": "nectargan-charbonnier",
        "pix2pix": "nectargan-pix2pix",
        "sobel": "nectargan-sobel",
        "laplacian": "nectargan-laplacian",
        "vgg": "nectargan-vgg",
    },
    SCHEDULES: dict.fromkeys(
        (
            "constant",
            "cosine",
            "cosine-restarts",
            "polynomial",
            "step",
            "multistep",
            "piecewise-linear",
            "sigmoid",
            "warmup-cosine",
            "one-cycle",
            "cyclic",
            "inverse-sqrt",
            "window",
            "every",
            "sequence",
            "product",
        ),
        "nectargan-schedules",
    ),
    WEIGHTINGS: {
        **dict.fromkeys(
            (
                "torchjd-aligned-mtl",
                "torchjd-cagrad",
                "torchjd-cr-mogm",
                "torchjd-dualproj",
                "torchjd-fairgrad",
                "torchjd-gradvac",
                "torchjd-imtl-g",
                "torchjd-krum",
                "torchjd-mgda",
                "torchjd-pcd",
                "torchjd-pcgrad",
                "torchjd-upgrad",
            ),
            "nectargan-torchjd",
        ),
        **dict.fromkeys(
            (
                "balancer",
                "dwa",
                "gradnorm",
                "last-layer",
                "random",
                "relobralo",
                "softadapt",
                "uncertainty",
            ),
            "nectargan-weightings",
        ),
    },
}
