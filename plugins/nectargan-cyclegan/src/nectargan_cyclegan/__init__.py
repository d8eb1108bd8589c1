"""The objectives of CycleGAN (Zhu et al. 2017) and CUT (Park et al. 2020) as loss specs."""

from nectargan_cyclegan.inputs import example_inputs
from nectargan_cyclegan.spec import cut, cyclegan

__all__ = ["cut", "cyclegan", "example_inputs"]
