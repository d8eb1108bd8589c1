"""Perceptual and style losses, which compare images by their VGG19 features."""

from nectargan_vgg.loss import VGGPerceptual, VGGStyle
from nectargan_vgg.spec import vgg

__all__ = ["VGGPerceptual", "VGGStyle", "vgg"]
