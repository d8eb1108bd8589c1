"""The specs that make the losses available as `+kl` and `+vq`."""

from __future__ import annotations

from nectargan_core import Config, LMLoss
from nectargan_vae.kl import KL, Reduction
from nectargan_vae.vq import VQ


def kl(config: Config, *, reduction: Reduction = "batchmean", free_bits: float = 0.0) -> dict[str, LMLoss]:
    """Build the KL divergence of a variational autoencoder: `G_KL`, tag `G`, of `mu` and `logvar`.

    It is that of N(mu, exp(logvar)) from N(0, 1). Its weight is `train.loss.lambda_kl` of the config, 1 by default,
    with which the sum of it and a negative log-likelihood that is summed over the pixels is the negative evidence lower
    bound. Beside a loss that is averaged over pixels, such as L1, divide the weight by their number.

    Args:
        config: The configuration with the weight.
        reduction: `"batchmean"` sums over the latent dimensions and averages over the batch; `"mean"` averages over all
            elements; `"sum"` sums over all; `"none"` keeps one value per element, of which the mean counts.
        free_bits: How many nats each group of latent dimensions may have at no cost, 0 or greater; a group is an index
            of dimension 1: a latent dimension of (N, d), a channel of (N, C, H, W).

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `free_bits` is no number.
        ValueError: If an argument is out of its range.

    Formula:
        mean over the batch of sum (mu² + exp(logvar) - 1 - logvar) / 2

    Source:
        Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114, appendix B.

    Example:
        >>> from nectargan_core import Config
        >>> kl(Config())["G_KL"].inputs
        ('mu', 'logvar')
    """
    loss = LMLoss(
        name="G_KL",
        function=KL(reduction=reduction, free_bits=free_bits),
        loss_weight=config.loss_weight("kl", default=1.0),
        tags=["G"],
        inputs=("mu", "logvar"),
    )
    return {loss.name: loss}


def vq(config: Config, *, beta: float = 0.25, codebook_weight: float = 1.0) -> dict[str, LMLoss]:
    """Build the loss of a vector-quantised autoencoder: `G_VQ`, tag `G`, of `z_e` and `z_q`.

    Its components are `codebook` and `commitment`, recorded as `G_VQ.codebook` and `G_VQ.commitment` with their
    weights. Its weight is `train.loss.lambda_vq` of the config, 1 by default. It reads two inputs of its own: `z_e`,
    the encoder's output, and `z_q`, the vectors of the codebook that were chosen for it, in the same shape and before
    the straight-through estimator.

    Args:
        config: The configuration with the weight.
        beta: The weight of the commitment, 0 or greater.
        codebook_weight: The weight of the codebook loss, 0 or greater; 0 for a codebook of moving averages. The
            quantiser of taming-transformers, unless it is made with `legacy=False`, is `beta=1.0` and
            `codebook_weight=0.25`.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If a weight is no number.
        ValueError: If a weight is negative or not finite, or both are 0.

    Formula:
        codebook_weight · mean (sg(z_e) - z_q)² + beta · mean (z_e - sg(z_q))²; sg holds constant

    Source:
        van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017,
        arXiv:1711.00937, equation 3.

    Example:
        >>> from nectargan_core import Config
        >>> vq(Config())["G_VQ"].inputs
        ('z_e', 'z_q')
    """
    loss = LMLoss(
        name="G_VQ",
        function=VQ(beta=beta, codebook_weight=codebook_weight),
        loss_weight=config.loss_weight("vq", default=1.0),
        tags=["G"],
        inputs=("z_e", "z_q"),
    )
    return {loss.name: loss}
