"""The specs that make the losses available as `+ssim` and `+ms-ssim`."""

from __future__ import annotations

from collections.abc import Sequence

from nectargan_core import Config, LMLoss
from nectargan_ssim.loss import MSSSIM, SSIM, Average, Padding


def ssim(
    config: Config,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    input_range: tuple[float, float] = (-1.0, 1.0),
    padding: Padding = "valid",
) -> dict[str, LMLoss]:
    """Build the SSIM loss, 1 - SSIM: `G_SSIM`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_ssim` of the config, 1 by default.

    Args:
        config: The configuration with the weight.
        window_size: Height and width of the Gaussian window in pixels, odd, at least 3. Images must not be smaller.
        sigma: Standard deviation of the window in pixels, above 0.
        input_range: The values of black and white in the images. A manager warns once if those of `y` cannot be in it.
        padding: `"valid"` for windows that lie within the image, or `"zeros"` for a window around each pixel, where the
            image goes on in black beyond its edges, as in `pytorch-ssim`.

    Returns:
        The loss by its name.

    Raises:
        ValueError: If an option is none of these.

    Formula:
        1 - mean SSIM(y_fake, y)

    Source:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE Transactions on
        Image Processing 13, 2004, equations 13 to 17.

    Example:
        >>> from nectargan_core import Config
        >>> ssim(Config())["G_SSIM"].loss_weight
        1.0
    """
    function = SSIM(window_size, sigma, input_range, padding=padding)
    return _built("G_SSIM", function, config.loss_weight("ssim", default=1.0))


def ms_ssim(
    config: Config,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    input_range: tuple[float, float] = (-1.0, 1.0),
    scale_weights: Sequence[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    padding: Padding = "valid",
    average: Average = "channel",
) -> dict[str, LMLoss]:
    """Build the multi-scale SSIM loss, 1 - MS-SSIM: `G_MS_SSIM`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_ms_ssim` of the config, 1 by default. The images have at least 176x176 pixels,
    unless there are fewer scales, the window is smaller, or `padding` is `"zeros"`.

    Args:
        config: The configuration with the weight.
        window_size: Height and width of the Gaussian window in pixels at each scale, odd, at least 3.
        sigma: Standard deviation of the window in pixels, above 0.
        input_range: The values of black and white in the images. A manager warns once if those of `y` cannot be in it.
        scale_weights: The weight of each scale, above 0, from the finest to the coarsest. Each scale has half the size
            of the one before.
        padding: `"valid"` for windows that lie within the image, or `"zeros"` for a window around each pixel, where the
            image goes on in black beyond its edges.
        average: What is raised to a power: `"channel"` for the mean of each channel of each sample, or `"batch"` for
            one mean over all of them. With `padding="zeros"`, it is the `mssim_loss` of neosr for images whose sizes
            are divisible by 16.

    Returns:
        The loss by its name.

    Raises:
        ValueError: If an option is none of these.

    Formula:
        1 - mean MS-SSIM(y_fake, y)

    Source:
        Wang, Simoncelli and Bovik, "Multiscale Structural Similarity for Image Quality Assessment", Asilomar Conference
        on Signals, Systems and Computers, 2003.

    Example:
        >>> from nectargan_core import Config
        >>> list(ms_ssim(Config(), scale_weights=(0.3, 0.7)))
        ['G_MS_SSIM']
    """
    function = MSSSIM(window_size, sigma, input_range, scale_weights, padding=padding, average=average)
    return _built("G_MS_SSIM", function, config.loss_weight("ms_ssim", default=1.0))


def _built(name: str, function: SSIM | MSSSIM, weight: float) -> dict[str, LMLoss]:
    # Not of y_fake: without a last tanh a generator leaves the range now and then, which is no mistake.
    ranges = {"y": function.input_range}
    return {name: LMLoss(name=name, function=function, loss_weight=weight, tags=["G"], ranges=ranges)}
