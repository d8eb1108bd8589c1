"""MLflow as an observer: losses, weights, metrics, loss maps and the objective of a run, in a run of MLflow."""

from nectargan_mlflow.observer import MLflow

__all__ = ["MLflow"]
