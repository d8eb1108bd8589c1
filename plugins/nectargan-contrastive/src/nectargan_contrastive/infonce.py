"""Contrastive losses of embeddings: InfoNCE from one side or both, and NT-Xent."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_contrastive._checks import check_floating, checked_temperature
from nectargan_contrastive._similarity import classified, precise, similarities


class InfoNCE(nn.Module):
    """Cross-entropy of finding, for each query, its key among the keys of the batch.

    Of a query q with its key k⁺ it is -log(exp(q·k⁺/τ) / Σ exp(q·k/τ)), where the sum is over all keys of the batch;
    averaged over the queries. Half-precision embeddings are computed in float32, under autocast too, and the result is
    float32. In a batch of 1 there is nothing to tell the key from, and the loss is 0.

    Args:
        temperature: τ, above 0.
        symmetric: Whether the cross-entropy of finding the query of each key is averaged with it.
        normalize: Whether embeddings are brought to the length 1 first, so that a product is the cosine of their angle.

    Raises:
        TypeError: If `temperature` is no number.
        ValueError: If `temperature` is not above 0 and finite.

    Source:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, equation 4,
        with a scalar product over a temperature as He, Fan, Wu, Xie and Girshick, "Momentum Contrast for Unsupervised
        Visual Representation Learning", CVPR 2020, have it in equation 1. Symmetric: Radford et al., "Learning
        Transferable Visual Models From Natural Language Supervision", ICML 2021, figure 3.

    Example:
        >>> import torch
        >>> InfoNCE(temperature=1.0)(torch.eye(2), torch.eye(2))  # log(1 + exp(-1))
        tensor(0.3133)
    """

    def __init__(self, *, temperature: float = 0.1, symmetric: bool = False, normalize: bool = True) -> None:
        super().__init__()
        self.temperature = checked_temperature("InfoNCE", temperature)
        self.symmetric = symmetric
        self.normalize = normalize

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compare each query with each key.

        Args:
            queries: Embeddings, (N, D), floating point, any range.
            keys: The embedding that belongs to each, (N, D).

        Returns:
            The loss, in float32, or in float64 if a tensor is.

        Raises:
            TypeError: If a tensor is not of a floating-point dtype.
            ValueError: If the shapes differ, or are not (N, D).
        """
        queries, keys = _pair("InfoNCE", queries, keys)
        logits = similarities(queries, keys, self.temperature, self.normalize)
        loss = classified(logits)
        return (loss + classified(logits.T)) / 2 if self.symmetric else loss

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"temperature={self.temperature:g}, symmetric={self.symmetric}, normalize={self.normalize}"


class NTXent(nn.Module):
    """Cross-entropy of finding, for each of 2N embeddings of N samples, the other of its sample among all others.

    Each embedding is told from the 2N - 2 of other samples, queries and keys alike; the loss is averaged over all 2N.
    Half-precision embeddings are computed in float32, under autocast too, and the result is float32. In a batch of 1
    there is nothing to tell the other embedding from, and the loss is 0.

    Args:
        temperature: What the products are divided by, above 0.
        normalize: Whether embeddings are brought to the length 1 first.

    Raises:
        TypeError: If `temperature` is no number.
        ValueError: If `temperature` is not above 0 and finite.

    Source:
        Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
        ICML 2020, equation 1 and algorithm 1; a temperature of 0.1 is the best of its table 5.

    Example:
        >>> import torch
        >>> NTXent(temperature=1.0)(torch.eye(2), torch.eye(2))  # log(1 + 2 exp(-1))
        tensor(0.5514)
    """

    def __init__(self, *, temperature: float = 0.1, normalize: bool = True) -> None:
        super().__init__()
        self.temperature = checked_temperature("NTXent", temperature)
        self.normalize = normalize

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compare each embedding with all others.

        Args:
            queries: Embeddings of one view of the samples, (N, D), floating point, any range.
            keys: Embeddings of the other view, (N, D).

        Returns:
            The loss, in float32, or in float64 if a tensor is.

        Raises:
            TypeError: If a tensor is not of a floating-point dtype.
            ValueError: If the shapes differ, or are not (N, D).
        """
        both = torch.cat(_pair("NTXent", queries, keys))
        logits = similarities(both, both, self.temperature, self.normalize)
        places = torch.arange(len(both), device=both.device)
        itself = places == places[:, None]
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), places.roll(len(queries)))

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"temperature={self.temperature:g}, normalize={self.normalize}"


def _pair(owner: str, queries: Tensor, keys: Tensor) -> list[Tensor]:
    check_floating(owner, queries=queries, keys=keys)
    if queries.dim() != 2 or queries.shape != keys.shape:
        raise ValueError(
            f"{owner} expects queries and keys of one shape (N, D); queries is {tuple(queries.shape)} and keys is "
            f"{tuple(keys.shape)}: flatten what has more dimensions"
        )
    return precise(queries, keys)
