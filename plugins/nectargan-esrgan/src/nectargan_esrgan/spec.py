"""The specs that make the objectives of ESRGAN and Real-ESRGAN available by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nectargan_gan import gan
from nectargan_image import l1
from nectargan_vgg import vgg

from nectargan_core import Config, LMLoss

# "Before relu", as the authors' options say.
_ESRGAN_LAYERS = {"conv5_4": 1.0}
_REAL_ESRGAN_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


def esrgan(
    config: Config,
    *,
    detach_mean: bool = True,
    input_range: tuple[float, float] = (-1.0, 1.0),
    checkpoint: str | os.PathLike[str] | None = None,
) -> dict[str, LMLoss]:
    """Build the objective of ESRGAN, super-resolution with L1, features of VGG19 and a relativistic adversarial loss.

    | loss     | tag | reads                    | weight                           | source                   |
    |----------|-----|--------------------------|----------------------------------|--------------------------|
    | `G_L1`   | `G` | `y_fake`, `y`            | `train.loss.lambda_l1`, or 0.01  | yml, line 86             |
    | `G_VGG`  | `G` | `y_fake`, `y`            | `train.loss.lambda_vgg`, or 1    | yml, lines 91 and 95     |
    | `G_GAN`  | `G` | `pred_fake`, `pred_real` | `train.loss.lambda_gan`, or 5e-3 | yml, line 103            |
    | `D_real` | `D` | `pred_real`, `pred_fake` | 0.5                              | esrgan_model.py, line 67 |
    | `D_fake` | `D` | `pred_fake`, `pred_real` | 0.5                              | esrgan_model.py, line 71 |

    `G_VGG` is the L1 distance of VGG19 features at `conv5_4`, before the activation. The adversarial losses are those
    of `gan:relativistic`: the relativistic average loss, with a ½ in that of the generator (esrgan_model.py, line 42),
    and with the means in those of the discriminator taken as constants (lines 65 and 71).

    The authors' images are from 0 to 1. From -1 to 1 the same error has twice the value in `G_L1`, and the other losses
    do not change: the authors' balance is then a weight of 5e-3.

    The paper has λ = 5e-3 and η = 0.01, too (equation 3, section 4.1), without ½ in the adversarial losses and with
    gradients through the means: `detach_mean=False`, and the weights 0.01 of `G_GAN`, 1 of `D_real` and 1 of `D_fake`.

    Args:
        config: The configuration with the weights, and with the device that VGG19 is loaded to.
        detach_mean: Whether the discriminator takes the mean of the other prediction as a constant, as the authors'
            code does.
        input_range: The values of black and white in the images.
        checkpoint: A local file with the weights of VGG19, or `"random"`. None: torchvision's.

    Returns:
        The losses by their names.

    Raises:
        WeightsError: If the weights of VGG19 cannot be obtained or used; the message names the ways to provide them.
        TypeError: If `detach_mean` is no bool.
        ValueError: If `input_range` is invalid.

    Formula:
        0.005*gan:relativistic + 0.01*l1 + vgg; D halved; vgg of conv5_4

    Source:
        Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (ECCV workshops 2018),
        arXiv:1809.00219, equations 1 to 3. The lines are those of `options/train/ESRGAN/train_ESRGAN_x4.yml` and
        `basicsr/models/esrgan_model.py` in the authors' BasicSR.

    Example:
        >>> from nectargan_core import Config
        >>> losses = esrgan(Config(), checkpoint="random")
        >>> {name: loss.loss_weight for name, loss in losses.items()}
        {'G_L1': 0.01, 'G_VGG': 1.0, 'G_GAN': 0.005, 'D_real': 0.5, 'D_fake': 0.5}
    """
    losses = {
        **l1(config),
        **vgg(config, layers=_ESRGAN_LAYERS, input_range=input_range, checkpoint=checkpoint),
        **gan(config, "relativistic", detach_mean=detach_mean),
    }
    weights = {
        "G_L1": config.loss_weight("l1", default=0.01),
        "G_VGG": config.loss_weight("vgg", default=1.0),
        "G_GAN": config.loss_weight("gan", default=5e-3),
        "D_real": 0.5,
        "D_fake": 0.5,
    }
    return _weighted(losses, weights)


def real_esrgan(
    config: Config,
    *,
    input_range: tuple[float, float] = (-1.0, 1.0),
    checkpoint: str | os.PathLike[str] | None = None,
    by_layer: bool = False,
) -> dict[str, LMLoss]:
    """Build the objective of Real-ESRGAN, super-resolution with L1, features of VGG19 and an adversarial loss.

    | loss     | tag | reads             | weight                          | source                        |
    |----------|-----|-------------------|---------------------------------|-------------------------------|
    | `G_L1`   | `G` | `y_fake`, `y_usm` | `train.loss.lambda_l1`, or 1    | yml, lines 10 and 132         |
    | `G_VGG`  | `G` | `y_fake`, `y_usm` | `train.loss.lambda_vgg`, or 1   | yml, lines 11, 139 to 149     |
    | `G_GAN`  | `G` | `pred_fake`       | `train.loss.lambda_gan`, or 0.1 | yml, lines 153 to 156         |
    | `D_real` | `D` | `pred_real`       | 1                               | realesrgan_model.py, line 243 |
    | `D_fake` | `D` | `pred_fake`       | 1                               | realesrgan_model.py, line 249 |

    `G_VGG` is the L1 distance of VGG19 features before the activation: 0.1 at `conv1_2` and at `conv2_2`, 1 at
    `conv3_4`, `conv4_4` and `conv5_4`. The adversarial losses are those of `gan:vanilla`.

    `y_usm` is the target sharpened by an unsharp mask, an image (N, C, H, W) that the training loop makes. In the
    authors' options `G_L1` and `G_VGG` compare with it, and the discriminator is shown the target as it is.
    `rename_inputs={"y_usm": "y"}` compares with the plain target, `rename_inputs={"G_L1": {"y_usm": "y"}}` only
    `G_L1`; which image the discriminator is shown is a matter of `pred_real`.

    The authors' images are from 0 to 1. From -1 to 1 the same error has twice the value in `G_L1`, and the other losses
    do not change: the authors' balance is then a weight of 0.5.

    Args:
        config: The configuration with the weights, and with the device that VGG19 is loaded to.
        input_range: The values of black and white in the images.
        checkpoint: A local file with the weights of VGG19, or `"random"`. None: torchvision's.
        by_layer: Whether each layer is recorded beside the loss, as `G_VGG.conv3_4`.

    Returns:
        The losses by their names.

    Raises:
        WeightsError: If the weights of VGG19 cannot be obtained or used; the message names the ways to provide them.
        ValueError: If an argument is invalid.

    Formula:
        0.1*gan + l1 + vgg; both of y_usm in the place of y; vgg of conv1_2 to conv5_4

    Source:
        Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (ICCV workshops
        2021), arXiv:2107.10833, section 4.1. The lines are those of `options/train_realesrgan_x4plus.yml` and
        `realesrgan/models/realesrgan_model.py` in the authors' repository.

    Example:
        >>> from nectargan_core import Config
        >>> losses = real_esrgan(Config(), checkpoint="random")
        >>> losses["G_VGG"].inputs, losses["G_GAN"].loss_weight
        (('y_fake', 'y_usm'), 0.1)
    """
    perceptual = vgg(
        config, layers=_REAL_ESRGAN_LAYERS, input_range=input_range, checkpoint=checkpoint, by_layer=by_layer
    )
    compared = {**l1(config), **perceptual}
    losses = {**{name: _with_sharpened_target(loss) for name, loss in compared.items()}, **gan(config)}
    weights = {
        "G_L1": config.loss_weight("l1", default=1.0),
        "G_VGG": config.loss_weight("vgg", default=1.0),
        "G_GAN": config.loss_weight("gan", default=0.1),
    }
    return _weighted(losses, weights)


def _weighted(losses: Mapping[str, LMLoss], weights: Mapping[str, float]) -> dict[str, LMLoss]:
    """Return losses with other weights, by name."""
    return {
        name: loss.model_copy(update={"loss_weight": weights[name]}) if name in weights else loss
        for name, loss in losses.items()
    }


def _with_sharpened_target(loss: LMLoss) -> LMLoss:
    ranges = {"y_usm" if name == "y" else name: values for name, values in loss.ranges.items()}
    return loss.model_copy(update={"inputs": ("y_fake", "y_usm"), "ranges": ranges})
