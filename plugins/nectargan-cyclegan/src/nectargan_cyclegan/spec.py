"""The specs that make the objectives of CycleGAN and CUT available by their names."""

from __future__ import annotations

from typing import Literal

from nectargan_contrastive import patchnce
from nectargan_gan import gan
from nectargan_image import L1

from nectargan_core import Config, LMLoss


def cyclegan(config: Config, subspec: Literal["identity", "plain"] = "identity") -> dict[str, LMLoss]:
    """Build the objective of CycleGAN, for both directions between the domains A and B.

    | loss           | tag | reads                  | weight                               | variant    | authors    |
    |----------------|-----|------------------------|--------------------------------------|------------|------------|
    | `G_GAN_A`      | `G` | `pred_fake_a`          | `train.loss.lambda_gan`, or 1        | both       | `G_B`      |
    | `D_real_A`     | `D` | `pred_real_a`          | 0.5                                  | both       | in `D_B`   |
    | `D_fake_A`     | `D` | `pred_fake_a`          | 0.5                                  | both       | in `D_B`   |
    | `G_CYCLE_A`    | `G` | `rec_a`, `real_a`      | `train.loss.lambda_cycle_a`, or 10   | both       | `cycle_A`  |
    | `G_IDENTITY_A` | `G` | `identity_a`, `real_a` | `train.loss.lambda_identity_a`, or 5 | `identity` | `idt_B`    |
    | `G_GAN_B`      | `G` | `pred_fake_b`          | `train.loss.lambda_gan`, or 1        | both       | `G_A`      |
    | `D_real_B`     | `D` | `pred_real_b`          | 0.5                                  | both       | in `D_A`   |
    | `D_fake_B`     | `D` | `pred_fake_b`          | 0.5                                  | both       | in `D_A`   |
    | `G_CYCLE_B`    | `G` | `rec_b`, `real_b`      | `train.loss.lambda_cycle_b`, or 10   | both       | `cycle_B`  |
    | `G_IDENTITY_B` | `G` | `identity_b`, `real_b` | `train.loss.lambda_identity_b`, or 5 | `identity` | `idt_A`    |

    The adversarial losses are those of `gan:lsgan`; the others are mean absolute errors. The last letter of each name,
    of losses and of inputs, is the domain that the images belong to. The last column has the names of the authors'
    code, which calls some by the network: its generator `G_A` makes images of B, `idt_A` among them, and its `D_A`
    judges images of B.

    The inputs, all in batches; images are (N, C, H, W) from -1 to 1, and one of A is not paired with one of B:

    - `real_a`, `real_b`: images of the domains, from the data.
    - `rec_a`, `rec_b`: the reconstructions. `rec_a` is `real_a` translated to B and back, by both generators.
    - `identity_a`, `identity_b`: what a generator makes of images that are in its domain already. `identity_a` is what
      the generator that translates to A makes of `real_a`.
    - `pred_real_a`, `pred_real_b`: what the discriminators say of the data: that of A of `real_a`, that of B of
      `real_b`. Scores around 1 and 0, without a sigmoid, (N, 1, h, w) or of another shape; of several discriminators
      a list with an entry for each.
    - `pred_fake_a`, `pred_fake_b`: what they say of translations: that of A of `real_b` translated to A, that of B of
      `real_a` translated to B. For the losses tagged `D` the translations are detached, and may come from a pool of
      earlier ones, which the training loop keeps.

    Each number is that of the authors' code, github.com/junyanz/pytorch-CycleGAN-and-pix2pix at 48ced5e, in
    models/cycle_gan_model.py: 10 in lines 41 and 42; 5, which is 10 times the 0.5 of line 43, in lines 160 and 163; 0.5
    in line 137; 1, and the sum, in line 177. LSGAN is the default of `gan_mode` in options/train_options.py.

    Args:
        config: The configuration with the weights.
        subspec: `"identity"` as in the authors' code, or `"plain"` without the identity losses, as in equation 3.

    Returns:
        The losses by their names.

    Formula:
        identity: sum over domains of gan:lsgan + 10 mean |rec - real| + 5 mean |identity - real|; D halved
        plain: sum over domains of gan:lsgan + 10 mean |rec - real|; D halved

    Source:
        Zhu, Park, Isola and Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
        ICCV 2017, arXiv:1703.10593, equations 1 to 3 and sections 4 and 5.2.

    Example:
        >>> from nectargan_core import Config
        >>> losses = cyclegan(Config())
        >>> losses["G_CYCLE_A"].inputs, losses["G_CYCLE_A"].loss_weight
        (('rec_a', 'real_a'), 10.0)
        >>> [name for name in losses if name not in cyclegan(Config(), "plain")]
        ['G_IDENTITY_A', 'G_IDENTITY_B']
    """
    losses: dict[str, LMLoss] = {}
    for domain in ("a", "b"):
        for loss in _adversarial(config).values():
            name, inputs = f"{loss.name}_{domain.upper()}", tuple(f"{each}_{domain}" for each in loss.inputs)
            losses[name] = loss.model_copy(update={"name": name, "inputs": inputs})
        losses |= _absolute_error(config, "cycle", "rec", domain, 10.0)
        if subspec == "identity":
            losses |= _absolute_error(config, "identity", "identity", domain, 5.0)
    return losses


def cut(
    config: Config,
    subspec: Literal["cut", "fastcut"] = "cut",
    *,
    temperature: float = 0.07,
    negatives: Literal["image", "batch"] = "image",
    num_patches: int | None = None,
) -> dict[str, LMLoss]:
    """Build the objective of CUT, contrastive translation without pairs.

    | loss | tag | reads | weight | variant |
    |---|---|---|---|---|
    | `G_GAN` | `G` | `pred_fake` | `train.loss.lambda_gan`, or 1 | both |
    | `D_real` | `D` | `pred_real` | 0.5 | both |
    | `D_fake` | `D` | `pred_fake` | 0.5 | both |
    | `G_PATCHNCE` | `G` | `patches_fake`, `patches_real` | `train.loss.lambda_patchnce`, or 0.5 | `cut` |
    | `G_PATCHNCE` | `G` | `patches_fake`, `patches_real` | `train.loss.lambda_patchnce`, or 10 | `fastcut` |
    | `G_PATCHNCE_Y` | `G` | `patches_identity`, `patches_y` | `train.loss.lambda_patchnce_y`, or 0.5 | `cut` |

    The adversarial losses are those of `gan:lsgan`, and the others those of `patchnce`. With x an image of the source
    domain, y one of the target domain that is not paired with it, and G the generator, the inputs are:

    - `pred_real`, `pred_fake`: what the discriminator says of y and of G(x). For the losses tagged `D`, G(x) is
      detached.
    - `patches_fake`, `patches_real`: features of patches of G(x), and of x at the same positions: a list with a tensor
      for each layer, (N, P, C) of P patches, or (N, C, H, W), of which each position is a patch. The encoder of the
      generator makes the features, `nectargan_contrastive.sample_patches` draws the positions, and a network that is
      trained with the generator projects them.
    - `patches_identity`, `patches_y`: the same of G(y), and of y.

    Each number is that of the authors' code, github.com/taesungp/contrastive-unpaired-translation at b3ac297, in
    models/cut_model.py: 1 in line 24; 0.5 of `cut`, half of the 1 of line 45, in line 191; 10 in line 48; 0.5 of the
    discriminator in line 171; the sum in line 195; the temperature in line 33; the mean over layers in line 214. LSGAN
    is the default in options/train_options.py:38.

    Args:
        config: The configuration with the weights.
        subspec: `"cut"`, or `"fastcut"` without the identity loss and with a larger weight. The authors' FastCUT also
            gives the generator half of the batches mirrored, which the training loop does.
        temperature: What the products of features are divided by, above 0.
        negatives: Which patches a patch is told from: `"image"` for those of the same image, `"batch"` for those of all
            images of the batch.
        num_patches: How many of the patches that are given are drawn at each call, the same for both images, 1 at
            least. None: all, and the losses are deterministic.

    Returns:
        The losses by their names.

    Raises:
        TypeError: If `temperature` is no number, or `num_patches` no int.
        ValueError: If an argument is out of its range.

    Formula:
        cut: gan:lsgan + 0.5 patchnce(G(x), x) + 0.5 patchnce(G(y), y); D halved
        fastcut: gan:lsgan + 10 patchnce(G(x), x); D halved

    Source:
        Park, Efros, Zhang and Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020,
        arXiv:2007.15651, equations 1 to 5.

    Example:
        >>> from nectargan_core import Config
        >>> {name: loss.loss_weight for name, loss in cut(Config(), "fastcut").items()}
        {'G_GAN': 1.0, 'D_real': 0.5, 'D_fake': 0.5, 'G_PATCHNCE': 10.0}
        >>> cut(Config())["G_PATCHNCE_Y"].inputs
        ('patches_identity', 'patches_y')
    """
    losses = _adversarial(config)
    contrasts = {"patchnce": ("patches_fake", "patches_real")}
    if subspec == "cut":
        contrasts["patchnce-y"] = ("patches_identity", "patches_y")
    for key, inputs in contrasts.items():
        (loss,) = patchnce(config, temperature=temperature, negatives=negatives, num_patches=num_patches).values()
        name = f"G_{key.upper().replace('-', '_')}"
        weight = config.loss_weight(key, default=0.5 if subspec == "cut" else 10.0)
        losses[name] = loss.model_copy(update={"name": name, "inputs": inputs, "loss_weight": weight})
    return losses


def _adversarial(config: Config) -> dict[str, LMLoss]:
    """Return the losses of `gan:lsgan`, those of the discriminator halved."""
    losses = gan(config, "lsgan")
    return {
        name: loss.model_copy(update={"loss_weight": 0.5}) if "D" in loss.tags else loss
        for name, loss in losses.items()
    }


def _absolute_error(config: Config, key: str, made: str, domain: str, weight: float) -> dict[str, LMLoss]:
    """Return the mean absolute error of images that were made of the images of a domain."""
    loss = LMLoss(
        name=f"G_{key}_{domain}".upper(),
        function=L1(),
        loss_weight=config.loss_weight(f"{key}-{domain}", default=weight),
        tags=["G"],
        inputs=(f"{made}_{domain}", f"real_{domain}"),
    )
    return {loss.name: loss}
