"""TensorBoard as an observer: losses, weights, metrics, loss maps and the objective of a run, in TensorBoard's own files."""

from nectargan_tensorboard.observer import TensorBoard

__all__ = ["TensorBoard"]
