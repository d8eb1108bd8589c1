"""TensorBoard as an observer: losses, weights, metrics, loss maps and the objective of a run, in its own files."""

from nectargan_tensorboard.observer import TensorBoard

__all__ = ["TensorBoard"]
