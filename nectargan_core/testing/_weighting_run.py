"""A weighting at work for the checks: in a run of generated losses, asked for factors as a manager asks it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nectargan_core.errors import NectarganError, NectarganWarning
from nectargan_core.testing import _callables as callables
from nectargan_core.testing._generators import seeded
from nectargan_core.testing._outcomes import CheckFailed
from nectargan_core.weightings import BoundWeighting, Weighting

NAMES = ("G_GAN", "G_L1", "G_VGG")
"""The losses that are generated; params that name losses name these."""

_WEIGHTS = {"G_GAN": 1.0, "G_L1": 10.0, "G_VGG": 0.5}
_STEPS_PER_EPOCH = 2
# What rounding may leave of a factor that is 0, relative to the largest.
_ROUNDING = 1e-6


class WeightingSubject(callables.CallableSubject):
    """A class, as the checks look at it."""

    noun = "weighting"


@dataclass(frozen=True)
class Values:
    """What the losses are at a step.

    Args:
        of: The value of each loss that runs; its gradient is as large.
        step: The step of the clock.
        is_apart: Whether no two losses have a gradient with respect to the same entries.
    """

    of: Mapping[str, float]
    step: int
    is_apart: bool = False

    def __str__(self) -> str:
        return f"step {self.step}, where the losses were " + ", ".join(f"{k}: {v:g}" for k, v in self.of.items())


class Run:
    """A weighting in a run of its own, asked for factors as a manager asks it.

    Args:
        subject: The weighting.
        names: The losses that it balances.

    Raises:
        CheckFailed: If it cannot be made, or does not take these losses.
    """

    def __init__(self, subject: WeightingSubject, names: Sequence[str] = NAMES) -> None:
        definition = Weighting(subject.load(), params=dict(subject.params), wrt="y_fake")
        # Parameters may begin at random, as those of any module: each time in the same way, and without a trace.
        with seeded(0):
            try:
                self.bound = BoundWeighting(definition, names, subject.label.partition(" ")[2].strip("'"))
            except NectarganError as error:
                raise CheckFailed(str(error)) from error
        self.object = self.bound.object.made
        self.takes_gradients = False

    def factors(self, values: Values, order: Sequence[str] | None = None) -> dict[str, float]:
        """Return the factors at a step, by loss.

        Raises:
            CheckFailed: If there is not one finite factor of at least 0 for each loss.
        """
        names = list(values.of) if order is None else order
        y_fake, results = _results(values, names)
        y_fake.register_hook(self._saw_gradient)  # type: ignore[no-untyped-call] # of torch
        weights = [_WEIGHTS.get(name, 1.0) for name in names]
        try:
            with warnings.catch_warnings():
                # What it says of gradients that are close to 0 is no fault.
                warnings.simplefilter("ignore", NectarganWarning)
                given = self.bound.balance(names, results, weights, values.step, values.step / _STEPS_PER_EPOCH, y_fake)
        except NectarganError as error:
            where = "" if f"step {values.step}" in str(error) else f" (at {values})"
            raise CheckFailed(f"{error}{where}") from error
        if given is None:
            raise CheckFailed(f"it gave no factors at {values}")
        largest = max(map(abs, given.numbers))
        for name, factor in zip(names, given.numbers, strict=True):
            if factor < -_ROUNDING * largest:
                raise CheckFailed(
                    f"it gave the factor {factor:g} for loss {name!r} at {values}; a factor is at least 0, since a "
                    "negative one trains towards a larger loss"
                )
        if given.extra is not None and not math.isfinite(given.extra.item()):
            raise CheckFailed(
                f"extra(step) gave {given.extra.item()} at {values}; what is added to the total is finite"
            )
        self._learn(given.learned, given.extra, [values.of[name] for name in names], values)
        return dict(zip(names, given.numbers, strict=True))

    def _saw_gradient(self, gradient: Tensor) -> None:
        self.takes_gradients = True

    def _learn(self, learned: Tensor | None, extra: Tensor | None, numbers: list[float], values: Values) -> None:
        parameters = [] if self.bound.parameters is None else list(self.bound.parameters.parameters())
        if not parameters or not all(map(math.isfinite, numbers)):
            return
        parts = [] if learned is None else [(learned * learned.new_tensor(numbers)).sum()]
        parts += [extra] if extra is not None and extra.requires_grad else []
        if not parts:
            raise CheckFailed(
                f"it has parameters, and neither factors(step) nor extra(step) depends on them (at {values}), so that "
                "nothing is learned; return the factors as a tensor with a graph"
            )
        gradients = torch.autograd.grad(torch.stack(parts).sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if not bool(gradient.isfinite().all()):
                raise CheckFailed(
                    f"what it learns has a gradient that is not finite at {values}; limit what is learned"
                )
            with torch.no_grad():  # The direction alone, as Adam takes it: a loss may be of any size.
                parameter.sub_(gradient.sign(), alpha=0.01)


def _results(values: Values, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
    """Return what the network returned, and losses of it with given values and gradients as large."""
    y_fake = torch.zeros(2, 3, 2, 2, requires_grad=True)
    results = []
    for name in names:
        place, value = NAMES.index(name) if name in NAMES else 0, values.of[name]
        generator = torch.Generator().manual_seed(1000 * values.step + place)
        direction = torch.randn(y_fake.shape, generator=generator)
        if values.is_apart:
            direction[:, [each for each in range(3) if each != place]] = 0.0
        results.append((y_fake * (direction * value / direction.norm())).sum() + value)
    return y_fake, results


def falling(count: int, begin: int = 0) -> Iterator[Values]:
    """Return steps of losses that fall, each at its rate, with noise."""
    for step in range(begin, begin + count):
        noise = torch.rand(3, generator=torch.Generator().manual_seed(step)).tolist()
        rates = {"G_GAN": 1.0, "G_L1": 0.95, "G_VGG": 0.8}
        sizes = {"G_GAN": 0.7, "G_L1": 0.3, "G_VGG": 5.0}
        mean = {name: size * (0.2 + rates[name] ** step) for name, size in sizes.items()}
        of = {name: mean[name] * (0.8 + 0.4 * each) for name, each in zip(NAMES, noise, strict=True)}
        yield Values(of, step)
