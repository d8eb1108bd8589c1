"""Losses in PyTorch Lightning: a callback by which the managers of a LightningModule follow its Trainer."""

from nectargan_lightning.callback import LossCallback

__all__ = ["LossCallback"]
