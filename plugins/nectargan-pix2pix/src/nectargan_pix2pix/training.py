"""The training loop of pix2pix, for the losses of any objective."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nectargan_core import LossManager, Schedule, TorchScheduler
from nectargan_pix2pix.networks import Discriminator, Generator

# The discriminator has the paper's learning rate. The generator, which begins as the identity and has far fewer
# channels than the paper's, learns well with five times that rate.
GENERATOR_RATE = 1e-3
DISCRIMINATOR_RATE = 2e-4


class Networks:
    """Generator and discriminator with their optimizers, whose rates fall to zero over the second half.

    Args:
        channels: Features of the first layer of each network.
        epochs: The number of epochs of the training.
        device: The device of the networks.

    Source:
        Isola et al., arXiv:1611.07004, section 3.3: Adam with beta1 = 0.5.
    """

    def __init__(self, channels: int, epochs: int, device: torch.device) -> None:
        self.channels = channels
        self.device = device
        self.generator = Generator(channels).to(device)
        self.discriminator = Discriminator(channels).to(device)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=GENERATOR_RATE, betas=(0.5, 0.999))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=DISCRIMINATOR_RATE, betas=(0.5, 0.999)
        )
        decay = Schedule(start_epoch=epochs // 2, end_epoch=epochs, target_value=0.0)
        self.generator_rate = TorchScheduler(self.generator_optimizer, decay)
        self.discriminator_rate = TorchScheduler(self.discriminator_optimizer, decay)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer states and the number of channels: all plain data and tensors."""
        return {
            "channels": self.channels,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def generate(self, x: Tensor) -> Tensor:
        """Translate one image (3, H, W) in evaluation mode; the result is within -1 to 1."""
        self.generator.eval()
        with torch.inference_mode():
            output: Tensor = self.generator(x.unsqueeze(0).to(self.device))
        self.generator.train()
        return output.squeeze(0).clamp(-1, 1).cpu()


def train(
    manager: LossManager, networks: Networks, batches: Iterable[tuple[Tensor, Tensor]], epochs: int
) -> Iterator[int]:
    """Train both networks on the losses of a manager.

    Losses tagged `G` train the generator, those tagged `D` the discriminator. Each may read `x`, `y`, `y_fake`,
    `pred_real` and `pred_fake`; a prediction that none of them reads is not computed. Without losses tagged `D`
    the discriminator stays as it is.

    Args:
        manager: Holds the losses.
        networks: The networks to train.
        batches: Source images and targets, each (N, 3, H, W) from -1 to 1; iterated once an epoch.
        epochs: The number of epochs.

    Yields:
        The number of the epoch, from 0, after each step.
    """
    generator, discriminator = networks.generator, networks.discriminator
    adversarial = bool(manager.get_registered_losses("D"))
    for epoch in range(epochs):
        for source, target in batches:
            x, y = source.to(networks.device), target.to(networks.device)
            manager.tick(epoch=epoch)

            y_fake = generator(x)
            inputs = {"x": x, "y": y, "y_fake": y_fake}
            inputs["pred_real"] = partial(discriminator, x, y)
            inputs["pred_fake"] = partial(discriminator, x, y_fake)
            discriminator.requires_grad_(False)
            losses = manager.compute_losses(inputs, query="G")
            networks.generator_optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            networks.generator_optimizer.step()

            if adversarial:
                inputs["y_fake"] = y_fake.detach()
                inputs["pred_fake"] = partial(discriminator, x, y_fake.detach())
                discriminator.requires_grad_(True)
                losses = manager.compute_losses(inputs, query="D")
                networks.discriminator_optimizer.zero_grad()
                # Halved, so that the discriminator learns more slowly than the generator (section 3.3).
                (losses.total / 2).backward()  # type: ignore[no-untyped-call]  # untyped in torch
                networks.discriminator_optimizer.step()
            yield epoch

        networks.generator_rate.step()
        if adversarial:
            networks.discriminator_rate.step()
