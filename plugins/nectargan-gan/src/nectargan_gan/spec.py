"""The specs that make these losses available by their names."""

from __future__ import annotations

from typing import Literal

from nectargan_core import Config, LMLoss, Schedule
from nectargan_gan.adversarial import Adversarial
from nectargan_gan.feature_matching import FeatureMatching
from nectargan_gan.gradient_penalty import GradientPenalty, SquaredGradient
from nectargan_gan.judgements import OverDiscriminators
from nectargan_gan.path_length import PathLength
from nectargan_gan.relativistic import Relativistic
from nectargan_gan.roles import Role


def gan(
    config: Config,
    subspec: Literal["vanilla", "lsgan", "hinge", "wgan", "softplus", "relativistic"] = "vanilla",
    *,
    label_smoothing: float = 0.0,
    over_discriminators: OverDiscriminators = "mean",
    detach_mean: bool = False,
) -> dict[str, LMLoss]:
    """Build the adversarial losses of generator and discriminator.

    | loss     | tag | reads                    | weight                         | variant            |
    |----------|-----|--------------------------|--------------------------------|--------------------|
    | `G_GAN`  | `G` | `pred_fake`              | `train.loss.lambda_gan`, or 1  | all but the last   |
    | `D_real` | `D` | `pred_real`              | 1                              | all but the last   |
    | `D_fake` | `D` | `pred_fake`              | 1                              | all but the last   |
    | `G_GAN`  | `G` | `pred_fake`, `pred_real` | `train.loss.lambda_gan`, or 1  | `relativistic`     |
    | `D_real` | `D` | `pred_real`, `pred_fake` | 1                              | `relativistic`     |
    | `D_fake` | `D` | `pred_fake`, `pred_real` | 1                              | `relativistic`     |

    The formulas, and their sources, are those of `Adversarial` and `Relativistic`. The losses make their own targets;
    `compute_loss_xy("G_GAN", prediction, target)` uses the target given, but for `relativistic`, whose second input is
    the other prediction. A prediction is a tensor, or a list with an entry for each discriminator; an entry may be a
    list of which the last tensor counts. It has to be what the last layer returns, without a sigmoid: but for `lsgan`,
    a manager warns once if the predictions are from 0 to 1, as probabilities are.

    The weights of `D_real` and `D_fake` are 1. Where a paper halves the total of the discriminator, as pix2pix does,
    the training loop halves it.

    Args:
        config: The configuration with the weight.
        subspec: The formula: `"vanilla"` is the cross-entropy of the original paper and of pix2pix, `"softplus"` the
            logistic loss as StyleGAN2 writes it, `"relativistic"` the relativistic average loss of ESRGAN.
        label_smoothing: What the label of real samples, 1, is lowered by for the discriminator, from 0 to 1; not for
            `hinge` and `wgan`, which have no labels.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.
        detach_mean: With `relativistic`, whether the discriminator takes the mean of the other prediction as a
            constant, as ESRGAN's code does.

    Returns:
        The losses by their names.

    Raises:
        ValueError: If an option is out of range, or not for this variant.

    Example:
        >>> from nectargan_core import Config
        >>> losses = gan(Config(), "hinge")
        >>> list(losses), losses["D_real"].inputs
        (['G_GAN', 'D_real', 'D_fake'], ('pred_real',))
    """
    smoothed = _smoothed(label_smoothing)
    if detach_mean is not False and subspec != "relativistic":
        raise ValueError(f"gan: detach_mean is for the variant 'relativistic', not {subspec!r}")
    if smoothed is not None and subspec in ("hinge", "wgan"):
        raise ValueError(f"gan: {subspec!r} has no labels that label_smoothing={label_smoothing!r} could lower")

    def function(role: Role) -> Adversarial | Relativistic:
        label = smoothed if role == "real" else None
        if subspec == "relativistic":
            return Relativistic(role, label=label, detach_mean=detach_mean, over_discriminators=over_discriminators)
        return Adversarial(subspec, role, label=label, over_discriminators=over_discriminators)

    fake: tuple[str, ...] = ("pred_fake",)
    real: tuple[str, ...] = ("pred_real",)
    if subspec == "relativistic":
        fake, real = fake + real, real + fake

    def loss(name: str, role: Role, inputs: tuple[str, ...], weight: float = 1.0) -> LMLoss:
        # lsgan draws predictions to its labels, which are 0 and 1.
        ranges = {} if subspec == "lsgan" else dict.fromkeys(inputs, "logits")
        return LMLoss(
            name=name, function=function(role), loss_weight=weight, tags=[name[0]], inputs=inputs, ranges=ranges
        )

    losses = [
        loss("G_GAN", "generator", fake, config.loss_weight("gan", default=1.0)),
        loss("D_real", "real", real),
        loss("D_fake", "fake", fake),
    ]
    return {each.name: each for each in losses}


def feature_matching(config: Config, *, over_discriminators: OverDiscriminators = "mean") -> dict[str, LMLoss]:
    """Build the feature matching loss: `G_FM`, tag `G`, of `features_fake` and `features_real`.

    Its weight is `train.loss.lambda_feature_matching` of the config, or 10 as in pix2pixHD and SPADE. The features are
    a list of maps, or a list of such lists, one for each discriminator. pix2pixHD and SPADE leave out the last output
    of each discriminator, which is the judgement; HiFi-GAN does not.

    Args:
        config: The configuration with the weight.
        over_discriminators: How the losses of several discriminators become one: `"mean"`, or `"sum"` as in HiFi-GAN.

    Returns:
        The loss by its name.

    Example:
        >>> from nectargan_core import Config
        >>> feature_matching(Config())["G_FM"].inputs
        ('features_fake', 'features_real')
    """
    loss = LMLoss(
        name="G_FM",
        function=FeatureMatching(over_discriminators=over_discriminators),
        loss_weight=config.loss_weight("feature-matching", default=10.0),
        tags=["G"],
        inputs=("features_fake", "features_real"),
    )
    return {loss.name: loss}


def r1(config: Config, *, every: int = 1, over_discriminators: OverDiscriminators = "mean") -> dict[str, LMLoss]:
    """Build the R1 penalty: `D_R1`, tag `D`, of `y` and `discriminator`.

    Its weight is gamma: `train.loss.lambda_r1` of the config, or 10; the ½ of the formula is in the loss.
    `discriminator` is a callable of one batch, and is passed as it is: `D`, or `lambda image: D(x, image)`.

    Args:
        config: The configuration with the weight.
        every: The number of steps from one computation to the next. The weight is multiplied by it, and is 0 in the
            steps between, in which nothing is computed; StyleGAN2 has 16.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Returns:
        The loss by its name.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from nectargan_core import Config
        >>> r1(Config())["D_R1"].loss_weight
        10.0
    """
    function = SquaredGradient(over_discriminators=over_discriminators)
    weight = config.loss_weight("r1", default=10.0)
    return _regulariser("D_R1", function, weight, "D", ("y", "discriminator"), every)


def r2(config: Config, *, every: int = 1, over_discriminators: OverDiscriminators = "mean") -> dict[str, LMLoss]:
    """Build the R2 penalty: `D_R2`, tag `D`, of `y_fake` and `discriminator`.

    Its weight is gamma: `train.loss.lambda_r2` of the config, or 10; the ½ of the formula is in the loss.
    `discriminator` is a callable of one batch, and is passed as it is: `D`, or `lambda image: D(x, image)`.

    Args:
        config: The configuration with the weight.
        every: The number of steps from one computation to the next. The weight is multiplied by it, and is 0 in the
            steps between, in which nothing is computed.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Returns:
        The loss by its name.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from nectargan_core import Config
        >>> r2(Config())["D_R2"].inputs
        ('y_fake', 'discriminator')
    """
    function = SquaredGradient(over_discriminators=over_discriminators)
    weight = config.loss_weight("r2", default=10.0)
    return _regulariser("D_R2", function, weight, "D", ("y_fake", "discriminator"), every)


def gradient_penalty(
    config: Config, *, center: float = 1.0, every: int = 1, over_discriminators: OverDiscriminators = "mean"
) -> dict[str, LMLoss]:
    """Build the gradient penalty of WGAN-GP: `D_GP`, tag `D`, of `y`, `y_fake` and `discriminator`.

    Its weight is lambda: `train.loss.lambda_gradient_penalty` of the config, or 10 as in the paper. `discriminator` is
    a callable of one batch, and is passed as it is: `D`, or `lambda image: D(x, image)`. The objective of WGAN-GP is
    `gan:wgan + gradient-penalty`.

    Args:
        config: The configuration with the weight.
        center: The norm of the gradient that is not penalised: 1 as in the paper; 0 for the zero-centred penalty.
        every: The number of steps from one computation to the next. The weight is multiplied by it, and is 0 in the
            steps between, in which nothing is computed.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `center` is no number.
        ValueError: If an option is out of range.

    Example:
        >>> from nectargan_core import Config
        >>> gradient_penalty(Config())["D_GP"].inputs
        ('y', 'y_fake', 'discriminator')
    """
    function = GradientPenalty(center=center, over_discriminators=over_discriminators)
    weight = config.loss_weight("gradient-penalty", default=10.0)
    return _regulariser("D_GP", function, weight, "D", ("y", "y_fake", "discriminator"), every)


def path_length(config: Config, *, decay: float = 0.01, every: int = 1) -> dict[str, LMLoss]:
    """Build the path length regularisation of StyleGAN2: `G_PL`, tag `G`, of `y_fake` and `w`.

    Its weight is `train.loss.lambda_path_length` of the config, or 2 as in the authors' code. `w` are the latents that
    the images were made of, (N, d) or (N, L, d), with gradients enabled; `y_fake` has to have the graph from them. The
    running mean of lengths is saved with `manager.modules()`.

    Args:
        config: The configuration with the weight.
        decay: The share of the present lengths in their running mean, above 0 and up to 1.
        every: The number of steps from one computation to the next. The weight is multiplied by it, and is 0 in the
            steps between, in which nothing is computed; StyleGAN2 has 4.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `decay` is no number.
        ValueError: If an option is out of range.

    Example:
        >>> from nectargan_core import Config
        >>> path_length(Config())["G_PL"].loss_weight
        2.0
    """
    weight = config.loss_weight("path-length", default=2.0)
    return _regulariser("G_PL", PathLength(decay=decay), weight, "G", ("y_fake", "w"), every)


def _regulariser(
    name: str,
    function: SquaredGradient | GradientPenalty | PathLength,
    weight: float,
    tag: str,
    inputs: tuple[str, ...],
    every: int,
) -> dict[str, LMLoss]:
    """Return a loss that is computed at each step, or lazily."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every is a number of steps, an integer of at least 1; got {every!r}")
    loss = LMLoss(
        name=name,
        function=function,
        loss_weight=weight,
        tags=[tag],
        inputs=inputs,
        as_is=tuple(each for each in inputs if each == "discriminator"),
    )
    if every > 1:
        lazy = Schedule(
            "nectargan-schedules/every",
            unit="step",
            initial_value=0.0,
            target_value=weight,
            params={"n": every, "average": True},
        )
        loss = loss.model_copy(update={"schedule": lazy})
    return {name: loss}


def _smoothed(label_smoothing: object) -> float | None:
    """Return the label of real samples, None where it is 1."""
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, (int, float)):
        raise TypeError(f"gan: label_smoothing is a number from 0 to 1, got {label_smoothing!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"gan: label_smoothing is a number from 0 to 1, got {label_smoothing!r}")
    return 1.0 - label_smoothing if label_smoothing else None
