"""Which distribution of this project offers a name: all that core knows of its plugins, to say how to install them."""

from __future__ import annotations

from typing import Final

from nectargan_core.catalog._plugin import SCHEDULES, SPECS

FIRST_PARTY: Final = {
    SPECS: {
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
}
