"""The losses of a plan that one weighting balances: when their factors change, and what is applied to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nectargan_core.history import Recorder, check_real, mean_of
from nectargan_core.losses._autograd import current_graph_task
from nectargan_core.losses._bound import BoundLoss
from nectargan_core.losses._inputs import Inputs, not_given
from nectargan_core.weightings import BoundWeighting


class Balanced:
    """The losses of a plan that one weighting balances.

    Args:
        weighting: The weighting.
        losses: All losses of the plan.
        others: The losses that the weighting balances and that are not of the plan.
    """

    def __init__(self, weighting: BoundWeighting, losses: Sequence[BoundLoss], others: Sequence[BoundLoss]) -> None:
        self.weighting = weighting
        self._places = [place for place, loss in enumerate(losses) if loss.weighting is weighting]
        self._names = [loss.name for loss in losses]
        self._first = losses[self._places[0]]
        self._others = others

    def due(self, weights: Sequence[float], epoch: float, recorder: Recorder) -> list[int]:
        """Return the places of the losses that factors are asked for; none where the last factors hold.

        Args:
            weights: The own weight of each loss of the plan, 0 of one that is disabled.
            epoch: The epoch of the call.
            recorder: The clock and the scope.
        """
        running = [place for place in self._places if weights[place] != 0.0]
        if (
            not running
            or recorder.in_scope
            or not torch.is_grad_enabled()
            # What is learned has to be in the graph that a backward pass makes again.
            or (current_graph_task() >= 0 and self.weighting.parameters is None)
            or not self.weighting.is_due(self._first.step_here())
            or any(other.own_weight_or_nan(epoch) != 0.0 for other in self._others)
        ):
            return []
        return running

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Raise if the input that gradients are taken with respect to is not given.

        Raises:
            MissingInputError: If so.
        """
        name = self.weighting.wrt
        if name is not None and name not in inputs:
            who = f"weighting {self.weighting.label!r} takes gradients with respect to the input"
            raise not_given(name, who, inputs)

    def apply(
        self,
        running: Sequence[int],
        read: Inputs,
        raws: Sequence[Tensor | None],
        weights: list[float],
        epoch: float,
    ) -> tuple[dict[int, Tensor], Tensor | None]:
        """Multiply the weights of the losses by their factors, after these have changed where they are due.

        Args:
            running: What `due` returned.
            read: The inputs.
            raws: What the functions returned.
            weights: The own weights, which become those that are applied.
            epoch: The epoch of the call.

        Returns:
            The weights that are learned, by place, and what is added to the total.
        """
        weighting, given = self.weighting, None
        if running:
            # Now, so that an error of a lazy input is not one of the weighting.
            name = weighting.wrt
            wrt = None if name is None else read.value(name, f"weighting {weighting.label!r}")
            for place in running:
                if (raw := raws[place]) is not None:
                    check_real(self._names[place], raw, epoch)
            given = weighting.balance(
                [self._names[place] for place in running],
                [mean_of(raw) for place in running if (raw := raws[place]) is not None],
                [weights[place] for place in running],
                self._first.step_here(),
                epoch,
                wrt,
                again=current_graph_task() >= 0,
            )
        learned: dict[int, Tensor] = {}
        if given is not None and given.learned is not None:
            # In half precision the product with a weight would be rounded.
            factors = given.learned.to(torch.promote_types(given.learned.dtype, torch.float32))
            for place, factor in zip(running, factors, strict=True):
                learned[place] = factor * weights[place]
        for place in self._places:
            weights[place] *= weighting.factor(self._names[place])
        if learned:
            applied = torch.stack([factor.detach() for factor in learned.values()]).tolist()
            for place, number in zip(learned, applied, strict=True):
                weights[place] = number
        return learned, None if given is None else given.extra
