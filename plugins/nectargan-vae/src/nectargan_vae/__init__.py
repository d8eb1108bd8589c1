"""Losses of autoencoders: the KL divergence of variational ones, codebook and commitment of vector-quantised ones."""

from nectargan_vae.inputs import example_inputs
from nectargan_vae.kl import KL
from nectargan_vae.spec import kl, vq
from nectargan_vae.vq import VQ

__all__ = ["KL", "VQ", "example_inputs", "kl", "vq"]
