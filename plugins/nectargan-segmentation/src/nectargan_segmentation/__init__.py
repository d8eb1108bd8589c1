"""Losses of segmentation and classification: cross-entropy, Dice, focal and boundary, with deep supervision."""

from nectargan_segmentation.boundary import Boundary
from nectargan_segmentation.cross_entropy import CrossEntropy
from nectargan_segmentation.dice import Dice, DiceCrossEntropy
from nectargan_segmentation.distances import signed_distances
from nectargan_segmentation.focal import Focal
from nectargan_segmentation.inputs import example_inputs
from nectargan_segmentation.spec import boundary, ce, dice, dice_ce, focal

__all__ = [
    "Boundary",
    "CrossEntropy",
    "Dice",
    "DiceCrossEntropy",
    "Focal",
    "boundary",
    "ce",
    "dice",
    "dice_ce",
    "example_inputs",
    "focal",
    "signed_distances",
]
