"""Adversarial losses: GAN losses in six variants, feature matching, gradient penalties and path length."""

from nectargan_gan.adversarial import Adversarial
from nectargan_gan.feature_matching import FeatureMatching
from nectargan_gan.gradient_penalty import GradientPenalty, SquaredGradient
from nectargan_gan.path_length import PathLength
from nectargan_gan.relativistic import Relativistic
from nectargan_gan.spec import feature_matching, gan, gradient_penalty, path_length, r1, r2

__all__ = [
    "Adversarial",
    "FeatureMatching",
    "GradientPenalty",
    "PathLength",
    "Relativistic",
    "SquaredGradient",
    "feature_matching",
    "gan",
    "gradient_penalty",
    "path_length",
    "r1",
    "r2",
]
