"""Three steps of training against plain PyTorch that follows the authors' code: equal totals and gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nectargan_core import LossManager


class Period(nn.Module):
    """A sub-discriminator of the multi-period discriminator, with two layers: its judgement, and all feature maps."""

    def __init__(self, period):
        super().__init__()
        self.period = period
        self.first, self.last = nn.Conv2d(1, 4, (5, 1), (3, 1), (2, 0)), nn.Conv2d(4, 1, (3, 1), 1, (1, 0))

    def forward(self, waveform):
        more = -waveform.shape[-1] % self.period
        waveform = functional.pad(waveform, (0, more), "reflect")
        maps = [functional.leaky_relu(self.first(waveform.unflatten(2, (-1, self.period))), 0.1)]
        maps.append(self.last(maps[-1]))
        return maps[-1].flatten(1), maps


class Scale(nn.Module):
    """A sub-discriminator of the multi-scale discriminator, for waveforms that are pooled so many times."""

    def __init__(self, pooled):
        super().__init__()
        self.pooled = pooled
        self.first, self.last = nn.Conv1d(1, 4, 15, 4, 7), nn.Conv1d(4, 1, 3, 1, 1)

    def forward(self, waveform):
        for _ in range(self.pooled):
            waveform = functional.avg_pool1d(waveform, 4, 2, 2)
        maps = [functional.leaky_relu(self.first(waveform), 0.1)]
        maps.append(self.last(maps[-1]))
        return maps[-1].flatten(1), maps


def networks():
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.ConvTranspose1d(8, 4, 16, 8, 4), nn.LeakyReLU(0.1), nn.Conv1d(4, 1, 7, 1, 3), nn.Tanh()
    )
    critics = nn.ModuleList([Period(2), Period(3), Scale(0), Scale(1)])
    return generator, critics, *(torch.optim.SGD(network.parameters(), lr=1e-3) for network in (generator, critics))


def gradients(total, network):
    return torch.autograd.grad(total, list(network.parameters()), retain_graph=True)


def assert_same(total, expected, network):
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients(total, network), gradients(expected, network), rtol=1e-4, atol=1e-5)


def train(optimizer, total):
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def slaney_filters(rate, n_fft, bands, low, high):
    """librosa.filters.mel, written out: triangles on Slaney's scale, each divided by half of its width."""
    knee, step = 1000.0, math.log(6.4) / 27.0

    def mel(hertz):
        return hertz * 3 / 200 if hertz < knee else 15 + math.log(hertz / knee) / step

    def hertz(value):
        return value * 200 / 3 if value < 15 else knee * math.exp((value - 15) * step)

    edges = [hertz(value) for value in np.linspace(mel(low), mel(high), bands + 2)]
    frequencies = np.linspace(0, rate / 2, n_fft // 2 + 1)
    filters = np.zeros((bands, len(frequencies)))
    for band, (begin, middle, end) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        triangle = np.minimum((frequencies - begin) / (middle - begin), (end - frequencies) / (end - middle))
        filters[band] = np.maximum(0, triangle) * 2 / (end - begin)
    return torch.tensor(filters, dtype=torch.float32)


def mel_spectrogram(waveform, rate=22050, n_fft=1024, hop=256, window=1024, bands=80, low=0.0, high=None):
    padding = int((n_fft - hop) / 2)
    padded = functional.pad(waveform, (padding, padding), mode="reflect").squeeze(1)
    spectrum = torch.stft(
        padded, n_fft, hop, window, torch.hann_window(window), center=False, onesided=True, return_complex=True
    )
    magnitude = (torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9).sqrt()
    return (slaney_filters(rate, n_fft, bands, low, high or rate / 2) @ magnitude).clamp(min=1e-5).log()


def discriminator_loss(real, generated):
    return sum(((1 - one) ** 2).mean() + (two**2).mean() for one, two in zip(real, generated, strict=True))


def generator_loss(generated):
    return sum(((1 - each) ** 2).mean() for each in generated)


def feature_loss(real, generated):
    pairs = [pair for maps in zip(real, generated, strict=True) for pair in zip(*maps, strict=True)]
    return 2 * sum((one - two).abs().mean() for one, two in pairs)


SETTINGS = [
    ({}, {}),
    (
        {"sample_rate": 16000, "n_fft": 512, "hop_length": 128, "win_length": 400, "n_mels": 40, "f_max": 7000.0},
        {"rate": 16000, "n_fft": 512, "hop": 128, "window": 400, "bands": 40, "high": 7000.0},
    ),
]


@pytest.mark.parametrize(("options", "settings"), SETTINGS, ids=["config_v1", "other numbers"])
def test_hifigan_is_that_of_the_authors(options, settings):
    manager = LossManager.from_spec("hifigan", options={"hifigan": options})
    generator, critics, optimizer_g, optimizer_d = networks()
    for step in range(3):
        random = torch.Generator().manual_seed(step)
        x, y = torch.randn(2, 8, 512, generator=random), torch.rand(2, 1, 4096, generator=random) * 2 - 1
        manager.tick()
        output = generator(x)

        # The discriminators come first.
        real, fake = [critic(y) for critic in critics], [critic(output.detach()) for critic in critics]
        judged = [[judgement for judgement, _ in said] for said in (real, fake)]
        losses = manager.compute_losses({"pred_real": judged[0], "pred_fake": judged[1]}, query="D")
        expected = discriminator_loss(judged[0][:2], judged[1][:2]) + discriminator_loss(judged[0][2:], judged[1][2:])
        assert_same(losses.total, expected, critics)
        train(optimizer_d, expected)

        real, fake = [critic(y) for critic in critics], [critic(output) for critic in critics]
        inputs = {
            "y": y,
            "y_fake": output,
            "pred_fake": [judgement for judgement, _ in fake],
            "features_fake": [maps for _, maps in fake],
            "features_real": [maps for _, maps in real],
        }
        losses = manager.compute_losses(inputs, query="G")
        expected = 45 * functional.l1_loss(mel_spectrogram(y, **settings), mel_spectrogram(output, **settings))
        for part in (slice(0, 2), slice(2, 4)):
            expected = expected + generator_loss([judgement for judgement, _ in fake[part]])
            expected = expected + feature_loss([maps for _, maps in real[part]], [maps for _, maps in fake[part]])
        assert_same(losses.total, expected, generator)
        train(optimizer_g, expected)
