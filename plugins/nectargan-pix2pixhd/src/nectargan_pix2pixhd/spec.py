"""The specs that make the objectives of pix2pixHD and SPADE available by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from nectargan_gan import feature_matching, gan
from nectargan_vae import kl
from nectargan_vgg import vgg

from nectargan_core import Config, LMLoss

_VGG_LAYERS = MappingProxyType(
    {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}
)


def pix2pixhd(
    config: Config,
    *,
    n_layers: int = 3,
    checkpoint: str | os.PathLike[str] | None = None,
    normalize: bool = False,
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> dict[str, LMLoss]:
    """Build the objective of pix2pixHD.

    | loss     | tag | reads                            | weight                                                      |
    |----------|-----|----------------------------------|-------------------------------------------------------------|
    | `G_GAN`  | `G` | `pred_fake`                      | `train.loss.lambda_gan`, or 1                               |
    | `D_real` | `D` | `pred_real`                      | 0.5                                                         |
    | `D_fake` | `D` | `pred_fake`                      | 0.5                                                         |
    | `G_FM`   | `G` | `features_fake`, `features_real` | `train.loss.lambda_feature_matching`, or 40 / (n_layers + 1) |
    | `G_VGG`  | `G` | `y_fake`, `y`                    | `train.loss.lambda_vgg`, or 10                              |

    The adversarial losses are those of `gan:lsgan`, added up over the discriminators. `G_FM` is that of
    `feature-matching`, averaged over them, of all that a discriminator returns but the last. `G_VGG` is the L1 distance
    of the features of VGG19 at relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, with weights of 1/32, 1/16, 1/8, 1/4 and
    1, of images that are not mapped to the mean and standard deviation of ImageNet.

    Each number is that of the authors' code, github.com/NVIDIA/pix2pixHD at 14b3b3c:

    | number                                              | stands in                         |
    |-----------------------------------------------------|-----------------------------------|
    | the squared error of LSGAN                          | models/networks.py:78             |
    | its sum over discriminators                         | models/networks.py:101-107        |
    | 1 of `G_GAN`                                        | train.py:79                       |
    | 0.5 of `D_real` and `D_fake`                        | train.py:78                       |
    | 10 of `G_FM`, and of `G_VGG`                        | options/train_options.py:28       |
    | 4 / (n_layers + 1) of `G_FM`, and its mean over discriminators | models/pix2pixHD_model.py:180-185 |
    | 3 of `n_layers`                                     | options/train_options.py:26       |
    | the layers of VGG19                                 | models/networks.py:395-404        |
    | their weights, and L1                               | models/networks.py:116-117        |
    | images from -1 to 1 as they are                     | models/networks.py:120; data/base_dataset.py:56 |

    Args:
        config: The configuration with the weights, and with the device that VGG19 is loaded to.
        n_layers: The number of strided convolutions of each discriminator, 1 at least, the authors' `n_layers_D`. Only
            the default weight of `G_FM` depends on it. Their discriminator has n_layers + 1 maps before the judgement,
            so that `G_FM` is 40 times the mean of the distances of the maps.
        checkpoint: A local file with the weights of VGG19, or `"random"`; None as for the spec `vgg`.
        normalize: Whether `input_range` is mapped to the mean and standard deviation of ImageNet for VGG19.
        input_range: The values of black and white in the images. A manager warns once if those of `y` cannot be in it.

    Returns:
        The losses by their names.

    Raises:
        WeightsError: If the weights of VGG19 cannot be obtained or used.
        TypeError: If `n_layers` is no int.
        ValueError: If an argument is out of its range.

    Formula:
        gan:lsgan + 10*feature-matching + 10*vgg; D halved; gan summed over discriminators; vgg of relu1_1 to relu5_1

    Source:
        Wang, Liu, Zhu, Tao, Kautz and Catanzaro, "High-Resolution Image Synthesis and Semantic Manipulation with
        Conditional GANs", CVPR 2018, arXiv:1711.11585, equations 3 to 5, and the authors' code.

    Example:
        >>> from nectargan_core import Config
        >>> losses = pix2pixhd(Config(), checkpoint="random")
        >>> {name: loss.loss_weight for name, loss in losses.items()}
        {'G_GAN': 1.0, 'D_real': 0.5, 'D_fake': 0.5, 'G_FM': 10.0, 'G_VGG': 10.0}
    """
    if isinstance(n_layers, bool) or not isinstance(n_layers, int):
        raise TypeError(f"pix2pixhd: n_layers is a number of layers, an int of at least 1; got {n_layers!r}")
    if n_layers < 1:
        raise ValueError(f"pix2pixhd: n_layers is a number of layers, at least 1; got {n_layers!r}")
    losses = {
        **gan(config, "lsgan", over_discriminators="sum"),
        **feature_matching(config),
        **_perceptual(config, checkpoint, normalize, input_range),
    }
    weight = config.loss_weight("feature-matching", default=40.0 / (n_layers + 1))
    return _weighted(losses, {"D_real": 0.5, "D_fake": 0.5, "G_FM": weight})


def spade(
    config: Config,
    subspec: Literal["plain", "vae"] = "plain",
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    normalize: bool = False,
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> dict[str, LMLoss]:
    """Build the objective of SPADE.

    | loss     | tag | reads                            | weight                                     | variant |
    |----------|-----|----------------------------------|--------------------------------------------|---------|
    | `G_GAN`  | `G` | `pred_fake`                      | `train.loss.lambda_gan`, or 1              | both    |
    | `D_real` | `D` | `pred_real`                      | 1                                          | both    |
    | `D_fake` | `D` | `pred_fake`                      | 1                                          | both    |
    | `G_FM`   | `G` | `features_fake`, `features_real` | `train.loss.lambda_feature_matching`, or 10 | both    |
    | `G_VGG`  | `G` | `y_fake`, `y`                    | `train.loss.lambda_vgg`, or 10             | both    |
    | `G_KL`   | `G` | `mu`, `logvar`                   | `train.loss.lambda_kl`, or 0.05            | `vae`   |

    The adversarial losses are those of `gan:hinge`, averaged over the discriminators, and so is `G_FM`, that of
    `feature-matching`, of all that a discriminator returns but the last. `G_VGG` is that of `pix2pixhd`. `G_KL` is
    that of `kl`, summed over the latent dimensions and over the batch, as the authors' code has it.

    Each number is that of the authors' code, github.com/NVlabs/SPADE at fecacc9:

    | number                                              | stands in                         |
    |-----------------------------------------------------|-----------------------------------|
    | the hinge loss                                      | options/train_options.py:45; models/networks/loss.py:65-76 |
    | its mean over discriminators                        | models/networks/loss.py:87-96     |
    | 1 of `G_GAN`, `D_real` and `D_fake`                 | trainers/pix2pix_trainer.py:36, 45 |
    | 10 of `G_FM`, and of `G_VGG`                        | options/train_options.py:41-42    |
    | the sum of `G_FM` over maps, its mean over discriminators | models/pix2pix_model.py:148-156 |
    | the layers of VGG19                                 | models/networks/architecture.py:102-111 |
    | their weights, and L1                               | models/networks/loss.py:106-107   |
    | images from -1 to 1 as they are                     | models/networks/loss.py:110; data/base_dataset.py:76 |
    | 0.05 of `G_KL`                                      | options/train_options.py:47       |
    | the sum of `G_KL`                                   | models/networks/loss.py:120       |

    Args:
        config: The configuration with the weights, and with the device that VGG19 is loaded to.
        subspec: `"plain"`, or `"vae"` for a generator whose style comes from an encoder of images, the authors'
            `--use_vae`.
        checkpoint: A local file with the weights of VGG19, or `"random"`; None as for the spec `vgg`.
        normalize: Whether `input_range` is mapped to the mean and standard deviation of ImageNet for VGG19.
        input_range: The values of black and white in the images. A manager warns once if those of `y` cannot be in it.

    Returns:
        The losses by their names.

    Raises:
        WeightsError: If the weights of VGG19 cannot be obtained or used.
        ValueError: If an argument is out of its range.

    Formula:
        plain: gan:hinge + 10*feature-matching + 10*vgg; vgg of relu1_1 to relu5_1
        vae: gan:hinge + 10*feature-matching + 10*vgg + 0.05*kl; kl summed over the batch

    Source:
        Park, Liu, Wang and Zhu, "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019,
        arXiv:1903.07291, section 3 and appendix A, and the authors' code.

    Example:
        >>> from nectargan_core import Config
        >>> losses = spade(Config(), "vae", checkpoint="random")
        >>> {name: loss.loss_weight for name, loss in losses.items()}
        {'G_GAN': 1.0, 'D_real': 1.0, 'D_fake': 1.0, 'G_FM': 10.0, 'G_VGG': 10.0, 'G_KL': 0.05}
    """
    losses = {
        **gan(config, "hinge"),
        **feature_matching(config),
        **_perceptual(config, checkpoint, normalize, input_range),
    }
    if subspec == "vae":
        losses |= _weighted(kl(config, reduction="sum"), {"G_KL": config.loss_weight("kl", default=0.05)})
    return losses


def _perceptual(
    config: Config, checkpoint: str | os.PathLike[str] | None, normalize: bool, input_range: tuple[float, float]
) -> dict[str, LMLoss]:
    """Return the perceptual loss of both objectives."""
    found = vgg(config, layers=_VGG_LAYERS, checkpoint=checkpoint, normalize=normalize, input_range=input_range)
    # Without normalisation, too: the features of images in another range are others.
    return {name: loss.model_copy(update={"ranges": {"y": input_range}}) for name, loss in found.items()}


def _weighted(losses: Mapping[str, LMLoss], weights: Mapping[str, float]) -> dict[str, LMLoss]:
    """Return losses with other weights for those that are named."""
    return {
        name: loss.model_copy(update={"loss_weight": weights[name]}) if name in weights else loss
        for name, loss in losses.items()
    }
