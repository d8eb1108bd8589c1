"""The spec that makes the objective of VQGAN available by its name."""

from __future__ import annotations

import os
from math import isfinite
from typing import Literal

from nectargan_gan import Adversarial
from nectargan_image import l1
from nectargan_lpips import lpips

from nectargan_core import Config, LMLoss, Losses, Schedule, Weighting
from nectargan_vqgan.codebook import CodebookLoss

# Those that the weighting compares: the authors leave out the codebook loss, which the last layer has no part in.
_BALANCED = "balanced"


def vqgan(
    config: Config,
    subspec: Literal["hinge", "vanilla"] = "hinge",
    *,
    disc_start: int = 10_000,
    disc_weight: float = 0.8,
    input_range: tuple[float, float] = (-1.0, 1.0),
    backbone: str | os.PathLike[str] | None = None,
    heads: str | os.PathLike[str] | None = None,
) -> Losses:
    """Build the objective of VQGAN: L1, LPIPS, codebook and an adversarial loss that is weighed by `last-layer`.

    | loss         | tags            | reads           | weight                                         | source   |
    |--------------|-----------------|-----------------|------------------------------------------------|----------|
    | `G_L1`       | `G`, `balanced` | `y_fake`, `y`   | `train.loss.lambda_l1`, or 1                   | 78       |
    | `G_LPIPS`    | `G`, `balanced` | `y_fake`, `y`   | `train.loss.lambda_lpips`, or 1                | 37, 81   |
    | `G_GAN`      | `G`, `balanced` | `pred_fake`     | 0, then `train.loss.lambda_gan`, or 0.8        | 98, 106  |
    | `G_CODEBOOK` | `G`             | `codebook_loss` | `train.loss.lambda_codebook`, or 1             | 35, 107  |
    | `D_real`     | `D`             | `pred_real`     | 0, then 0.5                                    | 21 to 23 |
    | `D_fake`     | `D`             | `pred_fake`     | 0, then 0.5                                    | 22, 23   |

    The weights of the adversarial losses are 0 in the steps before `disc_start` (lines 14 to 17), in which nothing of
    them is computed and no lazy prediction is called. From then on the weight of `G_GAN` is multiplied by the factor of
    the weighting `last-layer`: the norm of the gradient of `G_L1` and `G_LPIPS` with respect to the input `last_layer`
    over that of `G_GAN` plus 1e-4, up to 1e4 (lines 63 to 74). `weightings={"G": None}` leaves it out.

    `hinge` and `vanilla` (lines 20 to 31) are losses of the discriminator, max(0, 1 ∓ p) and log(1 + exp(∓p)); that of
    the generator is the mean of -p with both (line 98).

    `codebook_loss` is what the quantiser returns as its loss, a scalar or a tensor, of which the mean counts.
    `last_layer` is the weight of the decoder's last layer (vqgan.py, line 134).

    Args:
        config: The configuration with the weights, and with the device that the network of LPIPS is loaded to.
        subspec: The loss of the discriminator.
        disc_start: The first step with adversarial losses, 0 or greater. The authors' configurations have 10,000 for
            data of one's own (`custom_vqgan.yaml`), 250,001 for ImageNet and 30,001 for faces.
        disc_weight: The weight of `G_GAN`, if the configuration has none; 0.8 in all of the authors' configurations.
        input_range: The values of black and white in the images.
        backbone: A local file with the weights of VGG16, the network of LPIPS, or `"random"`. None: torchvision's.
        heads: A local file with the weights of the channels, or `"equal"`. None: those of LPIPS 0.1.

    Returns:
        The losses by their names, and the weighting.

    Raises:
        WeightsError: If weights of LPIPS cannot be obtained or used; the message names the ways to provide them.
        TypeError: If `disc_weight` is no number.
        ValueError: If an option is out of range.

    Formula:
        hinge: l1 + lpips + codebook_loss + a gan; a = 0.8 ‖∇(l1 + lpips)‖ / ‖∇gan‖ at last_layer; D is gan:hinge halved
        vanilla: l1 + lpips + codebook_loss + a gan; a as in hinge; D is gan:vanilla halved

    Source:
        Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis" (CVPR 2021),
        arXiv:2012.09841, equations 4 to 7. The lines are those of `taming/modules/losses/vqperceptual.py` and
        `taming/models/vqgan.py` in the authors' taming-transformers.

    Example:
        >>> from nectargan_core import Config
        >>> losses = vqgan(Config(), backbone="random", heads="equal")
        >>> list(losses), losses["G_GAN"].schedule.start_epoch
        (['G_L1', 'G_LPIPS', 'G_GAN', 'G_CODEBOOK', 'D_real', 'D_fake'], 10000)
        >>> losses.weightings["balanced"].wrt
        'last_layer'
    """
    _check_options(disc_start, disc_weight)
    judged: Literal["hinge", "softplus"] = "softplus" if subspec == "vanilla" else "hinge"
    balanced = {"tags": ["G", _BALANCED]}
    compared = {**l1(config), **lpips(config, "vgg", input_range=input_range, backbone=backbone, heads=heads)}
    losses = [
        *(loss.model_copy(update=balanced) for loss in compared.values()),
        _begun(
            LMLoss(
                name="G_GAN",
                function=Adversarial("hinge", "generator"),
                loss_weight=config.loss_weight("gan", default=disc_weight),
                inputs=("pred_fake",),
                **balanced,
            ),
            disc_start,
        ),
        LMLoss(
            name="G_CODEBOOK",
            function=CodebookLoss(),
            loss_weight=config.loss_weight("codebook", default=1.0),
            tags=["G"],
            inputs=("codebook_loss",),
        ),
        *(
            _begun(
                LMLoss(
                    name=f"D_{role}",
                    function=Adversarial(judged, role),
                    loss_weight=0.5,
                    tags=["D"],
                    inputs=(f"pred_{role}",),
                ),
                disc_start,
            )
            for role in ("real", "fake")
        ),
    ]
    adaptive = Weighting("nectargan-weightings/last-layer", params={"loss": "G_GAN"}, wrt="last_layer")
    return Losses({loss.name: loss for loss in losses}, weightings={_BALANCED: adaptive})


def _begun(loss: LMLoss, start: int) -> LMLoss:
    """Return a loss with a weight of 0 in the steps before a first one."""
    if start == 0:
        return loss
    begin = Schedule(
        "nectargan-schedules/window", unit="step", start=start, initial_value=0.0, target_value=loss.loss_weight
    )
    return loss.model_copy(update={"schedule": begin})


def _check_options(disc_start: object, disc_weight: object) -> None:
    if isinstance(disc_start, bool) or not isinstance(disc_start, int) or disc_start < 0:
        raise ValueError(f"vqgan: disc_start is a number of steps, an integer from 0 on; got {disc_start!r}")
    if isinstance(disc_weight, bool) or not isinstance(disc_weight, (int, float)):
        raise TypeError(f"vqgan: disc_weight is a finite number, got {disc_weight!r}")
    if not isfinite(disc_weight):
        raise ValueError(f"vqgan: disc_weight is a finite number, got {disc_weight!r}")
