"""Perceptual and style losses: images compared by the features that VGG19 finds in them."""

from nectargan_vgg.loss import VGGPerceptual, VGGStyle
from nectargan_vgg.spec import vgg

__all__ = ["VGGPerceptual", "VGGStyle", "vgg"]
