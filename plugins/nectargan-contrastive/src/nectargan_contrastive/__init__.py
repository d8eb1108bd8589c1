"""Contrastive losses: PatchNCE of image patches, InfoNCE and NT-Xent of embeddings."""

from nectargan_contrastive.infonce import InfoNCE, NTXent
from nectargan_contrastive.inputs import example_inputs
from nectargan_contrastive.patches import sample_patches
from nectargan_contrastive.patchnce import PatchNCE
from nectargan_contrastive.spec import info_nce, patchnce

__all__ = ["InfoNCE", "NTXent", "PatchNCE", "example_inputs", "info_nce", "patchnce", "sample_patches"]
