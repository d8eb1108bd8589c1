"""The specs that make the losses of images available by their names, such as `+l1` and `+focal-frequency`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from nectargan_core import Config, LMLoss
from nectargan_image.artifacts import LDL
from nectargan_image.colors import Color
from nectargan_image.elementwise import L1, L2, Huber, SmoothL1
from nectargan_image.focal import FocalFrequency
from nectargan_image.fourier import FFT
from nectargan_image.variation import TotalVariation
from nectargan_image.wavelets import Wavelet

_PAIR = ("y_fake", "y")


def l1(config: Config, subspec: Literal["plain", "masked"] = "plain") -> dict[str, LMLoss]:
    """Build the L1 loss, the mean absolute error of `y_fake`.

    | loss   | tag | reads                 | weight                     | variant  |
    |--------|-----|-----------------------|----------------------------|----------|
    | `G_L1` | `G` | `y_fake`, `y`         | `train.loss.lambda_l1`, or 1 | `plain`  |
    | `G_L1` | `G` | `y_fake`, `y`, `mask` | `train.loss.lambda_l1`, or 1 | `masked` |

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` for the mean over all elements; `"masked"` for the mean over those that the input `mask`
            shows, (N, 1, H, W) or of the shape of the images, weighted by it.

    Returns:
        The loss by its name.

    Formula:
        plain: mean |y_fake - y|
        masked: sum(mask |y_fake - y|) / sum(mask)

    Source:
        Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, arXiv:1611.07004,
        equation 3.

    Example:
        >>> from nectargan_core import Config
        >>> l1(Config(), "masked")["G_L1"].inputs
        ('y_fake', 'y', 'mask')
    """
    return _of(config, "l1", L1(), _inputs(subspec))


def l2(config: Config, subspec: Literal["plain", "masked"] = "plain") -> dict[str, LMLoss]:
    """Build the L2 loss, the mean squared error of `y_fake`.

    | loss   | tag | reads                 | weight                     | variant  |
    |--------|-----|-----------------------|----------------------------|----------|
    | `G_L2` | `G` | `y_fake`, `y`         | `train.loss.lambda_l2`, or 1 | `plain`  |
    | `G_L2` | `G` | `y_fake`, `y`, `mask` | `train.loss.lambda_l2`, or 1 | `masked` |

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` for the mean over all elements; `"masked"` for the mean over those that the input `mask`
            shows, (N, 1, H, W) or of the shape of the images, weighted by it.

    Returns:
        The loss by its name.

    Formula:
        plain: mean (y_fake - y)²
        masked: sum(mask (y_fake - y)²) / sum(mask)

    Source:
        Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016, arXiv:1501.00092, equation
        4.

    Example:
        >>> from nectargan_core import Config
        >>> l2(Config())["G_L2"].loss_weight
        1.0
    """
    return _of(config, "l2", L2(), _inputs(subspec))


def huber(config: Config, subspec: Literal["plain", "masked"] = "plain", *, delta: float = 1.0) -> dict[str, LMLoss]:
    """Build the Huber loss: a square up to `delta`, an absolute value of slope `delta` beyond it.

    | loss      | tag | reads                 | weight                        | variant  |
    |-----------|-----|-----------------------|-------------------------------|----------|
    | `G_HUBER` | `G` | `y_fake`, `y`         | `train.loss.lambda_huber`, or 1 | `plain`  |
    | `G_HUBER` | `G` | `y_fake`, `y`, `mask` | `train.loss.lambda_huber`, or 1 | `masked` |

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` for the mean over all elements; `"masked"` for the mean over those that the input `mask`
            shows, (N, 1, H, W) or of the shape of the images, weighted by it.
        delta: Where the square ends, in the unit of the images; above 0.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `delta` is no number.
        ValueError: If `delta` is not above 0.

    Formula:
        plain: mean h; h = d²/2 if |d| <= delta else delta (|d| - delta/2); d = y_fake - y
        masked: sum(mask h) / sum(mask); h as in plain

    Source:
        Huber, "Robust Estimation of a Location Parameter", The Annals of Mathematical Statistics 35, 1964.

    Example:
        >>> from nectargan_core import Config
        >>> huber(Config(), delta=0.1)["G_HUBER"].function
        Huber(delta=0.1, reduction='mean')
    """
    return _of(config, "huber", Huber(delta=delta), _inputs(subspec))


def smooth_l1(config: Config, subspec: Literal["plain", "masked"] = "plain", *, beta: float = 1.0) -> dict[str, LMLoss]:
    """Build the smooth L1 loss: a square up to `beta`, an absolute value of slope 1 beyond it.

    | loss          | tag | reads                 | weight                            | variant  |
    |---------------|-----|-----------------------|-----------------------------------|----------|
    | `G_SMOOTH_L1` | `G` | `y_fake`, `y`         | `train.loss.lambda_smooth_l1`, or 1 | `plain`  |
    | `G_SMOOTH_L1` | `G` | `y_fake`, `y`, `mask` | `train.loss.lambda_smooth_l1`, or 1 | `masked` |

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` for the mean over all elements; `"masked"` for the mean over those that the input `mask`
            shows, (N, 1, H, W) or of the shape of the images, weighted by it.
        beta: Where the square ends, in the unit of the images; above 0.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `beta` is no number.
        ValueError: If `beta` is not above 0.

    Formula:
        plain: mean s; s = d²/(2 beta) if |d| < beta else |d| - beta/2; d = y_fake - y
        masked: sum(mask s) / sum(mask); s as in plain

    Source:
        Girshick, "Fast R-CNN", ICCV 2015, arXiv:1504.08083, equation 3.

    Example:
        >>> from nectargan_core import Config
        >>> smooth_l1(Config(), beta=0.1)["G_SMOOTH_L1"].function
        SmoothL1(beta=0.1, reduction='mean')
    """
    return _of(config, "smooth-l1", SmoothL1(beta=beta), _inputs(subspec))


def tv(config: Config) -> dict[str, LMLoss]:
    """Build the total variation of `y_fake`, the mean absolute difference of neighbouring pixels.

    | loss   | tag | reads    | weight                     |
    |--------|-----|----------|----------------------------|
    | `G_TV` | `G` | `y_fake` | `train.loss.lambda_tv`, or 1 |

    Args:
        config: The configuration with the weight.

    Returns:
        The loss by its name.

    Formula:
        mean |difference of neighbours in a row| + mean |difference of neighbours in a column|

    Source:
        Rudin, Osher and Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms", Physica D 60, 1992; the
        means as in BasicSR and kornia.

    Example:
        >>> from nectargan_core import Config
        >>> tv(Config())["G_TV"].inputs
        ('y_fake',)
    """
    return _of(config, "tv", TotalVariation(), ("y_fake",))


def fft(config: Config, *, norm: Literal["backward", "ortho", "forward"] = "backward") -> dict[str, LMLoss]:
    """Build the L1 distance of the Fourier transforms of `y_fake` and `y`.

    | loss    | tag | reads         | weight                      |
    |---------|-----|---------------|-----------------------------|
    | `G_FFT` | `G` | `y_fake`, `y` | `train.loss.lambda_fft`, or 1 |

    The paper has a weight of 0.1 beside an L1 loss of weight 1, for images from 0 to 1. The loss is proportional to the
    range: for images from -1 to 1, 0.05 is the same.

    Args:
        config: The configuration with the weight.
        norm: The normalisation of the transform: `"backward"` for none, as in the paper; `"ortho"` for division by
            sqrt(H·W); `"forward"` for division by H·W.

    Returns:
        The loss by its name.

    Raises:
        ValueError: If `norm` is none of these.

    Formula:
        mean (|Re F| + |Im F|) / 2; F = FFT(y_fake - y)

    Source:
        Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021, arXiv:2108.05054.

    Example:
        >>> from nectargan_core import Config
        >>> fft(Config(), norm="ortho")["G_FFT"].function
        FFT(norm='ortho')
    """
    return _of(config, "fft", FFT(norm=norm), _PAIR)


def focal_frequency(
    config: Config,
    *,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
) -> dict[str, LMLoss]:
    """Build the focal frequency loss of `y_fake` and `y`, in which the frequencies that are wrong most count most.

    | loss                | tag | reads         | weight                                  |
    |---------------------|-----|---------------|-----------------------------------------|
    | `G_FOCAL_FREQUENCY` | `G` | `y_fake`, `y` | `train.loss.lambda_focal_frequency`, or 1 |

    The loss is proportional to the square of the range of the images.

    Args:
        config: The configuration with the weight.
        alpha: How much more a frequency counts that is more wrong; at least 0.
        patch_factor: In how many patches the image is divided in each direction.
        ave_spectrum: Whether to compare the mean spectra of the batch.
        log_matrix: Whether to take the logarithm of the weights of the frequencies.
        batch_matrix: Whether to divide these weights by their maximum over the batch, not over each channel.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `alpha` is no number, or `patch_factor` no integer.
        ValueError: If `alpha` is below 0, or `patch_factor` below 1.

    Formula:
        mean w |F|²; F = FFT(y_fake - y); w = |F|^alpha / max |F|^alpha as a constant

    Source:
        Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021, arXiv:2012.12821.

    Example:
        >>> from nectargan_core import Config
        >>> focal_frequency(Config())["G_FOCAL_FREQUENCY"].function.alpha
        1.0
    """
    loss = FocalFrequency(
        alpha=alpha,
        patch_factor=patch_factor,
        ave_spectrum=ave_spectrum,
        log_matrix=log_matrix,
        batch_matrix=batch_matrix,
    )
    return _of(config, "focal-frequency", loss, _PAIR)


def color(
    config: Config,
    *,
    hue: float = 1 / 3,
    saturation: float = 1 / 3,
    lightness: float = 1 / 3,
    luma: float = 1 / 3,
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> dict[str, LMLoss]:
    """Build the colour loss of `y_fake` and `y`: differences of hue, saturation, lightness and luma as components.

    | loss      | tag | reads         | weight                        | components                               |
    |-----------|-----|---------------|-------------------------------|------------------------------------------|
    | `G_COLOR` | `G` | `y_fake`, `y` | `train.loss.lambda_color`, or 1 | `hue`, `saturation`, `lightness`, `luma` |

    Args:
        config: The configuration with the weight.
        hue: The weight of the hue within the loss; a component of weight 0 is left out.
        saturation: The weight of the saturation.
        lightness: The weight of the lightness.
        luma: The weight of the luma.
        input_range: The values of black and white.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If a weight is no number, or `input_range` no pair of numbers.
        ValueError: If a weight is below 0, all are 0, or `input_range` is not ascending.

    Formula:
        hue · H + saturation · S + lightness · L + luma · Y; the mean difference of each in HSLuv; of Y in Rec. 601

    Source:
        `HSLuvLoss` and `LumaLoss` of https://github.com/the-database/traiNNer-redux.

    Example:
        >>> from nectargan_core import Config
        >>> color(Config(), luma=0)["G_COLOR"].function.luma
        0.0
    """
    loss = Color(hue=hue, saturation=saturation, lightness=lightness, luma=luma, input_range=input_range)
    return _of(config, "color", loss, _PAIR, loss.input_range)


def ldl(config: Config, *, ksize: int = 7, input_range: tuple[float, float] = (-1.0, 1.0)) -> dict[str, LMLoss]:
    """Build the locally discriminative learning loss: an L1 loss where `y_fake` has artifacts that `y_ema` has not.

    | loss    | tag | reads                  | weight                      |
    |---------|-----|------------------------|-----------------------------|
    | `G_LDL` | `G` | `y_fake`, `y`, `y_ema` | `train.loss.lambda_ldl`, or 1 |

    `y_ema` is what a copy of the generator, whose parameters are the exponential moving average of those under
    training, makes of the same source, without gradient; the authors' decay is 0.999. Without such a copy,
    `rename_inputs={"y_ema": "y"}` gives each pixel its weight, which is what neosr's `ldl_loss` does.

    Args:
        config: The configuration with the weight.
        ksize: Height and width of the window around a pixel, an odd number of pixels.
        input_range: The values of black and white.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `ksize` is no integer, or `input_range` no pair of numbers.
        ValueError: If `ksize` is even or below 3, or `input_range` is not ascending.

    Formula:
        mean w m |y_fake - y|; w = var(r)^0.2 · local var(r); m = 1 where r >= r_ema else 0; r = sum over channels of
        |y_fake - y|; r_ema = that of y_ema

    Source:
        Liang, Zeng and Zhang, "Details or Artifacts: A Locally Discriminative Learning Approach to Realistic Image
        Super-Resolution", CVPR 2022, arXiv:2203.09195.

    Example:
        >>> from nectargan_core import Config
        >>> ldl(Config())["G_LDL"].inputs
        ('y_fake', 'y', 'y_ema')
    """
    loss = LDL(ksize=ksize, input_range=input_range)
    return _of(config, "ldl", loss, (*_PAIR, "y_ema"), loss.input_range)


def wavelet(
    config: Config,
    *,
    wavelet: Literal["haar", "sym7", "sym19"] | Sequence[float] = "sym19",
    weights: tuple[float, float, float, float] = (0.05, 0.025, 0.025, 0.02),
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> dict[str, LMLoss]:
    """Build the wavelet loss of `y_fake` and `y`: L1 distances of the sub-bands of their luma as components.

    | loss        | tag | reads         | weight                          | components               |
    |-------------|-----|---------------|---------------------------------|--------------------------|
    | `G_WAVELET` | `G` | `y_fake`, `y` | `train.loss.lambda_wavelet`, or 1 | `LL`, `LH`, `HL`, `HH` |

    Args:
        config: The configuration with the weight.
        wavelet: The name of the wavelet, or the low-pass filter of another orthogonal one.
        weights: The weights of LL, LH, HL and HH within the loss, for a luma from 0 to 255.
        input_range: The values of black and white; only a scale depends on it.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If `wavelet` is no such wavelet, a weight is below 0, all are 0, or `input_range` is not ascending.

    Formula:
        sum over bands b of weight_b · mean |SWT_b(luma(y_fake)) - SWT_b(luma(y))|

    Source:
        Korkmaz and Tekalp, "Training Transformer Models by Wavelet Losses Improves Quantitative and Visual Performance
        in Single Image Super-Resolution", CVPR Workshops 2024, arXiv:2404.11273.

    Example:
        >>> from nectargan_core import Config
        >>> wavelet(Config(), wavelet="haar")["G_WAVELET"].function.wavelet
        'haar'
    """
    loss = Wavelet(wavelet=wavelet, weights=weights, input_range=input_range)
    return _of(config, "wavelet", loss, _PAIR, loss.input_range)


def _inputs(subspec: str) -> tuple[str, ...]:
    return (*_PAIR, "mask") if subspec == "masked" else _PAIR


def _of(
    config: Config,
    name: str,
    function: nn.Module,
    inputs: tuple[str, ...],
    input_range: tuple[float, float] | None = None,
) -> dict[str, LMLoss]:
    """Return one loss of the generator, with the weight of the configuration or 1."""
    loss = LMLoss(
        name=f"G_{name.upper().replace('-', '_')}",
        function=function,
        loss_weight=config.loss_weight(name, default=1.0),
        tags=["G"],
        inputs=inputs,
        ranges={} if input_range is None else {"y": input_range},
    )
    return {loss.name: loss}
