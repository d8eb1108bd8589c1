"""Path length regularisation: a step in the latent space is to change the image by the same amount everywhere."""

from __future__ import annotations

from math import isfinite, prod, sqrt

import torch
from torch import Tensor, nn

from nectargan_gan.input_gradient import without_autocast
from nectargan_gan.judgements import precise


class PathLength(nn.Module):
    """How far the lengths of the generator's Jacobian are from their running mean.

    With e an image of normal noise divided by the square root of its number of pixels, and J the Jacobian of the image
    with respect to the latents w of its L layers, the length of a sample is sqrt(mean over layers of ‖Jᵀe‖²). The loss
    is the mean of (length - m)² over the batch, where m is a running mean of lengths, the present ones included; its
    gradient counts, as in the authors' code.

    The running mean is the buffer `mean`, which begins at 0, is saved in the `state_dict`, and changes at each call in
    which gradients are enabled and the module is in training mode. Lengths that are not finite, as in the first steps
    with a gradient scaler, leave it as it is. The random numbers are those of torch on the device of the images. The
    gradient of the generator is differentiated, so that `torch.compile(fullgraph=True)` does not take this loss;
    without `fullgraph` it runs outside of the graph.

    Args:
        decay: The share of the present lengths in the running mean, above 0 and up to 1.

    Raises:
        TypeError: If `decay` is no number.
        ValueError: If it is out of range.

    Source:
        Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958, equation 4 and
        appendix B; `training/loss.py` of stylegan2-ada-pytorch, with a decay of 0.01.

    Example:
        >>> import torch
        >>> w = torch.zeros(2, 4, requires_grad=True)
        >>> image = (w @ torch.ones(4, 48)).reshape(2, 3, 4, 4)
        >>> loss = PathLength()
        >>> loss(image, w) > 0, loss.mean > 0
        (tensor(True), tensor(True))
    """

    mean: Tensor

    def __init__(self, *, decay: float = 0.01) -> None:
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, (int, float)):
            raise TypeError(f"PathLength: decay is a number above 0, up to 1; got {decay!r}")
        if not (isfinite(decay) and 0 < decay <= 1):
            raise ValueError(f"PathLength: decay is a number above 0, up to 1; got {decay!r}")
        self.decay = float(decay)
        self.register_buffer("mean", torch.zeros(()))

    @torch.compiler.disable  # type: ignore[untyped-decorator] # as it is in torch
    def forward(self, y_fake: Tensor, w: Tensor) -> Tensor:
        """Compare the lengths of a batch with their running mean.

        Args:
            y_fake: Generated images (N, C, H, W), or (N, C, ...) of other dimensions, floating point, with the graph
                from `w` to them.
            w: The latents that they were made of, (N, d), or (N, L, d) with one for each layer.

        Returns:
            A scalar, in float32, or float64 for images in float64.

        Raises:
            TypeError: If either is no tensor of a floating-point dtype.
            ValueError: If either has too few dimensions, they differ in the size of the batch, or `y_fake` does not
                depend on `w`.
        """
        _check(y_fake, w)
        differentiable = torch.is_grad_enabled()
        noise = torch.randn_like(y_fake) / sqrt(prod(y_fake.shape[2:]))
        gradient: Tensor | None = None
        if y_fake.requires_grad and w.requires_grad:
            # The graph is kept in any case: other losses need it.
            with without_autocast(w.device.type):
                (gradient,) = torch.autograd.grad(
                    y_fake, w, noise, create_graph=differentiable, retain_graph=True, allow_unused=True
                )
        if gradient is None:
            raise ValueError(
                "PathLength expects images y_fake that were made of the latents w with gradients enabled, and no "
                "gradient reaches w; pass the very tensor that the generator was given, with w.requires_grad_(), and "
                "leave this loss out where gradients are disabled, as in validation"
            )
        # As a norm, since its derivative is finite at 0.
        norms = torch.linalg.vector_norm(precise(gradient).flatten(1), dim=1)
        lengths = norms / sqrt(prod(w.shape[1:-1]))
        mean = torch.lerp(self.mean.to(lengths.dtype), lengths.mean(), self.decay)
        if differentiable and self.training:
            with torch.no_grad():
                self.mean.copy_(torch.where(mean.isfinite(), mean, self.mean.to(mean.dtype)))
        loss: Tensor = (lengths - mean).square().mean()
        return loss

    def extra_repr(self) -> str:
        """Show the argument where the module is printed."""
        return f"decay={self.decay:g}"


def _check(y_fake: object, w: object) -> None:
    given = (("y_fake", y_fake, 3, "(N, C, H, W)"), ("w", w, 2, "(N, d) or (N, L, d)"))
    sizes = []
    for name, each, least, shape in given:
        if not isinstance(each, Tensor):
            raise TypeError(f"PathLength expects tensors; {name} is of type {type(each).__name__}")
        if not each.is_floating_point():
            raise TypeError(f"PathLength expects floating-point tensors; {name} is {each.dtype}")
        if each.dim() < least or not each.numel():
            raise ValueError(f"PathLength expects {name} to be {shape}; it is {tuple(each.shape)}")
        sizes.append(len(each))
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"PathLength expects a latent for each image; y_fake is a batch of {sizes[0]} and w one of {sizes[1]}"
        )
