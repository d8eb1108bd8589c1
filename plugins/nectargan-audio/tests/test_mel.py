"""The distance of log mel spectrograms, its filters and its spec: values, scales, dtypes, and errors."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from nectargan_audio import LogMel, mel, mel_filter_bank

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, LossTests

SETTINGS = [
    (22050, 1024, 80, 0.0, None),
    (22050, 1024, 80, 0.0, 8000.0),
    (16000, 512, 40, 125.0, 7600.0),
    (44100, 2048, 128, 20.0, 20000.0),
    (48000, 4096, 229, 30.0, None),
    (8000, 255, 20, 0.0, 900.0),
]
SMALL = {"sample_rate": 8000, "n_fft": 128, "hop_length": 32, "n_mels": 10}


def waveforms(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return [(0.7 * y + 0.3 * noise).to(dtype), y.to(dtype)]


def to_mel(hertz, scale):
    if scale == "htk":
        return 1127.0104800 * np.log1p(np.asarray(hertz) / 700)  # 2595 / ln 10
    hertz = np.asarray(hertz, dtype=np.float64)
    return np.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * np.log(np.maximum(hertz, 1e-3) / 1000) / np.log(6.4))


def triangles(sample_rate, n_fft, n_mels, f_min, f_max, scale, norm):
    """Interpolate a triangle for each filter, between frequencies that are found by inverting the scale on a grid."""
    high = sample_rate / 2 if f_max is None else f_max
    grid = np.linspace(0, sample_rate / 2, 2_000_001)
    edges = np.interp(np.linspace(to_mel(f_min, scale), to_mel(high, scale), n_mels + 2), to_mel(grid, scale), grid)
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    bank = [np.interp(frequencies, edges[band : band + 3], [0, 1, 0], left=0, right=0) for band in range(n_mels)]
    return np.array(bank) * (2 / (edges[2:] - edges[:-2]))[:, None] if norm else np.array(bank)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_filters_are_triangles_between_evenly_spaced_mels(setting, scale, norm):
    *arguments, f_min, f_max = setting
    bank = mel_filter_bank(*arguments, f_min=f_min, f_max=f_max, mel_scale=scale, norm=norm)
    assert bank.dtype == torch.float64
    np.testing.assert_allclose(bank.numpy(), triangles(*setting, scale, norm), rtol=0, atol=1e-6)


def test_filters_are_those_of_librosa():
    filters = pytest.importorskip("librosa.filters")
    for rate, n_fft, n_mels, f_min, f_max in SETTINGS:
        for scale, norm in itertools.product(("slaney", "htk"), ("slaney", None)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of empty filters
                options = {"htk": scale == "htk", "norm": norm, "dtype": np.float64}
                expected = filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, **options)
            bank = mel_filter_bank(rate, n_fft, n_mels, f_min=f_min, f_max=f_max, mel_scale=scale, norm=norm)
            np.testing.assert_allclose(bank.numpy(), expected, rtol=0, atol=1e-6)


def spectrogram(waveform, n_fft, hop, window_length, bank, floor=1e-5):
    """Compute the log mel spectrogram of one waveform as HiFi-GAN's code does, frame by frame, in NumPy."""
    padded = np.pad(waveform, int((n_fft - hop) / 2), mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    before = (n_fft - window_length) // 2
    window = np.pad(hann, (before, n_fft - window_length - before))
    frames = [padded[start : start + n_fft] * window for start in range(0, len(padded) - n_fft + 1, hop)]
    magnitude = np.sqrt(np.abs(np.fft.rfft(frames)) ** 2 + 1e-9)
    return np.log(np.maximum(magnitude @ bank.T, floor))


def by_hifigan(y_fake, y, rate=22050, n_fft=1024, hop=256, window=1024, n_mels=80, floor=1e-5):
    bank = triangles(rate, n_fft, n_mels, 0.0, None, "slaney", "slaney")
    pairs = zip(y_fake.double().numpy(), y.double().numpy(), strict=True)
    return np.mean(
        [
            np.abs(np.subtract(*(spectrogram(each, n_fft, hop, window, bank, floor) for each in pair))).mean()
            for pair in pairs
        ]
    )


@pytest.mark.parametrize("shape", [(1, 8192), (3, 3000), (2, 385)])
def test_by_default_it_is_the_loss_of_hifi_gan(shape):
    y_fake, y = waveforms(*shape)
    loss = LogMel()(y_fake, y)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hifigan(y_fake, y), rel=1e-5)


def test_other_settings_are_taken():
    y_fake, y = waveforms(2, 400)
    loss = LogMel(sample_rate=16000, n_fft=200, hop_length=51, win_length=160, n_mels=12, floor=0.3)
    expected = by_hifigan(y_fake, y, rate=16000, n_fft=200, hop=51, window=160, n_mels=12, floor=0.3)
    assert loss(y_fake, y).item() == pytest.approx(expected, rel=1e-5)


def test_scale_norm_and_frequencies_reach_the_filters():
    loss = LogMel(f_min=50.0, f_max=8000.0, mel_scale="htk", norm=None)
    expected = mel_filter_bank(22050, 1024, 80, f_min=50.0, f_max=8000.0, mel_scale="htk", norm=None)
    torch.testing.assert_close(loss.get_buffer("_bank0"), expected.float())


def test_resolutions_are_averaged():
    y_fake, y = waveforms(2, 2000)
    loss = LogMel(n_fft=(512, 2048), n_mels=(20, 40))(y_fake, y)
    expected = [
        by_hifigan(y_fake, y, n_fft=512, hop=128, window=512, n_mels=20),
        by_hifigan(y_fake, y, n_fft=2048, hop=512, window=2048, n_mels=40),
    ]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_channel_counts_as_a_waveform():
    y_fake, y = waveforms(2, 3, 400)
    torch.testing.assert_close(LogMel(**SMALL)(y_fake, y), LogMel(**SMALL)(y_fake.flatten(0, 1), y.flatten(0, 1)))


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_equal_waveforms_cost_nothing_and_have_a_gradient_of_zero(level):
    y = level * waveforms(1, 400)[1]
    y_fake = y.clone().requires_grad_()
    loss = LogMel(**SMALL)(y_fake, y)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


def test_gradients_of_both_waveforms_are_right():
    loss = LogMel(sample_rate=8000, n_fft=16, hop_length=4, n_mels=3)
    pair = [each.requires_grad_() for each in waveforms(2, 40, dtype=torch.float64)]
    torch.autograd.gradcheck(loss, pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    y_fake, y = waveforms(2, 400, dtype=dtype)
    loss = LogMel(**SMALL)(y_fake, y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, LogMel(**SMALL)(y_fake.float(), y.float()))


def test_a_loss_that_is_moved_to_half_precision_still_computes_in_float32():
    y_fake, y = waveforms(2, 400)
    loss = LogMel(**SMALL).half()(y_fake, y)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(LogMel(**SMALL)(y_fake, y).item(), rel=1e-3)


def test_autocast_does_not_lower_the_precision():
    y_fake, y = waveforms(2, 400)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LogMel(**SMALL)(y_fake, y)
    assert torch.equal(loss, LogMel(**SMALL)(y_fake, y))


def test_filters_are_no_part_of_the_state_dict():
    loss = LogMel(n_fft=(512, 1024), n_mels=(20, 40))
    assert not loss.state_dict()
    assert [tuple(each.shape) for each in loss.buffers()] == [(20, 257), (40, 513)]


def test_bands_that_are_always_empty_are_warned_of():
    with pytest.warns(UserWarning, match="of 80 bands of the transform of 256 samples lie between its frequencies"):
        LogMel(n_fft=256)


@pytest.mark.parametrize(
    ("settings", "shortest"), [({}, 385), ({"n_fft": (512, 2048), "n_mels": 20}, 769), (SMALL, 49)]
)
def test_waveforms_that_are_too_short_are_refused(settings, shortest):
    loss = LogMel(**settings)
    assert loss(torch.zeros(1, shortest), torch.zeros(1, shortest)).item() == 0.0
    with pytest.raises(ValueError, match=f"of {shortest} samples at least.* have {shortest - 1}: give longer"):
        loss(torch.zeros(1, shortest - 1), torch.zeros(1, shortest - 1))


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"y_fake is \(1, 8192\) and y is \(1, 8191\): cut them to one length"):
        LogMel()(torch.zeros(1, 8192), torch.zeros(1, 8191))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"sample_rate": 0}, ValueError, "sample_rate is a finite number above 0; got 0"),
        ({"sample_rate": "22050"}, TypeError, "got '22050'"),
        ({"n_mels": 0}, ValueError, "n_mels is a whole number above 0"),
        ({"n_mels": (40, 80)}, ValueError, "n_fft has 1, and n_mels has 2"),
        ({"hop_length": 2048}, ValueError, "got hop_length 2048, win_length 1024, n_fft 1024"),
        ({"f_min": -1.0}, ValueError, "f_min is a finite number, 0 or greater; got -1.0"),
        ({"f_max": 16000.0}, ValueError, "at most, 11025 Hz; got f_min 0 and f_max 16000"),
        ({"f_min": 8000.0, "f_max": 4000.0}, ValueError, "f_min is below f_max.* got f_min 8000 and f_max 4000"),
        ({"mel_scale": "bark"}, ValueError, 'mel_scale is "slaney" or "htk", got \'bark\''),
        ({"norm": "l1"}, ValueError, "norm is \"slaney\" or None, got 'l1'"),
        ({"floor": 0.0}, ValueError, "floor is a finite number above 0; got 0.0"),
        ({"floor": math.inf}, ValueError, "got inf"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        LogMel(**arguments)


def test_repr_shows_the_arguments():
    assert repr(LogMel()) == (
        "LogMel(sample_rate=22050, n_fft=(1024,), hop_length=(256,), win_length=(1024,), n_mels=(80,), f_min=0, "
        "f_max=None, mel_scale='slaney', norm='slaney', floor=1e-05)"
    )


class TestMel(LossSpecTests):
    name = "mel"
    gradcheck = True


class TestSeveralResolutions(LossTests):
    function = LogMel(sample_rate=8000, n_fft=(128, 256), n_mels=(8, 16))
    gradcheck = True

    def make_inputs(self, batch_size):
        return dict(zip(("y_fake", "y"), waveforms(batch_size, 600), strict=True))


def test_the_spec_gives_one_loss_of_weight_1():
    (loss,) = mel(Config()).values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_MEL", ["G"], ("y_fake", "y"), 1.0)


def test_options_reach_the_loss():
    manager = LossManager.from_spec("45*mel", options={"mel": {"sample_rate": 16000, "n_fft": 512, "n_mels": 40}})
    y_fake, y = waveforms(2, 1000)
    total = manager.compute_losses({"y_fake": y_fake, "y": y}, query="G").total.item()
    expected = by_hifigan(y_fake, y, rate=16000, n_fft=512, hop=128, window=512, n_mels=40)
    assert total == pytest.approx(45 * expected, rel=1e-5)


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="at most, 4000 Hz"):
        LossManager.from_spec("mel", options={"mel": {"sample_rate": 8000, "f_max": 8000.0}})
