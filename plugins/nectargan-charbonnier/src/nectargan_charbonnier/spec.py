"""The spec that makes the Charbonnier loss available as `+charbonnier` and `+charbonnier:masked`."""

from __future__ import annotations

from typing import Literal

from nectargan_charbonnier.loss import Charbonnier
from nectargan_core import Config, LMLoss


def charbonnier(
    config: Config, subspec: Literal["plain", "masked"] = "plain", *, epsilon: float = 1e-3
) -> dict[str, LMLoss]:
    """Build the Charbonnier loss: `G_CHARBONNIER`, tag `G`, of `y_fake` and `y`, and of `mask` if it is masked.

    Its weight is `train.loss.lambda_charbonnier` of the config, 10 by default. Its gradient is about that of the L1
    loss: in the place of pix2pix's L1 loss, which has a weight of 100, write `100*charbonnier`.

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` for the mean over all elements; `"masked"` for the mean over those that the input `mask`
            shows, weighted by it.
        epsilon: Where the loss goes over from a square to an absolute value, in the unit of the images; from 1e-18 to
            1e18.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `epsilon` is no number.
        ValueError: If `epsilon` is out of its range.

    Formula:
        plain: mean c; c = sqrt((y_fake - y)² + epsilon²)
        masked: sum(mask c) / sum(mask); c as in plain

    Source:
        Lai et al., "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR 2017,
        arXiv:1704.03915, section 3.3.

    Example:
        >>> from nectargan_core import Config
        >>> charbonnier(Config())["G_CHARBONNIER"].loss_weight
        10.0
        >>> charbonnier(Config(), "masked")["G_CHARBONNIER"].inputs
        ('y_fake', 'y', 'mask')
    """
    loss = LMLoss(
        name="G_CHARBONNIER",
        function=Charbonnier(epsilon=epsilon),
        loss_weight=config.loss_weight("charbonnier", default=10.0),
        tags=["G"],
        inputs=("y_fake", "y", "mask") if subspec == "masked" else ("y_fake", "y"),
    )
    return {loss.name: loss}
