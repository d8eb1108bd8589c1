"""Weights & Biases as an observer: losses, weights, metrics, loss maps and the objective of a run, in a run of W&B."""

from nectargan_wandb.observer import WandB

__all__ = ["WandB"]
