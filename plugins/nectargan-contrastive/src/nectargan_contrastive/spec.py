"""The specs that make the losses available as `+patchnce`, `+info-nce` and `+info-nce:nt-xent`."""

from __future__ import annotations

from typing import Literal

from nectargan_contrastive.infonce import InfoNCE, NTXent
from nectargan_contrastive.patchnce import Negatives, PatchNCE
from nectargan_core import Config, LMLoss


def patchnce(
    config: Config,
    *,
    temperature: float = 0.07,
    negatives: Negatives = "image",
    num_patches: int | None = None,
    normalize: bool = True,
) -> dict[str, LMLoss]:
    """Build the PatchNCE loss: `G_PATCHNCE`, tag `G`, of `patches_fake` and `patches_real`.

    Its weight is `train.loss.lambda_patchnce` of the config, 1 by default. It reads two inputs of its own, lists with a
    tensor per layer: `patches_fake`, features of patches of the generated image, and `patches_real`, those of its
    source at the same positions; both are patches (N, P, C) or maps (N, C, H, W). `sample_patches` of this package
    draws positions; a network that projects the patches is the training loop's. The features of the source are held
    constant.

    Args:
        config: The configuration with the weight.
        temperature: What the products of features are divided by, above 0.
        negatives: Which patches a patch is told from: `"image"` for those of the same image, `"batch"` for those of all
            images of the batch.
        num_patches: How many of the patches that are given are drawn at each call, the same for both images, 1 at
            least. None: all, and the loss is deterministic.
        normalize: Whether features are brought to the length 1 first.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `temperature` is no number, or `num_patches` no int.
        ValueError: If an argument is out of its range.

    Formula:
        mean over layers and patches i of -log(exp(f_i·r_i / t) / sum_j exp(f_i·r_j / t)); t = temperature; of
        vectors of length 1

    Source:
        Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, arXiv:2007.15651,
        equations 2 and 3.

    Example:
        >>> from nectargan_core import Config
        >>> patchnce(Config())["G_PATCHNCE"].inputs
        ('patches_fake', 'patches_real')
    """
    function = PatchNCE(temperature=temperature, negatives=negatives, num_patches=num_patches, normalize=normalize)
    loss = LMLoss(
        name="G_PATCHNCE",
        function=function,
        loss_weight=config.loss_weight("patchnce", default=1.0),
        tags=["G"],
        inputs=("patches_fake", "patches_real"),
    )
    return {loss.name: loss}


def info_nce(
    config: Config,
    subspec: Literal["plain", "nt-xent"] = "plain",
    *,
    temperature: float = 0.1,
    symmetric: bool = False,
    normalize: bool = True,
) -> dict[str, LMLoss]:
    """Build a contrastive loss of embeddings: `G_INFO_NCE` or `G_NT_XENT`, tag `G`, of `queries` and `keys`.

    `plain` gives `G_INFO_NCE`, weighted by `train.loss.lambda_info_nce` of the config, and `nt-xent` gives `G_NT_XENT`,
    weighted by `train.loss.lambda_nt_xent`; both have a default weight of 1. They read two inputs of their own:
    `queries` and `keys`, embeddings (N, D), of which those in the same row belong together.

    Args:
        config: The configuration with the weight.
        subspec: `"plain"` tells the key of a query from the keys of the batch; `"nt-xent"`, the form of SimCLR, tells
            it from the other queries, too, and the query of a key likewise.
        temperature: What the products of embeddings are divided by, above 0.
        symmetric: For `plain`, whether finding the query of each key is averaged with it; `nt-xent` is symmetric by
            itself.
        normalize: Whether embeddings are brought to the length 1 first.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If `temperature` is no number.
        ValueError: If `temperature` is not above 0 and finite.

    Formula:
        plain: mean over i of -log(exp(q_i·k_i / t) / sum_j exp(q_i·k_j / t)); t = temperature; of vectors of length 1
        nt-xent: mean over all 2N embeddings i of -log(exp(z_i·z_p / t) / sum over j ≠ i of exp(z_i·z_j / t)); p = the
            other of the sample; of vectors of length 1

    Source:
        plain: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
            arXiv:1807.03748, equation 4.
        nt-xent: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
            arXiv:2002.05709, equation 1.

    Example:
        >>> from nectargan_core import Config
        >>> info_nce(Config())["G_INFO_NCE"].inputs
        ('queries', 'keys')
        >>> list(info_nce(Config(), "nt-xent"))
        ['G_NT_XENT']
    """
    function: InfoNCE | NTXent
    if subspec == "nt-xent":
        name, key = "G_NT_XENT", "nt-xent"
        function = NTXent(temperature=temperature, normalize=normalize)
    else:
        name, key = "G_INFO_NCE", "info-nce"
        function = InfoNCE(temperature=temperature, symmetric=symmetric, normalize=normalize)
    weight = config.loss_weight(key, default=1.0)
    return {name: LMLoss(name=name, function=function, loss_weight=weight, tags=["G"], inputs=("queries", "keys"))}
