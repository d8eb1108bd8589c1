"""What the losses check of waveforms and of the lengths that they are transformed with, and the transform itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

Lengths: TypeAlias = "int | Sequence[int]"


class Resolution(NamedTuple):
    """The lengths of a short-time Fourier transform, in samples."""

    n_fft: int
    hop_length: int
    win_length: int


def resolutions(
    owner: str, n_fft: Lengths, hop_length: Lengths | None, win_length: Lengths | None
) -> tuple[Resolution, ...]:
    """Return the lengths of each resolution.

    Args:
        owner: The loss, for the error.
        n_fft: The lengths of the transforms.
        hop_length: From one frame to the next; None for a quarter of `n_fft`.
        win_length: The lengths of the windows; None for `n_fft`.

    Raises:
        TypeError: If a length is no int.
        ValueError: If the numbers of lengths differ, or not 1 <= hop_length <= win_length <= n_fft.
    """
    sizes = whole_numbers(owner, "n_fft", n_fft, None)
    hops = whole_numbers(owner, "hop_length", hop_length, len(sizes)) if hop_length is not None else None
    windows = whole_numbers(owner, "win_length", win_length, len(sizes)) if win_length is not None else sizes
    result = []
    for size, hop, window in zip(sizes, hops or [max(size // 4, 1) for size in sizes], windows, strict=True):
        if not hop <= window <= size or size < 2:
            raise ValueError(
                f"{owner}: a resolution has 1 <= hop_length <= win_length <= n_fft, and n_fft is 2 at least; got "
                f"hop_length {hop}, win_length {window}, n_fft {size}"
            )
        result.append(Resolution(size, hop, window))
    return tuple(result)


def whole_numbers(owner: str, name: str, value: Lengths, number: int | None) -> list[int]:
    """Return numbers above 0, one for each resolution; an int stands for all.

    Args:
        owner: The loss, for the error.
        name: The argument.
        value: An int, or a sequence of them.
        number: How many there are to be; None for one at least.

    Raises:
        TypeError: If it is no int, and no sequence of ints.
        ValueError: If a number is below 1, or there are more or less than there are to be.
    """
    expected = f"{owner}: {name} is a whole number above 0, or a sequence with one for each resolution"
    given = [value] * (number or 1) if isinstance(value, int) else value
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{expected}; got {value!r}")
    if any(isinstance(each, bool) or not isinstance(each, int) for each in given):
        raise TypeError(f"{expected}; got {value!r}")
    if not given or any(each < 1 for each in given):
        raise ValueError(f"{expected}; got {value!r}")
    if number is not None and len(given) != number:
        raise ValueError(f"{expected}; n_fft has {number}, and {name} has {len(given)}: {value!r}")
    return list(given)


def positive_number(owner: str, name: str, value: float, *, or_zero: bool = False) -> float:
    """Return a finite number above 0, or 0 where it may be.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of its range.
    """
    expected = f"{owner}: {name} is a finite number, 0 or greater" if or_zero else f"{owner}: {name} is a finite number"
    expected += "" if or_zero else " above 0"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{expected}; got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0.0 <= number < math.inf or not (number or or_zero):
        raise ValueError(f"{expected}; got {value!r}")
    return number


def checked_waveforms(owner: str, shortest: int, y_fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both waveforms as (N, T), channels among the batch, in the dtype to compute in, float32 at least.

    Args:
        owner: The loss, for the error.
        shortest: How many samples they have at least.
        y_fake: The generated waveforms.
        y: The target.

    Raises:
        TypeError: If one is no tensor of a floating-point dtype.
        ValueError: If their shapes differ, or are neither (N, T) nor (N, C, T), N or C is 0, or T is too small.
    """
    for name, tensor in (("y_fake", y_fake), ("y", y)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{owner} expects {name} to be a tensor; it is a {type(tensor).__name__}")
    if y_fake.shape != y.shape or y.dim() not in (2, 3):
        raise ValueError(
            f"{owner} expects two waveforms of one shape (N, T) or (N, C, T); y_fake is {tuple(y_fake.shape)} and y is "
            f"{tuple(y.shape)}: cut them to one length, and add a batch with .unsqueeze(0)"
        )
    if not (y_fake.is_floating_point() and y.is_floating_point()):
        raise TypeError(
            f"{owner} expects floating-point waveforms from -1 to 1; y_fake is {y_fake.dtype} and y is {y.dtype}: "
            "convert them, int16 with .float() / 32768"
        )
    if 0 in y.shape[:-1]:
        raise ValueError(f"{owner} expects one waveform at least; y_fake and y are {tuple(y.shape)}: skip this batch")
    if y.shape[-1] < shortest:
        raise ValueError(
            f"{owner} expects waveforms of {shortest} samples at least, as its longest transform needs; y_fake and y "
            f"have {y.shape[-1]}: give longer segments, or a smaller n_fft"
        )
    precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
    return y_fake.flatten(0, -2).to(precise), y.flatten(0, -2).to(precise)


def spectrum(waveform: Tensor, resolution: Resolution, *, center: bool) -> Tensor:
    """Return the short-time Fourier transform of waveforms (N, T) under a Hann window: (N, n_fft // 2 + 1, frames).

    Args:
        waveform: In float32 or float64.
        resolution: The lengths.
        center: Whether frames have their middle at multiples of the hop length, and the waveform is reflected at its
            ends.
    """
    # Made at each call, where it costs next to nothing: in the dtype and on the device of the waveform.
    window = torch.hann_window(resolution.win_length, dtype=waveform.dtype, device=waveform.device)
    return torch.stft(
        waveform,
        resolution.n_fft,
        resolution.hop_length,
        resolution.win_length,
        window,
        center=center,
        return_complex=True,
    )


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context without autocast on a device."""
    # torch up to 2.8 cannot trace the question, and compiled code runs where there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
