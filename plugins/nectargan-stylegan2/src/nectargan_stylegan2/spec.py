"""The spec that makes the objective of StyleGAN2 available by its name."""

from __future__ import annotations

from nectargan_gan import gan, path_length, r1

from nectargan_core import Config, LMLoss


def stylegan2(
    config: Config, *, r1_every: int = 16, path_length_every: int = 4, decay: float = 0.01
) -> dict[str, LMLoss]:
    """Build the objective of StyleGAN2: adversarial losses, lazy R1 and lazy path length regularisation.

    | loss     | tag | reads                | weight                                | source                     |
    |----------|-----|----------------------|---------------------------------------|----------------------------|
    | `G_GAN`  | `G` | `pred_fake`          | `train.loss.lambda_gan`, or 1         | loss.py, line 71           |
    | `G_PL`   | `G` | `y_fake`, `w`        | `train.loss.lambda_path_length`, or 2 | loss.py, lines 24 and 89   |
    | `D_real` | `D` | `pred_real`          | 1                                     | loss.py, line 118          |
    | `D_fake` | `D` | `pred_fake`          | 1                                     | loss.py, line 102          |
    | `D_R1`   | `D` | `y`, `discriminator` | `train.loss.lambda_r1`, or 10         | loss.py, lines 24 and 126  |

    The adversarial losses are those of `gan:softplus`, the non-saturating logistic loss. `G_PL` and `D_R1` are lazy:
    computed in each 4th and each 16th step (training_loop.py, lines 106, 107 and 271), the steps 0, 4, 8, … and 0, 16,
    32, …, with 4 and 16 times their weight (line 283), 8 and 160. In the steps between their weight is 0, and none of
    their inputs is called. The weight of `D_R1` is gamma; the ½ of the formula is in the loss.

    `w` are the latents that the images `y_fake` were made of, (N, d) or (N, L, d), with gradients enabled.
    `discriminator` is a callable of one batch. The authors make half a batch of images for `G_PL` (loss.py, lines 79
    and 80). They regularise in optimiser steps of their own, after those of the adversarial losses: compute them by
    the queries `["G_PL"]` and `["D_R1"]` for the same. Their optimisers have the learning rate times n/(n + 1), and
    betas to the power of n/(n + 1), where n is 4 and 16 (training_loop.py, lines 202 to 205).

    Args:
        config: The configuration with the weights.
        r1_every: The number of steps from one computation of `D_R1` to the next, by which its weight is multiplied.
        path_length_every: The number of steps from one computation of `G_PL` to the next, by which its weight is
            multiplied.
        decay: The share of the present lengths in the running mean of `G_PL`, above 0 and up to 1.

    Returns:
        The losses by their names.

    Raises:
        TypeError: If `decay` is no number.
        ValueError: If an option is out of range.

    Formula:
        gan:softplus + 10*r1 + 2*path-length; r1 in every 16th step; path-length in every 4th

    Source:
        Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020), arXiv:1912.04958, sections
        3.1 and 3.2. The lines are those of `training/loss.py` and `training/training_loop.py` in the authors'
        stylegan2-ada-pytorch; a gamma of 10 is that of its configuration `stylegan2` (train.py, line 156).

    Example:
        >>> from nectargan_core import Config
        >>> losses = stylegan2(Config())
        >>> list(losses), losses["D_R1"].schedule.target_value
        (['G_GAN', 'G_PL', 'D_real', 'D_fake', 'D_R1'], 10.0)
    """
    adversarial = gan(config, "softplus")
    for name, every in (("r1_every", r1_every), ("path_length_every", path_length_every)):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"stylegan2: {name} is a number of steps, an integer of at least 1; got {every!r}")
    return {
        "G_GAN": adversarial.pop("G_GAN"),
        **path_length(config, decay=decay, every=path_length_every),
        **adversarial,
        **r1(config, every=r1_every),
    }
