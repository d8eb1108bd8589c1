"""The spec that makes the Sobel loss available as `+sobel`."""

from __future__ import annotations

from nectargan_core import Config, LMLoss
from nectargan_sobel.loss import Sobel


def sobel(config: Config) -> dict[str, LMLoss]:
    """Build the Sobel loss: `G_SOBEL`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_sobel` of the config, 10 by default. On photographs that were blurred,
    made noisy or shifted, the gradient of this loss was measured at about 4 times that of the L1 loss. With a
    weight of 10 it is some 40 % of the gradient of pix2pix's L1 loss with its weight of 100: enough to sharpen
    edges, while the L1 loss still determines the colours.

    Args:
        config: The configuration with the weight.

    Returns:
        The loss by its name.

    Formula:
        mean |S(y_fake) - S(y)|; S = sqrt(Gx² + Gy²) of the grey image

    Source:
        Sobel, "An Isotropic 3x3 Image Gradient Operator", 2014, on the operator of Sobel and Feldman, 1968.

    Example:
        >>> from nectargan_core import Config
        >>> sobel(Config())["G_SOBEL"].loss_weight
        10.0
    """
    weight = config.loss_weight("sobel", default=10.0)
    return {"G_SOBEL": LMLoss(name="G_SOBEL", function=Sobel(), loss_weight=weight, tags=["G"])}
