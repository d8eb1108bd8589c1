"""Points of curves as metrics of MLflow, in calls of at most a thousand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nectargan_core import Scalars
from nectargan_mlflow.names import metric_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MOST = 1000


@dataclass(frozen=True, eq=False)
class Batch:
    """What one call of MLflow logs; as arrays, which take little while they wait.

    Args:
        names: Names of metrics.
        which: Of each point, which of the names it has.
        step: Steps.
        timestamp: Milliseconds since 1970.
        value: Values; they may be nan or infinite.
    """

    names: Sequence[str]
    which: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    timestamp: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    def log(self, client: MlflowClient, run_id: str) -> None:
        """Log the points in a run."""
        from mlflow.entities import Metric

        columns: Any = (self.which.tolist(), self.value.tolist(), self.timestamp.tolist(), self.step.tolist())
        metrics = [
            Metric(self.names[which], value, timestamp, step)
            for which, value, timestamp, step in zip(*columns, strict=True)
        ]
        client.log_batch(run_id, metrics=metrics, synchronous=True)


def batches(curves: Sequence[Scalars], prefix: str = "") -> Iterator[Batch]:
    """Yield the calls that log the points of some curves.

    Args:
        curves: The curves.
        prefix: What stands before the names of the metrics.

    Example:
        >>> loss = Scalars("loss/G_L1", step=np.arange(1500), time=np.arange(1500.0), value=np.zeros(1500))
        >>> for batch in batches([loss]):
        ...     print(batch.names, batch.step[[0, -1]].tolist(), batch.timestamp[[0, -1]].tolist())
        ['loss/G_L1'] [0, 999] [0, 999000]
        ['loss/G_L1'] [1000, 1499] [1000000, 1499000]
    """
    if not curves:
        return
    names = [metric_name(prefix + curve.tag) for curve in curves]
    which = np.repeat(np.arange(len(curves)), [len(curve) for curve in curves])
    step, seconds, value = (
        np.concatenate([getattr(each, name) for each in curves]) for name in ("step", "time", "value")
    )
    timestamp = (np.where(np.isnan(seconds), time.time(), seconds) * 1000).astype(np.int64)
    for first in range(0, len(which), _MOST):
        part = slice(first, first + _MOST)
        yield Batch(names, which[part], step[part], timestamp[part], value[part])
