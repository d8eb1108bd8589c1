"""Perceptual, style and contextual losses, which compare images by their VGG19 features."""

from nectargan_vgg.contextual import VGGContextual
from nectargan_vgg.loss import VGGPerceptual, VGGStyle
from nectargan_vgg.spec import vgg

__all__ = ["VGGContextual", "VGGPerceptual", "VGGStyle", "vgg"]
