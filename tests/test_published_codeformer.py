"""CodeFormer's objectives, as `docs/published-objectives.md` writes them: totals and gradients are the authors'.

The other side of each comparison follows sczhou/CodeFormer, commit b33cc7d: `basicsr/models/vqgan_model.py`,
`codeformer_idx_model.py` and `codeformer_joint_model.py` for the three stages, `basicsr/losses/losses.py` and
`basicsr/archs/vqgan_arch.py`, with the weights of the files in `options/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import published
import pytest
import torch
from nectargan_lpips.backbones import VGG16
from nectargan_vgg.weights import frozen_parameters, weight_source
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

BETA = 0.25  # vqgan_arch.py, line 329


class Codebook(nn.Module):
    """`VectorQuantizer`: the nearest vectors, their numbers, and the loss, in which beta weighs the codebook."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = z_e.permute(0, 2, 3, 1).reshape(-1, 4)
        codes = torch.cdist(flat, self.embedding.weight).argmin(1).reshape(len(z_e), -1)
        z_q = self.vectors(codes, z_e)
        return z_q, (z_q.detach() - z_e).pow(2).mean() + BETA * (z_q - z_e.detach()).pow(2).mean(), codes

    def vectors(self, codes: Tensor, like: Tensor) -> Tensor:
        n, c, h, w = like.shape
        return self.embedding(codes).reshape(n, h, w, c).permute(0, 3, 1, 2)


class Autoencoder(nn.Module):
    """`VQAutoEncoder`; and with a transformer and a fusion layer `CodeFormer`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 4, stride=4)
        self.quantize = Codebook()
        self.up, self.last = nn.ConvTranspose2d(4, 4, 4, stride=4), nn.Conv2d(4, 3, 3, padding=1)
        self.transformer = nn.Linear(4, 6)
        self.fusion = nn.Conv2d(7, 3, 3, padding=1)

    def decode(self, z_q: Tensor) -> Tensor:
        return self.last(self.up(z_q).tanh())

    def logits(self, lq_feat: Tensor) -> Tensor:
        return self.transformer(lq_feat.flatten(2).transpose(1, 2))

    def restore(self, lq: Tensor, w: float) -> tuple[Tensor, Tensor, Tensor]:
        lq_feat = self.encoder(lq)
        logits = self.logits(lq_feat)
        decoded = self.decode(self.quantize.vectors(logits.argmax(2), lq_feat).detach())
        fused = self.fusion(torch.cat([functional.interpolate(lq_feat, scale_factor=4), decoded], 1))
        return decoded + w * fused, logits, lq_feat


def networks() -> tuple[Autoencoder, nn.Module, Autoencoder]:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 6, 4, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3))
    # With gradients larger than those of the reconstruction, so that the adaptive weight is below its end.
    nn.init.normal_(critic[-1].weight, std=20.0)
    return Autoencoder(), critic, Autoencoder().requires_grad_(False)


def batches(iterations: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
    for iteration in iterations:
        generator = torch.Generator().manual_seed(iteration)
        lq, gt = (torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1 for _ in range(2))
        yield iteration, lq, gt


def normalized(image: Tensor) -> Tensor:
    """From the range of -1 to 1 to the mean and standard deviation of ImageNet."""
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((image + 1) / 2 - mean) / std


# The authors' losses


def lpips(pred: Tensor, target: Tensor) -> Tensor:
    """`LPIPSLoss` with `range_norm` and `use_input_norm`, on the network `vgg` of the package `lpips`, equal heads."""
    shift, scale = (torch.tensor(each).reshape(3, 1, 1) for each in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    weights = frozen_parameters(
        weight_source(VGG16.checkpoint, "random"), dict(VGG16.checkpoint.parameters), torch.device("cpu"), torch.float32
    )
    fake, real = (
        published.vgg((normalized(image) - shift) / scale, weights, published.VGG16) for image in (pred, target)
    )
    total = torch.zeros(())
    for name in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"):
        one, two = (each[name] / (each[name].pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for each in (fake, real))
        total = total + (one - two).pow(2).sum(1).mean()
    return total


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """`calculate_adaptive_weight` with `disc_weight_max=1.0`."""
    of_reconstruction, of_adversarial = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction, adversarial)
    )
    return torch.clamp(of_reconstruction.norm() / (of_adversarial.norm() + 1e-4), 0.0, 1.0).detach()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def loss_of_the_vqgan(iteration, network, critic, gt):
    """`vqgan_model.py`, lines 129 to 164."""
    z_q, codebook, _ = network.quantize(z_e := network.encoder(gt))
    output = network.decode(z_e + (z_q - z_e).detach())
    total = functional.l1_loss(output, gt) + lpips(output, gt)
    if iteration > 30_001:
        adversarial = -critic(output).mean()
        total = total + adaptive_weight(total, adversarial, network.last.weight) * 0.8 * adversarial
    return total + codebook


def loss_of_the_codes(network, logits, lq_feat, codes):
    """`codeformer_idx_model.py`, lines 106 to 116."""
    quant_feat = network.quantize.vectors(codes, lq_feat)
    return (quant_feat.detach() - lq_feat).pow(2).mean() + functional.cross_entropy(
        logits.permute(0, 2, 1), codes
    ) * 0.5


def loss_of_the_fusion(iteration, network, critic, codes, lq, gt):
    """`codeformer_joint_model.py`, lines 179 to 223, for images with small degradation."""
    output, logits, lq_feat = network.restore(lq, w=1)
    total = loss_of_the_codes(network, logits, lq_feat, codes)
    reconstruction = functional.l1_loss(output, gt) + lpips(output, gt)
    total = total + reconstruction
    if iteration > 5_001:
        adversarial = -critic(output).mean()
        weight = adaptive_weight(reconstruction, adversarial, network.fusion.weight) * 0.1
        total = total + weight * adversarial
    return total


# The objectives of the page


def images_of(output: Tensor, gt: Tensor) -> dict[str, Tensor]:
    return {
        "y_fake": output,
        "y": gt,
        "y_fake_normalized": normalized(normalized(output)),
        "y_normalized": normalized(normalized(gt)),
    }


def test_the_vqgan_has_the_authors_total_and_gradients_on_both_sides_of_the_start_of_its_discriminator():
    manager = published.of_the_page("codeformer_1")
    network, critic, _ = networks()
    for iteration, _, gt in batches((1, 30_000, 30_001, 30_002, 30_003, 30_004)):
        manager.tick(step=iteration)
        z_e = network.encoder(gt)
        z_q = network.quantize(z_e)[0]
        output = network.decode(z_e + (z_q - z_e).detach())
        inputs = {**images_of(output, gt), "z_e": z_e, "z_q": z_q, "pred_fake": lambda fake=output: critic(fake)}
        losses = manager.compute_losses({**inputs, "last_layer": network.last.weight}, query="G")
        published.assert_same(losses.total, loss_of_the_vqgan(iteration, network, critic, gt), network)
        applied = manager.get_loss_weights("G_GAN", None)["G_GAN"]
        assert 0.0 < applied < 0.8 if iteration > 30_001 else applied == 0.0

        judged = {"pred_real": critic(gt), "pred_fake": critic(output.detach())}
        losses = manager.compute_losses(judged, query="D")
        assert bool(losses.ran) == (iteration > 30_001)
        if losses.ran:
            published.assert_same(losses.total, hinge(critic(gt), critic(output.detach())), critic)


def test_the_adaptive_weight_ends_at_1():
    manager = published.of_the_page("codeformer_1")
    network, critic, _ = networks()
    nn.init.constant_(critic[-1].weight, 1e-6)  # a gradient that is much smaller than that of the reconstruction
    ((iteration, _, gt),) = batches((30_002,))
    manager.tick(step=iteration)
    z_e = network.encoder(gt)
    output = network.decode(z_e + (network.quantize(z_e)[0] - z_e).detach())
    inputs = {**images_of(output, gt), "z_e": z_e, "z_q": network.quantize(z_e)[0], "pred_fake": critic(output)}
    losses = manager.compute_losses({**inputs, "last_layer": network.last.weight}, query="G")
    assert manager.get_loss_weights("G_GAN") == {"G_GAN": 0.8}
    published.assert_same(losses.total, loss_of_the_vqgan(iteration, network, critic, gt), network)


def test_the_transformer_has_the_authors_total_and_gradients():
    manager = published.of_the_page("codeformer_2")
    network, _, vqgan = networks()
    for iteration, lq, gt in batches((1, 2, 3)):
        manager.tick(step=iteration)
        lq_feat = network.encoder(lq)
        logits = network.logits(lq_feat)
        codes = vqgan.quantize(vqgan.encoder(gt))[2]
        inputs = {
            "lq_feat": lq_feat,
            "quant_feat": network.quantize.vectors(codes, lq_feat).detach(),
            "logits": logits.permute(0, 2, 1),
            "codes": codes,
        }
        losses = manager.compute_losses(inputs)
        published.assert_same(losses.total, loss_of_the_codes(network, logits, lq_feat, codes), network)


@pytest.mark.parametrize("iterations", [(1, 5_000, 5_001), (5_002, 5_003, 5_004)], ids=str)
def test_the_fusion_has_the_authors_total_and_gradients(iterations):
    manager = published.of_the_page("codeformer_3")
    network, critic, vqgan = networks()
    for iteration, lq, gt in batches(iterations):
        manager.tick(step=iteration)
        codes = vqgan.quantize(vqgan.encoder(gt))[2]
        output, logits, lq_feat = network.restore(lq, w=1)
        inputs = {
            **images_of(output, gt),
            "lq_feat": lq_feat,
            "quant_feat": network.quantize.vectors(codes, lq_feat).detach(),
            "logits": logits.permute(0, 2, 1),
            "codes": codes,
            "pred_fake": lambda fake=output: critic(fake),
            "last_layer": network.fusion.weight,
        }
        losses = manager.compute_losses(inputs, query="G")
        published.assert_same(losses.total, loss_of_the_fusion(iteration, network, critic, codes, lq, gt), network)
        applied = manager.get_loss_weights("G_GAN", None)["G_GAN"]
        assert 0.0 < applied < 0.1 if iteration > 5_001 else applied == 0.0

        losses = manager.compute_losses({"pred_real": critic(gt), "pred_fake": critic(output.detach())}, query="D")
        assert bool(losses.ran) == (iteration > 5_001)
        if losses.ran:
            published.assert_same(losses.total, hinge(critic(gt), critic(output.detach())), critic)


def test_with_large_degradation_the_fusion_has_the_losses_of_the_codes_only():
    manager = published.of_the_page("codeformer_3")
    network, _, vqgan = networks()
    for iteration, lq, gt in batches((80_001, 119_999, 120_001)):
        manager.tick(step=iteration)
        codes = vqgan.quantize(vqgan.encoder(gt))[2]
        lq_feat = network.encoder(lq)
        logits = network.logits(lq_feat)
        inputs = {
            "lq_feat": lq_feat,
            "quant_feat": network.quantize.vectors(codes, lq_feat).detach(),
            "logits": logits.permute(0, 2, 1),
            "codes": codes,
        }
        losses = manager.compute_losses(inputs, query=["G_L2", "G_CE"])
        published.assert_same(losses.total, loss_of_the_codes(network, logits, lq_feat, codes), network)
