"""The relativistic average adversarial loss, which looks at both predictions."""

from __future__ import annotations

from torch import Tensor, nn

from nectargan_gan.judgements import OverDiscriminators, check_reduction, judgements, over_discriminators, precise
from nectargan_gan.roles import Role, check_role, checked_label, cross_entropy, own_label, shown_label


class Relativistic(nn.Module):
    """How much more real one of two samples is than the other, on average.

    With r and f the predictions of real and generated samples, m(r) and m(f) their means over all elements, and BCE the
    mean binary cross-entropy of logits:

    | role          | loss                                      |
    |---------------|-------------------------------------------|
    | `"real"`      | BCE(r - m(f), 1)                          |
    | `"fake"`      | BCE(f - m(r), 0)                          |
    | `"generator"` | (BCE(r - m(f), 0) + BCE(f - m(r), 1)) / 2 |

    The ½ of the generator is not in the papers; it is in ESRGAN's code, whose weight of 5e-3 goes with it. The
    generator's loss takes r as a constant. The module has no parameters and no buffers. float16 and bfloat16
    predictions are computed in float32.

    Args:
        role: What is trained: `"generator"`, or the discriminator on `"real"` or on generated, `"fake"`, samples.
        label: The target in place of the 1 of `"real"` or the 0 of `"fake"`, from 0 to 1. 0.9 for `"real"` is one-sided
            label smoothing.
        detach_mean: Whether `"real"` and `"fake"` take the mean as a constant, as ESRGAN's code in BasicSR does. The
            papers do not.
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Jolicoeur-Martineau, arXiv:1807.00734, section 3.3.2; Wang et al., "ESRGAN", arXiv:1809.00219, equations 1 and
        2; `esrgan_model.py` of BasicSR.

    Example:
        >>> import torch
        >>> undecided = torch.zeros(2, 1)
        >>> round(float(Relativistic("generator")(undecided, undecided)), 4)
        0.6931
    """

    def __init__(
        self,
        role: Role = "generator",
        *,
        label: float | None = None,
        detach_mean: bool = False,
        over_discriminators: OverDiscriminators = "mean",
    ) -> None:
        super().__init__()
        check_role("Relativistic", role)
        check_reduction("Relativistic", over_discriminators)
        if label is not None and role == "generator":
            raise ValueError("Relativistic: the generator has two labels, 1 and 0, which no label= replaces")
        if not isinstance(detach_mean, bool):
            raise TypeError(f"Relativistic: detach_mean is True or False, got {detach_mean!r}")
        self.role = role
        # None for the generator, which has two.
        self.label = None if role == "generator" else own_label(role)
        if label is not None:
            self.label = checked_label("Relativistic", label)
        self.detach_mean = detach_mean
        self.over_discriminators = over_discriminators

    def forward(
        self,
        prediction: Tensor | list[Tensor] | list[list[Tensor]],
        other: Tensor | list[Tensor] | list[list[Tensor]],
    ) -> Tensor:
        """Compare a prediction with the other one.

        Args:
            prediction: What the discriminator returned for the samples that the role is about, logits of any shape, in
                floating point: for `"real"` those of real samples, otherwise those of generated ones. Of several
                discriminators a list with an entry for each; an entry may be a list of which the last tensor counts.
            other: What it returned for the others, likewise.

        Returns:
            A scalar, in float32, or float64 for predictions in float64.

        Raises:
            TypeError: If a prediction is no tensor of a floating-point dtype, or list of such tensors.
            ValueError: If the two are of different numbers of discriminators, or a list is empty.
        """
        names = ("pred_real", "pred_fake") if self.role == "real" else ("pred_fake", "pred_real")
        said = [judgements("Relativistic", name, given) for name, given in zip(names, (prediction, other), strict=True)]
        if len(said[0]) != len(said[1]):
            raise ValueError(
                "Relativistic expects both predictions of the same discriminators; "
                f"{names[0]} is of {len(said[0])} and {names[1]} of {len(said[1])}"
            )
        losses = [self._compared(precise(one), precise(two)) for one, two in zip(*said, strict=True)]
        return over_discriminators(losses, self.over_discriminators)

    def _compared(self, prediction: Tensor, other: Tensor) -> Tensor:
        if self.label is None:
            other = other.detach()
            towards = cross_entropy(prediction - other.mean(), 1.0)
            return (cross_entropy(other - prediction.mean(), 0.0) + towards) / 2
        return cross_entropy(prediction - (other.detach() if self.detach_mean else other).mean(), self.label)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        detached = ", detach_mean=True" if self.detach_mean else ""
        over = "" if self.over_discriminators == "mean" else f", over_discriminators={self.over_discriminators!r}"
        return f"{self.role!r}{shown_label(self.role, self.label)}{detached}{over}"
