"""What the losses of waveforms cost, forward and backward, beside auraloss and the code of HiFi-GAN."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from interleaved import medians
from nectargan_audio import LogMel, MultiResolutionSTFT, mel_filter_bank
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]

SHAPES = ((1, 1, 8192), (8, 1, 8192), (16, 1, 8192))
ROUNDS = 20


def of_hifigan() -> LossFunction:
    """Make the mel loss as HiFi-GAN's training has it: filters, window and transform, with real and imaginary parts."""
    bank, window = mel_filter_bank(22050, 1024, 80).float(), torch.hann_window(1024)

    def log_mel(waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (384, 384), mode="reflect").squeeze(1)
        transform = torch.stft(padded, 1024, 256, 1024, window, center=False, return_complex=True)
        magnitude = torch.sqrt(torch.view_as_real(transform).pow(2).sum(-1) + 1e-9)
        return torch.log(torch.clamp(torch.matmul(bank, magnitude), min=1e-5))

    return lambda y_fake, y: F.l1_loss(log_mel(y), log_mel(y_fake))


def ours_in_sum() -> LossFunction:
    """Make the multi-resolution STFT loss of this project, with the smallest power that auraloss has."""
    loss = MultiResolutionSTFT(epsilon=1e-8)
    return lambda y_fake, y: torch.stack([*loss(y_fake, y).values()]).sum()


def pairs() -> list[tuple[str, str, LossFunction, LossFunction]]:
    """Return each loss of ours beside another that computes the same; those of auraloss where it is installed."""
    found: list[tuple[str, str, LossFunction, LossFunction]] = [("mel", "HiFi-GAN", of_hifigan(), LogMel())]
    if importlib.util.find_spec("auraloss") is not None:
        from auraloss.freq import MultiResolutionSTFTLoss

        found.append(("stft", "auraloss", MultiResolutionSTFTLoss(), ours_in_sum()))
    return found


def backward(loss: LossFunction, y_fake: Tensor, y: Tensor) -> Callable[[], None]:
    """Make a function of no arguments that goes forward and backward once."""

    def step() -> None:
        y_fake.grad = None
        loss(y_fake, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def main() -> None:
    """Print a table of medians and ratios."""
    print("Losses of waveforms, forward + backward (CPU time of one thread, medians of interleaved runs; aim: 1x)")
    print(f"{'loss':<8}{'beside':<12}{'shape':<14}{'theirs ms':>11}{'ours ms':>10}{'faster':>9}{'difference':>13}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # auraloss has docstrings with escapes that Python warns of
            measured = pairs()
        for name, other, theirs, ours in measured:
            for shape in SHAPES:
                generator = torch.Generator().manual_seed(0)
                y, noise = torch.randn(2, *shape, generator=generator).mul(0.1).unbind()
                y_fake = (y + 0.5 * noise).requires_grad_()
                functions = {"theirs": backward(theirs, y_fake, y), "ours": backward(ours, y_fake, y)}
                slow, fast = medians(functions, calls=1, rounds=ROUNDS).values()
                with torch.no_grad():
                    expected = theirs(y_fake, y)
                    difference = abs(ours(y_fake, y) - expected).item() / expected.item()
                size = "x".join(map(str, shape))
                print(f"{name:<8}{other:<12}{size:<14}{slow * 1e3:>11.2f}{fast * 1e3:>10.2f}", end="")
                print(f"{slow / fast:>8.2f}x{difference:>13.1e}")
    finally:
        torch.set_num_threads(threads)
    if len(measured) < 2:
        print("auraloss is not installed: pip install --no-deps auraloss for the multi-resolution STFT loss beside it")
    else:
        print("auraloss takes the norm over the whole batch, this loss over each waveform: they differ from 2 on")


if __name__ == "__main__":
    main()
