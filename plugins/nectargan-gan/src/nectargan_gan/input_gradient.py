"""The gradient of what a discriminator says with respect to what it is given, for penalties on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from nectargan_gan.judgements import judgements, precise


def input_gradients(owner: str, discriminator: object, samples: Tensor) -> list[Tensor]:
    """Return the gradient of the sum of each discriminator's judgements with respect to its samples.

    The gradients can be differentiated with respect to the parameters of the discriminator, unless gradients are
    disabled where this is called. Autocast is off inside, so that the discriminator computes in float32.

    Args:
        owner: The loss, for errors.
        discriminator: A callable of one batch.
        samples: The batch, (N, ...); it is used as a constant.

    Returns:
        A gradient (N, d) for each discriminator, in float32 at least.

    Raises:
        TypeError: If `discriminator` cannot be called, or does not return predictions.
        ValueError: If what it returns does not depend on its argument.
    """
    if not callable(discriminator):
        raise TypeError(
            f"{owner} expects a discriminator that is a callable of one batch, such as lambda image: D(x, image); it "
            f"is of type {type(discriminator).__name__}"
        )
    differentiable = torch.is_grad_enabled()
    with _differentiable_twice(samples.device.type):
        given = (samples.clone() if samples.is_inference() else samples.detach()).requires_grad_()
        said = judgements(owner, "what the discriminator returned", discriminator(given))
        gradients = []
        for judgement in said:
            gradient = None
            if judgement.requires_grad:
                (gradient,) = torch.autograd.grad(
                    judgement,
                    given,
                    torch.ones_like(judgement),
                    create_graph=differentiable,
                    retain_graph=differentiable or len(said) > 1,
                    allow_unused=True,
                )
            if gradient is None:
                raise ValueError(
                    f"{owner} expects what the discriminator returns to depend on the batch that it is given, and no "
                    "gradient reaches that; remove detach() and torch.no_grad() from the discriminator, and let it use "
                    "its argument"
                )
            gradients.append(precise(gradient).flatten(1))
        return gradients


def check_samples(owner: str, **samples: object) -> list[Tensor]:
    """Return batches of samples, in the dtype in which a discriminator takes them.

    Under autocast that is float32, whatever the samples are: the parameters are.

    Raises:
        TypeError: If one is no tensor of a floating-point dtype.
        ValueError: If one has no dimension beside that of the batch, or they differ in shape.
    """
    result = []
    for name, each in samples.items():
        if not isinstance(each, Tensor):
            raise TypeError(f"{owner} expects tensors; {name} is of type {type(each).__name__}")
        if not each.is_floating_point():
            raise TypeError(f"{owner} expects floating-point samples; {name} is {each.dtype}: convert with .float()")
        if each.dim() < 2 or not each.numel():
            raise ValueError(f"{owner} expects a batch (N, ...) of samples; {name} is {tuple(each.shape)}")
        result.append(precise(each) if _is_autocast(each.device.type) else each)
    if len({each.shape for each in result}) > 1:
        shapes = " and ".join(f"{name} is {tuple(each.shape)}" for name, each in zip(samples, result, strict=True))
        raise ValueError(f"{owner} expects samples of one shape; {shapes}")
    return result


def _is_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast, in which no derivative is rounded more than what it is the derivative of."""
    return torch.autocast(device_type, enabled=False) if _is_autocast(device_type) else contextlib.nullcontext()


@contextlib.contextmanager
def _differentiable_twice(device_type: str) -> Iterator[None]:
    with (
        torch.inference_mode(False) if torch.is_inference_mode_enabled() else contextlib.nullcontext(),
        torch.enable_grad(),
        without_autocast(device_type),
        # What torch.compile makes of a module cannot be differentiated twice.
        torch.compiler.set_stance("force_eager"),
    ):
        yield
