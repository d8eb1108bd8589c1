"""The spec that makes the objective of pix2pix available by its name."""

from __future__ import annotations

from typing import Literal

from nectargan_gan import gan
from nectargan_image import l1, l2
from nectargan_laplacian import laplacian
from nectargan_sobel import sobel

from nectargan_core import Config, LMLoss


def pix2pix(config: Config, subspec: Literal["basic", "extended"] = "basic") -> dict[str, LMLoss]:
    """Build the objective of pix2pix.

    | loss      | tag | reads         | weight                               | variant    |
    |-----------|-----|---------------|--------------------------------------|------------|
    | `G_GAN`   | `G` | `pred_fake`   | `train.loss.lambda_gan`, or 1        | both       |
    | `G_L1`    | `G` | `y_fake`, `y` | `train.loss.lambda_l1`, or 100       | both       |
    | `D_real`  | `D` | `pred_real`   | 1                                    | both       |
    | `D_fake`  | `D` | `pred_fake`   | 1                                    | both       |
    | `G_L2`    | `G` | `y_fake`, `y` | `train.loss.lambda_l2`, or 100       | `extended` |
    | `G_SOBEL` | `G` | `y_fake`, `y` | `train.loss.lambda_sobel`, or 10     | `extended` |
    | `G_LAP`   | `G` | `y_fake`, `y` | `train.loss.lambda_laplacian`, or 10 | `extended` |

    1 and 100 are the paper's weights of `G_GAN` and `G_L1`. The gradient of a squared error e is 2e, that of an
    absolute error is 1. At weights of 100 the gradient of `G_L2` is thus larger than that of `G_L1` only for
    errors above 0.5, a quarter of the range of images from -1 to 1: `G_L2` acts on large errors and leaves
    small ones to `G_L1`. The losses are those of the specs `gan`, `l1`, `l2`, `sobel` and `laplacian`, where each is
    explained: `"pix2pix"` is the same as `"gan + 100*l1"`, and `"pix2pix:extended"` as
    `"gan + 100*l1 + 100*l2 + 10*sobel + 10*laplacian"`.

    The paper halves the total of the discriminator, so that it learns more slowly (section 3.3). That is left to
    the training loop: the weights here are 1.

    Args:
        config: The configuration with the weights.
        subspec: `"basic"` for the paper's own losses, `"extended"` for all.

    Returns:
        The losses by their names.

    Formula:
        basic: gan + 100*l1
        extended: gan + 100*l1 + 100*l2 + 10*sobel + 10*laplacian

    Source:
        basic: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (CVPR 2017),
            arXiv:1611.07004, equation 4 and section 3.3.
        extended: NectarGAN, which adds the squared error and the edge losses.

    Example:
        >>> from nectargan_core import Config
        >>> list(pix2pix(Config()))
        ['G_GAN', 'G_L1', 'D_real', 'D_fake']
        >>> pix2pix(Config(), "extended")["G_SOBEL"].loss_weight
        10.0
    """
    adversarial = gan(config)
    losses = {"G_GAN": adversarial["G_GAN"], **l1(config), **adversarial}
    losses["G_L1"] = losses["G_L1"].model_copy(update={"loss_weight": config.loss_weight("l1", default=100.0)})
    if subspec == "extended":
        losses |= {**l2(config), **sobel(config), **laplacian(config)}
        losses["G_L2"] = losses["G_L2"].model_copy(update={"loss_weight": config.loss_weight("l2", default=100.0)})
    return losses
