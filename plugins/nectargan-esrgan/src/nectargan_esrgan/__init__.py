"""The objectives of ESRGAN (Wang et al. 2018) and Real-ESRGAN (Wang et al. 2021) as loss specs."""

from nectargan_esrgan.inputs import example_inputs
from nectargan_esrgan.spec import esrgan, real_esrgan

__all__ = ["esrgan", "example_inputs", "real_esrgan"]
