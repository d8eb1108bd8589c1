"""The adversarial losses that look at one prediction: vanilla, lsgan, hinge, wgan and softplus."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_gan.judgements import OverDiscriminators, check_reduction, judgements, over_discriminators, precise
from nectargan_gan.roles import Role, as_target, check_role, checked_label, cross_entropy, own_label, shown_label

Variant = Literal["vanilla", "lsgan", "hinge", "wgan", "softplus"]

_VARIANTS: tuple[str, ...] = get_args(Variant)
_WITHOUT_LABELS = ("hinge", "wgan")


class Adversarial(nn.Module):
    """How far the predictions of a discriminator are from "real" or "generated".

    With p the prediction, and the mean over all of its elements:

    | variant    | `"generator"`   | `"real"`         | `"fake"`         |
    |------------|-----------------|------------------|------------------|
    | `vanilla`  | BCE(p, 1)       | BCE(p, 1)        | BCE(p, 0)        |
    | `lsgan`    | (p - 1)²        | (p - 1)²         | p²               |
    | `hinge`    | -p              | max(0, 1 - p)    | max(0, 1 + p)    |
    | `wgan`     | -p              | -p               | p                |
    | `softplus` | log(1 + exp(-p))| log(1 + exp(-p)) | log(1 + exp(p))  |

    BCE is the binary cross-entropy of logits. With these targets it is the same function as `softplus`.

    The module makes the target itself, on the device of the prediction, so that a training loop need not pass
    one. It has no parameters and no buffers. float16 and bfloat16 predictions are computed in float32.

    Args:
        variant: The formula.
        role: What is trained: `"generator"`, the discriminator on `"real"` samples, or on generated, `"fake"`, ones.
        label: The target in place of 1 or 0, from 0 to 1; for `vanilla`, `lsgan` and `softplus`. 0.9 for `"real"` is
            one-sided label smoothing.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        `vanilla`: Goodfellow et al., "Generative Adversarial Nets" (2014), section 3, with the generator's objective in
        its non-saturating form. `lsgan`: Mao et al., arXiv:1611.04076, equation 2 without its factors of ½, as in
        CycleGAN, pix2pixHD and HiFi-GAN. `hinge`: Lim and Ye, arXiv:1705.02894, and Miyato et al., arXiv:1802.05957,
        equations 16 and 17. `wgan`: Arjovsky et al., arXiv:1701.07875. `softplus`: Karras et al., arXiv:1912.04958, and
        their code. Label smoothing: Salimans et al., arXiv:1606.03498, section 3.4.

    Example:
        >>> import torch
        >>> undecided = torch.zeros(1, 1, 6, 6)
        >>> round(float(Adversarial("vanilla", "real")(undecided)), 4)
        0.6931
        >>> float(Adversarial("hinge", "fake")([undecided, undecided + 1]))
        1.5
    """

    def __init__(
        self,
        variant: Variant = "vanilla",
        role: Role = "generator",
        *,
        label: float | None = None,
        over_discriminators: OverDiscriminators = "mean",
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise ValueError(f"Adversarial: variant is one of {', '.join(_VARIANTS)}, not {variant!r}")
        check_role("Adversarial", role)
        check_reduction("Adversarial", over_discriminators)
        if label is not None and variant in _WITHOUT_LABELS:
            raise ValueError(f"Adversarial: {variant} has no labels, which label={label!r} could replace; leave it out")
        self.variant = variant
        self.role = role
        own = None if variant in _WITHOUT_LABELS else own_label(role)
        self.label = own if label is None else checked_label("Adversarial", label)
        self.over_discriminators = over_discriminators

    def forward(self, prediction: Tensor | list[Tensor] | list[list[Tensor]], target: object = None) -> Tensor:
        """Compare a prediction with its target.

        Args:
            prediction: What the discriminator returned, floating point, of any shape: logits, or scores of `lsgan`
                and `wgan`. Of several discriminators a list with an entry for each; an entry may be a list of which the
                last tensor counts.
            target: Where it is given, the share of each element that is real, 0 to 1: a tensor of the shape of the
                prediction, or a list of such tensors. The result is then that of the formulas for real and generated,
                in these shares; for `lsgan` the squared distance to it. None: the module's own.

        Returns:
            A scalar, in float32, or float64 for predictions in float64.

        Raises:
            TypeError: If a prediction or target is no tensor, or a prediction is not of a floating-point dtype.
            ValueError: If a target has another shape, there are fewer or more targets than predictions, or a list is
                empty.
        """
        said = judgements("Adversarial", "the prediction", prediction)
        if target is None:
            aim = own_label(self.role) if self.label is None else self.label
            losses = [self._compared(precise(each), aim) for each in said]
        else:
            pairs = zip(map(precise, said), _targets(target, said), strict=True)
            losses = [self._compared(each, share.to(each.dtype)) for each, share in pairs]
        return over_discriminators(losses, self.over_discriminators)

    def _compared(self, prediction: Tensor, aim: float | Tensor) -> Tensor:
        if self.variant == "vanilla":
            return cross_entropy(prediction, aim)
        if self.variant == "lsgan":
            return F.mse_loss(prediction, as_target(aim, prediction))
        if self.variant == "softplus":
            return _softplus(prediction, aim)
        if self.variant == "hinge" and self.role != "generator":
            return _hinge(prediction, aim)
        return _linear(prediction, aim)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        over = "" if self.over_discriminators == "mean" else f", over_discriminators={self.over_discriminators!r}"
        return f"{self.variant!r}, {self.role!r}{shown_label(self.role, self.label)}{over}"


def _softplus(prediction: Tensor, share: float | Tensor) -> Tensor:
    if isinstance(share, Tensor) or share not in (0.0, 1.0):
        return cross_entropy(prediction, share)
    return F.softplus(-prediction if share else prediction).mean()


def _hinge(prediction: Tensor, share: float | Tensor) -> Tensor:
    if isinstance(share, Tensor):
        return (share * F.relu(1 - prediction) + (1 - share) * F.relu(1 + prediction)).mean()
    return F.relu(1 - prediction if share else 1 + prediction).mean()


def _linear(prediction: Tensor, share: float | Tensor) -> Tensor:
    if isinstance(share, Tensor):
        return ((1 - 2 * share) * prediction).mean()
    return -prediction.mean() if share else prediction.mean()


def _targets(target: object, said: list[Tensor]) -> list[Tensor]:
    """Return a target for each prediction."""
    found = list(target) if isinstance(target, (list, tuple)) else [target]
    if len(found) != len(said):
        raise ValueError(
            f"Adversarial expects a target for each prediction; there are {len(said)} predictions and {len(found)} "
            "targets: give a list of them"
        )
    result = []
    for each, prediction in zip(found, said, strict=True):
        if not isinstance(each, Tensor):
            raise TypeError(
                f"Adversarial expects targets that are tensors, got {type(each).__name__}; give "
                "torch.full_like(prediction, value), or none, for those of the loss itself"
            )
        if each.shape != prediction.shape:
            raise ValueError(
                "Adversarial expects a target of the same size as the prediction; the prediction is "
                f"{tuple(prediction.shape)} and the target is {tuple(each.shape)}"
            )
        result.append(each)
    return result
