"""Penalties on the gradient of a discriminator: R1, R2, and that of WGAN-GP."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn

from nectargan_gan.input_gradient import check_samples, input_gradients
from nectargan_gan.judgements import OverDiscriminators, check_reduction, over_discriminators

Discriminator = Callable[[Tensor], "Tensor | list[Tensor] | list[list[Tensor]]"]


class SquaredGradient(nn.Module):
    """Half the squared norm of the discriminator's gradient at samples: R1 at real ones, R2 at generated ones.

    ½·mean‖∇D‖² over the batch, where the gradient is that of the sum of all that the discriminator returns for a
    sample, with respect to that sample. The weight of the loss is the gamma of the papers.

    The discriminator is called once more, with autocast off. It is differentiated twice, so that
    `torch.compile(fullgraph=True)` does not take this loss; without `fullgraph` it runs outside of the graph, and a
    discriminator that was compiled runs uncompiled in it. The module has no parameters and no buffers.

    Args:
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Raises:
        ValueError: If `over_discriminators` is none of these.

    Source:
        Mescheder et al., "Which Training Methods for GANs do actually Converge?", arXiv:1801.04406, equations 9 and 10;
        the code of StyleGAN2.

    Example:
        >>> import torch
        >>> y = torch.ones(2, 3)
        >>> SquaredGradient()(y, lambda image: image.square().sum(1)).item()
        6.0
    """

    def __init__(self, *, over_discriminators: OverDiscriminators = "mean") -> None:
        super().__init__()
        check_reduction("SquaredGradient", over_discriminators)
        self.over_discriminators = over_discriminators

    @torch.compiler.disable  # type: ignore[untyped-decorator] # as it is in torch
    def forward(self, samples: Tensor, discriminator: Discriminator) -> Tensor:
        """Penalise the gradient at samples.

        Args:
            samples: Real or generated samples, (N, ...), floating point; used as constants.
            discriminator: A callable of one batch that returns predictions of any shape, or a list of them, in which an
                entry may be a list of which the last tensor counts.

        Returns:
            A scalar, in float32, or float64 for samples in float64.

        Raises:
            TypeError: If `samples` is no tensor of a floating-point dtype, or `discriminator` cannot be called or
                returns no predictions.
            ValueError: If `samples` is no batch, or what the discriminator returns does not depend on it.
        """
        (samples,) = check_samples("SquaredGradient", samples=samples)
        losses = [
            gradient.square().sum(1).mean() / 2
            for gradient in input_gradients("SquaredGradient", discriminator, samples)
        ]
        return over_discriminators(losses, self.over_discriminators)

    def extra_repr(self) -> str:
        """Show the argument where the module is printed."""
        return "" if self.over_discriminators == "mean" else f"over_discriminators={self.over_discriminators!r}"


class GradientPenalty(nn.Module):
    """How far the norm of the discriminator's gradient is from 1, between real and generated samples.

    mean (‖∇D(u)‖ - c)² over the batch, where u = a·y + (1 - a)·y_fake with one a for each sample, drawn from 0 to 1,
    and the gradient is that of the sum of all that the discriminator returns for a sample, with respect to that sample.
    The norm is over all of its elements. The random numbers are those of torch on the device of the samples.

    The discriminator is called once more, with autocast off. It is differentiated twice, so that
    `torch.compile(fullgraph=True)` does not take this loss; without `fullgraph` it runs outside of the graph, and a
    discriminator that was compiled runs uncompiled in it. The module has no parameters and no buffers.

    Args:
        center: The norm c that is not penalised, from 0 on: 1 in WGAN-GP; 0 for the zero-centred penalty.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Raises:
        TypeError: If `center` is no number.
        ValueError: If `center` is negative or not finite, or `over_discriminators` is none of these.

    Source:
        Gulrajani et al., "Improved Training of Wasserstein GANs", arXiv:1704.00028, equation 3; with a center of 0
        Thanh-Tung et al., "Improving Generalization and Stability of Generative Adversarial Networks",
        arXiv:1902.03984.

    Example:
        >>> import torch
        >>> y = torch.zeros(2, 3)
        >>> GradientPenalty()(y, y + 1, lambda image: 2 * image[:, 0]).item()
        1.0
    """

    def __init__(self, *, center: float = 1.0, over_discriminators: OverDiscriminators = "mean") -> None:
        super().__init__()
        if isinstance(center, bool) or not isinstance(center, (int, float)):
            raise TypeError(f"GradientPenalty: center is a number from 0 on, got {center!r}")
        if not (isfinite(center) and center >= 0):
            raise ValueError(f"GradientPenalty: center is a number from 0 on, got {center!r}")
        check_reduction("GradientPenalty", over_discriminators)
        self.center = float(center)
        self.over_discriminators = over_discriminators

    @torch.compiler.disable  # type: ignore[untyped-decorator] # as it is in torch
    def forward(self, y: Tensor, y_fake: Tensor, discriminator: Discriminator) -> Tensor:
        """Penalise the gradient between real and generated samples.

        Args:
            y: Real samples, (N, ...), floating point; used as constants.
            y_fake: Generated samples of the same shape; used as constants, too.
            discriminator: A callable of one batch that returns predictions of any shape, or a list of them, in which an
                entry may be a list of which the last tensor counts.

        Returns:
            A scalar, in float32, or float64 for samples in float64.

        Raises:
            TypeError: If a batch is no tensor of a floating-point dtype, or `discriminator` cannot be called or returns
                no predictions.
            ValueError: If the two batches differ in shape or have no samples, or what the discriminator returns does
                not depend on its argument.
        """
        real, fake = check_samples("GradientPenalty", y=y, y_fake=y_fake)
        dtype = torch.promote_types(real.dtype, fake.dtype)
        share = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=dtype, device=real.device)
        between = torch.lerp(fake.detach().to(dtype), real.detach().to(dtype), share)
        losses = [
            (torch.linalg.vector_norm(gradient, dim=1) - self.center).square().mean()
            for gradient in input_gradients("GradientPenalty", discriminator, between)
        ]
        return over_discriminators(losses, self.over_discriminators)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        over = "" if self.over_discriminators == "mean" else f", over_discriminators={self.over_discriminators!r}"
        return f"center={self.center:g}{over}"
