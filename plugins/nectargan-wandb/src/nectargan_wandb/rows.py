"""The history of W&B as rows: one for each step, with the values of all curves that have a point there."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nectargan_core import Scalars

STEP = "nectargan/step"
"""The column with the step of the clock, by which W&B draws the others."""

EPOCH = "nectargan/epoch"
"""The column with the epoch of the clock."""


class Rows:
    """Makes the rows of one manager.

    Args:
        prefix: What stands before the names of all columns but `STEP`.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._epoch: float | None = None

    def name(self, tag: str) -> str:
        """Return the column of a curve."""
        return self._prefix + (EPOCH if tag == "epoch" else tag)

    def of(self, curves: Iterable[Scalars]) -> list[dict[str, float]]:
        """Return the rows of new points, in the order of the steps.

        Example:
            >>> import numpy as np
            >>> steps, times, values = np.array([0, 1]), np.array([10.0, 11.0]), np.array([6.0, 5.0])
            >>> loss = Scalars("loss/G_L1", step=steps, time=times, value=values)
            >>> for row in Rows().of([loss]):
            ...     print(row)
            {'nectargan/step': 0, '_timestamp': 10.0, 'loss/G_L1': 6.0}
            {'nectargan/step': 1, '_timestamp': 11.0, 'loss/G_L1': 5.0}
        """
        rows: dict[int, dict[str, float]] = {}
        for curve in curves:
            name = self.name(curve.tag)
            for step, time, value in zip(curve.step.tolist(), curve.time.tolist(), curve.value.tolist(), strict=True):
                row = rows.setdefault(step, {STEP: step})
                if not math.isnan(time):
                    row["_timestamp"] = time
                row[name] = value
        made = [rows[step] for step in sorted(rows)]
        # The epoch has points where it changes; as an axis, each row needs it.
        epoch = self.name("epoch")
        for row in made:
            self._epoch = row.get(epoch, self._epoch)
            if self._epoch is not None:
                row[epoch] = self._epoch
        return made
