"""LPIPS and DISTS: losses that compare images by the features of a network, weighted as human judgements are."""

from nectargan_lpips.dissimilarity import DISTS
from nectargan_lpips.distance import LPIPS
from nectargan_lpips.spec import dists, lpips

__all__ = ["DISTS", "LPIPS", "dists", "lpips"]
