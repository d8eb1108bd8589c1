"""The spec that makes the Laplacian loss available as `+laplacian`."""

from __future__ import annotations

from nectargan_core import Config, LMLoss
from nectargan_laplacian.loss import Laplacian


def laplacian(config: Config) -> dict[str, LMLoss]:
    """Build the Laplacian loss: `G_LAP`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_laplacian` of the config, 10 by default. On photographs that were
    blurred, made noisy or shifted, the gradient of this loss was measured at about 4 to 5 times that of the
    L1 loss. With a weight of 10 it is less than half the gradient of pix2pix's L1 loss with its weight of
    100: enough to restore fine detail, while the L1 loss still determines the colours.

    Args:
        config: The configuration with the weight.

    Returns:
        The loss by its name.

    Formula:
        mean |Laplace(grey(y_fake) - grey(y))|

    Source:
        The five-point stencil: Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, formula 25.3.30.

    Example:
        >>> from nectargan_core import Config
        >>> laplacian(Config())["G_LAP"].loss_weight
        10.0
    """
    weight = config.loss_weight("laplacian", default=10.0)
    return {"G_LAP": LMLoss(name="G_LAP", function=Laplacian(), loss_weight=weight, tags=["G"])}
