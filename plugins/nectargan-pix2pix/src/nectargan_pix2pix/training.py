"""The training loop of pix2pix, for the losses of any objective."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nectargan_core import LossManager, Schedule, Scheduler
from nectargan_pix2pix.batches import Epochs
from nectargan_pix2pix.distributed import ONE, Processes
from nectargan_pix2pix.normalisation import count_batch
from nectargan_pix2pix.options import DISCRIMINATOR_RATE, GENERATOR_RATE

INPUTS = ("x", "y", "y_fake", "pred_real", "pred_fake")
"""What losses may read."""


class Trainable(Protocol):
    """Two networks with their optimizers, as the training loop wants them."""

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        ...

    @property
    def generator(self) -> nn.Module:
        """Maps source images (N, 3, H, W) to images of the same shape."""
        ...

    @property
    def discriminator(self) -> nn.Module:
        """Maps source images and images to logits."""
        ...

    @property
    def generator_optimizer(self) -> torch.optim.Optimizer:
        """What changes the generator."""
        ...

    @property
    def discriminator_optimizer(self) -> torch.optim.Optimizer:
        """What changes the discriminator."""
        ...

    def begin_epoch(self, epoch: int, /) -> None:
        """Set the learning rates of an epoch."""
        ...


class Networks:
    """Generator and discriminator with their optimizers, whose rates fall to zero over the second half.

    Args:
        channels: Features of the first layer of each network.
        epochs: The number of epochs of the training.
        device: The device of the networks.
        generator_rate: The learning rate of the generator in the first half, above 0.
        discriminator_rate: Likewise of the discriminator.

    Source:
        Isola et al., arXiv:1611.07004, section 3.3: Adam with beta1 = 0.5.
    """

    def __init__(
        self,
        channels: int,
        epochs: int,
        device: torch.device,
        generator_rate: float = GENERATOR_RATE,
        discriminator_rate: float = DISCRIMINATOR_RATE,
    ) -> None:
        # Imported here, since the loop serves networks that need no library, too.
        from nectargan_pix2pix.networks import Discriminator, Generator

        self.device = device
        self.generator = Generator(channels).to(device)
        self.discriminator = Discriminator(channels).to(device)
        self.generator_optimizer = _adam(self.generator, generator_rate)
        self.discriminator_optimizer = _adam(self.discriminator, discriminator_rate)
        self._rates = {self.generator_optimizer: generator_rate, self.discriminator_optimizer: discriminator_rate}
        self._decay = Scheduler(Schedule(start_epoch=epochs // 2, end_epoch=epochs, target_value=0.0))

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rates of an epoch, which follow from its number alone."""
        factor = self._decay.value(epoch)
        for optimizer, rate in self._rates.items():
            set_rate(optimizer, rate * factor)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizer states: plain data and tensors."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`; other keys are left aside."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])

    def generate(self, x: Tensor) -> Tensor:
        """Translate images (..., 3, H, W) in evaluation mode; the result is within -1 to 1."""
        return translate(self.generator, x, self.device).clamp(-1, 1)


class Learned:
    """What losses and weightings learn, with an optimizer that has the learning rate of the generator.

    These are the parameters of `manager.modules()` that require a gradient. Each follows the total that it is a part
    of: that of the generator, of the discriminator, or of both.

    Args:
        manager: Holds the losses.
        networks: The networks that are trained on them.
    """

    def __init__(self, manager: LossManager, networks: Trainable) -> None:
        self._modules = manager.modules()
        self._rate_of = networks.generator_optimizer
        self.names = [
            name
            for name, module in self._modules.items()
            if any(parameter.requires_grad for parameter in module.parameters())
        ]
        self.optimizer = (
            _adam(self._modules, networks.generator_optimizer.param_groups[0]["lr"]) if self.names else None
        )

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learned."""
        return [parameter for parameter in self._modules.parameters() if parameter.requires_grad]

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        if self.optimizer is not None:
            self.optimizer.zero_grad()

    def step(self) -> None:
        """Learn from the gradients of this step."""
        if self.optimizer is not None:
            set_rate(self.optimizer, self._rate_of.param_groups[0]["lr"])
            self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return parameters, buffers and the state of the optimizer; frozen parameters, such as those of VGG, stay out.

        These are what they were made with, and may be large.
        """
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        return {"modules": self._unfrozen(), "optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is of other losses.
        """
        expected, given = self._unfrozen().keys(), state["modules"].keys()
        if expected != given or (self.optimizer is None) is not (state["optimizer"] is None):
            raise ValueError(f"it has what {sorted(given)} learned, and the losses learn {sorted(expected)}")
        self._modules.load_state_dict({**self._modules.state_dict(), **state["modules"]})
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])

    def _unfrozen(self) -> dict[str, Any]:
        frozen = {
            name
            for name, parameter in self._modules.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        }
        return {name: value for name, value in self._modules.state_dict().items() if name not in frozen}


def train(
    manager: LossManager,
    networks: Trainable,
    learned: Learned,
    batches: Epochs,
    epochs: int,
    done: int = 0,
    processes: Processes = ONE,
) -> Iterator[int]:
    """Train both networks on the losses of a manager.

    Losses tagged `G` train the generator, those tagged `D` the discriminator. Each may read `x`, `y`, `y_fake`,
    `pred_real` and `pred_fake`; a prediction that none of them reads is not computed. Without losses tagged `D`
    the discriminator stays as it is.

    Args:
        manager: Holds the losses.
        networks: The networks to train.
        learned: What the losses and weightings of the manager learn.
        batches: Source images and targets of each epoch, each (N, 3, H, W) from -1 to 1; with several processes, the
            part of this one.
        epochs: The number of epochs.
        done: How many steps were done before.
        processes: Those that train together, each in such a loop.

    Yields:
        The number of steps done, after each of them. All state is then that of the next step.
    """
    adversarial = bool(manager.get_registered_losses("D"))
    discriminator = networks.discriminator
    # What averages the gradients of several processes. The generator's step calls the discriminator itself, which gets
    # no gradients then.
    trained_generator = processes.parallel(networks.generator, networks.device)
    trained_discriminator = processes.parallel(discriminator, networks.device) if adversarial else discriminator
    # A weighting with reduce="mean" waits for all processes, too, and is not asked where nothing is recorded.
    communicates = processes.count > 1 and any(each.reduce for each in manager.manifest().weightings.values())
    for epoch in range(done // len(batches), epochs):
        networks.begin_epoch(epoch)
        first = done % len(batches)
        for number, (source, target) in enumerate(batches.of(epoch, first), first):
            share = 1.0 if processes.count == 1 else batches.share(number)
            count_batch(networks.generator, share > 0)
            count_batch(discriminator, share > 0)
            # What this process has no part in is computed for the others, who wait for it, and not recorded.
            with nullcontext() if share or communicates else manager.paused():
                x, y = source.to(networks.device), target.to(networks.device)
                manager.tick(epoch=epoch)
                learned.zero_grad()

                y_fake = trained_generator(x)
                inputs = {"x": x, "y": y, "y_fake": y_fake}
                inputs["pred_real"] = partial(discriminator, x, y)
                inputs["pred_fake"] = partial(discriminator, x, y_fake)
                discriminator.requires_grad_(False)
                losses = manager.compute_losses(inputs, query="G", batch_size=len(x))
                networks.generator_optimizer.zero_grad()
                _backward(losses.total, share)
                networks.generator_optimizer.step()

                if adversarial:
                    inputs["y_fake"] = y_fake.detach()
                    inputs["pred_real"] = partial(trained_discriminator, x, y)
                    inputs["pred_fake"] = partial(trained_discriminator, x, y_fake.detach())
                    discriminator.requires_grad_(True)
                    losses = manager.compute_losses(inputs, query="D", batch_size=len(x))
                    networks.discriminator_optimizer.zero_grad()
                    # Halved, so that the discriminator learns more slowly than the generator (section 3.3).
                    _backward(losses.total / 2, share)
                    networks.discriminator_optimizer.step()
                processes.average(learned.parameters())
                learned.step()
            done += 1
            yield done


def _backward(total: Tensor, share: float) -> None:
    """Compute the gradients of a total, whose mean over all processes is then that of the whole batch."""
    (total if share == 1 else total * share).backward()  # type: ignore[no-untyped-call]  # untyped in torch


def translate(generator: nn.Module, x: Tensor, device: torch.device) -> Tensor:
    """Translate images (..., 3, H, W) in evaluation mode; the result is on the CPU, and not confined to -1 to 1."""
    was_training = generator.training
    generator.eval()
    with torch.inference_mode():
        output: Tensor = generator(x.reshape(-1, *x.shape[-3:]).to(device))
    generator.train(was_training)
    return output.reshape(x.shape).cpu()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _adam(module: nn.Module, rate: float) -> torch.optim.Adam:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))
