"""What a weighting is given at a step: the losses that run, their values, and on demand their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from nectargan_core.errors import WeightingError
from nectargan_core.history import no_value
from nectargan_core.weightings._gradients import Rows, gradients_of, gram_of, norms_of, not_reached, unreached


class Wrt:
    """What gradients are taken with respect to.

    Args:
        name: The input, for errors.
        tensors: Its tensors.
        scale: The scale of a `torch.amp.GradScaler`, by which results are multiplied on the way back; 1.0 without one.
    """

    def __init__(self, name: str, tensors: Sequence[Tensor], scale: float = 1.0) -> None:
        self.name = name
        self.tensors = tensors
        self.scale = scale


class GraphStep:
    """The same in a compiled graph, in which values, weights, gradients and the clock are not known.

    Args:
        names: The losses.
        tensors: The means of their results before weighting, detached: a vector in single precision.
    """

    def __init__(self, names: tuple[str, ...], tensors: Tensor) -> None:
        self.names = names
        self.tensors = tensors

    def __getattr__(self, name: str) -> NoReturn:
        raise WeightingError(
            f"step.{name} is not known in compiled code, where a weighting with parameters has step.names and "
            "step.tensors; call compute_losses outside of torch.compile"
        )


class WeightingStep:
    """The losses that a weighting balances at one step. Each of its values is computed once, when it is asked for.

    Attributes:
        names: The losses, of those that the weighting balances, that run at this step with a weight that is not 0.
        weights: Their own weights, from a number or a schedule, before factors.
        step: The step of the clock.
        epoch: The epoch of the clock.

    Example:
        A weighting reads it; core makes it.

        >>> from nectargan_core import WeightingStep
        >>> class Inverse:
        ...     needs = "values"
        ...
        ...     def factors(self, step: WeightingStep) -> list[float]:
        ...         return [1.0 / max(value, 1e-3) for value in step.values]
    """

    def __init__(
        self,
        names: Sequence[str],
        results: Sequence[Tensor],
        weights: Sequence[float],
        step: int,
        epoch: float,
        wrt: Callable[[], Wrt] | None = None,
        prefix: str = "",
    ) -> None:
        self.names = tuple(names)
        # What stands before the names in the manager.
        self.prefix = prefix
        self.weights = list(weights)
        self.step = step
        self.epoch = epoch
        self._results = results
        self._wrt = wrt

    @property
    def full_names(self) -> tuple[str, ...]:
        """The names that the losses have in the manager."""
        return tuple(self.prefix + name for name in self.names) if self.prefix else self.names

    @cached_property
    def tensors(self) -> Tensor:
        """The means of the results before weighting, detached: a vector in single precision, on their device."""
        device = self._results[0].device
        return torch.stack([result.detach().float().to(device) for result in self._results])

    @cached_property
    def values(self) -> list[float]:
        """The same as numbers; waits for the device, if they are on an accelerator."""
        device = self._results[0].device
        try:
            read = torch.stack([each.detach().double().to(device) for each in self._results]).tolist()
        except RuntimeError as error:
            raise no_value(self.names[0]) from error
        return [float(value) for value in read]

    def gradients(self, weighted: bool = False) -> list[list[Tensor]]:
        """Return the gradient of each loss with respect to each tensor of `wrt`, in the shape of the tensor.

        They are not to be edited in place, since norms and inner products are taken of the same tensors.

        Args:
            weighted: Whether results are multiplied by `weights`. Otherwise they are as the functions returned them.

        Raises:
            WeightingError: If a loss does not reach `wrt`, its graph was freed, or there is no `wrt`.
        """
        wrt = self._with_respect_to.tensors
        rows = [
            [torch.zeros_like(like) if each is None else each for each, like in zip(row, wrt, strict=True)]
            for row in self._rows
        ]
        if not weighted:
            return rows
        return [[each * weight for each in row] for row, weight in zip(rows, self.weights, strict=True)]

    def norms(self, weighted: bool = False) -> Tensor:
        """Return the norm of the gradient of each loss as a vector, in single precision; see `gradients`."""
        return self._norms * self._weights_like(self._norms).abs() if weighted else self._norms.clone()

    def gram(self, weighted: bool = False) -> Tensor:
        """Return the inner products of the gradients as a matrix, in double precision; see `gradients`."""
        if not weighted:
            return self._gram.clone()
        weights = self._weights_like(self._gram)
        return self._gram * weights[:, None] * weights

    def reached(self) -> list[bool]:
        """Return for each loss whether it has a gradient with respect to `wrt`."""
        return [any(each is not None for each in row) for row in self._all_rows]

    def only(self, chosen: Sequence[bool]) -> WeightingStep:
        """Return the step with some of its losses; what was computed for them stays."""

        def those(values: Sequence[object]) -> list[object]:
            return [value for value, is_chosen in zip(values, chosen, strict=True) if is_chosen]

        step = WeightingStep(
            those(self.names),  # type: ignore[arg-type] # as they were
            those(self._results),  # type: ignore[arg-type] # as they were
            those(self.weights),  # type: ignore[arg-type] # as they were
            self.step,
            self.epoch,
            self._wrt,
            self.prefix,
        )
        step.__dict__.update(_with_respect_to=self._with_respect_to, _all_rows=those(self._all_rows))
        return step

    def is_finite(self) -> bool:
        """Whether all gradients are finite, which those through a scale may not be; waits for the device."""
        flags = [each.isfinite().all() for row in self._all_rows for each in row if each is not None]
        return not flags or bool(torch.stack([flag.to(flags[0].device) for flag in flags]).all().item())

    @cached_property
    def _with_respect_to(self) -> Wrt:
        if self._wrt is None:
            raise WeightingError(
                "a weighting that declares needs = 'values' has no gradients; it must declare needs = 'gradients'"
            )
        return self._wrt()

    @cached_property
    def _all_rows(self) -> Rows:
        wrt = self._with_respect_to
        return gradients_of(dict(zip(self.full_names, self._results, strict=True)), wrt.tensors, wrt.scale)

    @cached_property
    def _rows(self) -> Rows:
        if missing := unreached(self.full_names, self._all_rows):
            raise not_reached(missing, f"the input {self._with_respect_to.name!r}")
        return self._all_rows

    @cached_property
    def _norms(self) -> Tensor:
        return norms_of(self._rows, self._with_respect_to.tensors)

    @cached_property
    def _gram(self) -> Tensor:
        return gram_of(self._rows, self._with_respect_to.tensors)

    def _weights_like(self, like: Tensor) -> Tensor:
        return torch.tensor(self.weights, dtype=like.dtype, device=like.device)
