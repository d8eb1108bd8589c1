"""The multi-resolution STFT loss and its spec: values, components, dtypes, lengths, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_audio import MultiResolutionSTFT, stft

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, LossTests

PUBLISHED = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
SMALL = {"n_fft": (64, 128), "hop_length": (16, 30), "win_length": (50, 128)}


def waveforms(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return [(0.7 * y + 0.3 * noise).to(dtype), y.to(dtype)]


def magnitude(waveform, n_fft, hop, window_length, epsilon):
    """Compute the magnitudes of one waveform frame by frame, in NumPy."""
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    before = (n_fft - window_length) // 2
    window = np.pad(hann, (before, n_fft - window_length - before))
    frames = [padded[start : start + n_fft] * window for start in range(0, len(padded) - n_fft + 1, hop)]
    return np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, epsilon))


def by_equations(y_fake, y, resolutions=PUBLISHED, epsilon=1e-7):
    convergence, log_magnitude = [], []
    for resolution in resolutions:
        for one_fake, one in zip(y_fake.double().numpy(), y.double().numpy(), strict=True):
            fake, real = magnitude(one_fake, *resolution, epsilon), magnitude(one, *resolution, epsilon)
            convergence.append(np.sqrt(((real - fake) ** 2).sum()) / np.sqrt((real**2).sum()))
            log_magnitude.append(np.abs(np.log(real) - np.log(fake)).mean())
    return np.mean(convergence), np.mean(log_magnitude)


@pytest.mark.parametrize("shape", [(1, 8192), (3, 2500), (2, 1025)])
def test_components_are_the_equations_of_the_paper(shape):
    components = MultiResolutionSTFT()(*waveforms(*shape))
    assert list(components) == ["spectral_convergence", "log_magnitude"]
    found = [term.item() for term in components.values()]
    assert found == pytest.approx(by_equations(*waveforms(*shape)), rel=1e-5)


def test_other_resolutions_and_epsilons_are_taken():
    y_fake, y = waveforms(2, 300)
    found = [term.item() for term in MultiResolutionSTFT(**SMALL, epsilon=0.5)(y_fake, y).values()]
    expected = by_equations(y_fake, y, ((64, 16, 50), (128, 30, 128)), 0.5)
    assert found == pytest.approx(expected, rel=1e-5)


def test_lengths_that_are_left_out_follow_from_n_fft():
    y_fake, y = waveforms(2, 300)
    one = MultiResolutionSTFT(n_fft=128, hop_length=None, win_length=None)(y_fake, y)
    assert [term.item() for term in one.values()] == pytest.approx(by_equations(y_fake, y, ((128, 32, 128),)), rel=1e-5)


def test_a_channel_counts_as_a_waveform():
    y_fake, y = waveforms(2, 3, 300)
    loss = MultiResolutionSTFT(**SMALL)
    channels, rows = loss(y_fake, y), loss(y_fake.flatten(0, 1), y.flatten(0, 1))
    torch.testing.assert_close(channels, rows)


def test_each_waveform_counts_alike_however_loud():
    y_fake, y = waveforms(2, 300)
    loss = MultiResolutionSTFT(**SMALL, epsilon=1e-12)
    expected = loss(y_fake, y)["spectral_convergence"]
    loudness = torch.tensor([[1.0], [0.01]])
    torch.testing.assert_close(loss(loudness * y_fake, loudness * y)["spectral_convergence"], expected)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_equal_waveforms_cost_nothing_and_have_a_gradient_of_zero(level):
    y = level * waveforms(1, 300)[1]
    y_fake = y.clone().requires_grad_()
    total = sum(MultiResolutionSTFT(**SMALL)(y_fake, y).values())
    total.backward()
    assert total.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


def test_a_silent_target_gives_finite_values_and_gradients():
    y_fake = waveforms(1, 300)[0].requires_grad_()
    total = sum(MultiResolutionSTFT(**SMALL)(y_fake, torch.zeros(1, 300)).values())
    total.backward()
    assert total.isfinite()
    assert y_fake.grad.isfinite().all()
    assert y_fake.grad.count_nonzero()


@pytest.mark.parametrize("component", ["spectral_convergence", "log_magnitude"])
def test_gradients_of_both_waveforms_are_right(component):
    loss = MultiResolutionSTFT(n_fft=16, hop_length=4, win_length=12)
    pair = [each.requires_grad_() for each in waveforms(2, 40, dtype=torch.float64)]
    torch.autograd.gradcheck(lambda y_fake, y: loss(y_fake, y)[component], pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    y_fake, y = waveforms(2, 300, dtype=dtype)
    loss = MultiResolutionSTFT(**SMALL)
    found, expected = loss(y_fake, y), loss(y_fake.float(), y.float())
    assert {term.dtype for term in found.values()} == {torch.float32}
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_autocast_does_not_lower_the_precision():
    y_fake, y = waveforms(2, 300)
    loss = MultiResolutionSTFT(**SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(y_fake, y)
    torch.testing.assert_close(found, loss(y_fake, y), rtol=0, atol=0)


def test_waveforms_may_lie_in_memory_in_any_way():
    y_fake, y = waveforms(300, 2)
    loss = MultiResolutionSTFT(**SMALL)
    torch.testing.assert_close(loss(y_fake.T, y.T), loss(y_fake.T.contiguous(), y.T.contiguous()))


@pytest.mark.parametrize(
    ("fake_shape", "shape"),
    [((2, 8192), (2, 8191)), ((8192,), (8192,)), ((2, 1, 8192), (2, 8192)), ((1, 1, 1, 9), (1, 1, 1, 9))],
)
def test_shapes_that_do_not_fit_are_refused_and_named(fake_shape, shape):
    with pytest.raises(ValueError, match=r"of one shape \(N, T\) or \(N, C, T\)") as caught:
        MultiResolutionSTFT()(torch.zeros(fake_shape), torch.zeros(shape))
    assert f"y_fake is {fake_shape} and y is {shape}" in str(caught.value)


def test_waveforms_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="waveforms of 1025 samples at least.* have 1024: give longer"):
        MultiResolutionSTFT()(torch.zeros(1, 1024), torch.zeros(1, 1024))


def test_a_batch_without_waveforms_is_refused():
    with pytest.raises(ValueError, match=r"one waveform at least; y_fake and y are \(0, 1, 2048\): skip this batch"):
        MultiResolutionSTFT()(torch.zeros(0, 1, 2048), torch.zeros(0, 1, 2048))


def test_waveforms_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"y is torch.int16: convert them, int16 with .float\(\) / 32768"):
        MultiResolutionSTFT()(torch.zeros(1, 2048), torch.zeros(1, 2048, dtype=torch.int16))


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="y to be a tensor; it is a ndarray"):
        MultiResolutionSTFT()(torch.zeros(1, 2048), np.zeros((1, 2048)))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"n_fft": (512, 1024)}, ValueError, r"n_fft has 2, and hop_length has 3: \(120, 240, 50\)"),
        ({"n_fft": ()}, ValueError, r"with one for each resolution; got \(\)"),
        ({"n_fft": 0}, ValueError, "n_fft is a whole number above 0"),
        ({"n_fft": "512"}, TypeError, "got '512'"),
        ({"n_fft": 512.0}, TypeError, "got 512.0"),
        ({"n_fft": (True, 512, 512)}, TypeError, r"got \(True, 512, 512\)"),
        ({"n_fft": 1, "hop_length": 1, "win_length": 1}, ValueError, "n_fft is 2 at least"),
        ({"win_length": (600, 1200, 2400)}, ValueError, "got hop_length 50, win_length 2400, n_fft 512"),
        ({"hop_length": (601, 240, 50)}, ValueError, "got hop_length 601, win_length 600, n_fft 1024"),
        ({"epsilon": 0.0}, ValueError, "epsilon is a finite number above 0; got 0.0"),
        ({"epsilon": math.nan}, ValueError, "got nan"),
        ({"epsilon": "1e-7"}, TypeError, "got '1e-7'"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        MultiResolutionSTFT(**arguments)


def test_it_has_no_state_and_shows_its_arguments():
    loss = MultiResolutionSTFT()
    assert not [*loss.parameters(), *loss.buffers(), *loss.state_dict()]
    assert repr(loss) == (
        "MultiResolutionSTFT(n_fft=(1024, 2048, 512), hop_length=(120, 240, 50), win_length=(600, 1200, 240), "
        "epsilon=1e-07)"
    )


class TestSTFT(LossSpecTests):
    name = "stft"
    gradcheck = True


class TestOneResolution(LossTests):
    function = MultiResolutionSTFT(n_fft=256, hop_length=None, win_length=None)
    gradcheck = True

    def make_inputs(self, batch_size):
        return dict(zip(("y_fake", "y"), waveforms(batch_size, 1000), strict=True))


def test_the_spec_gives_one_loss_of_weight_1():
    (loss,) = stft(Config()).values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_STFT", ["G"], ("y_fake", "y"), 1.0)


def test_a_manager_records_both_components():
    manager = LossManager.from_spec("2*stft", enable_logging=True)
    y_fake, y = waveforms(2, 2500)
    total = manager.compute_losses({"y_fake": y_fake, "y": y}, query="G").total.item()
    convergence, log_magnitude = by_equations(y_fake, y)
    assert total == pytest.approx(2 * (convergence + log_magnitude), rel=1e-5)
    assert manager.series("G_STFT.log_magnitude").unweighted.tolist() == [pytest.approx(log_magnitude, rel=1e-5)]


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="hop_length 50, win_length 30, n_fft 512"):
        LossManager.from_spec("stft", options={"stft": {"win_length": (600, 1200, 30)}})
