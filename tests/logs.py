"""Logs that several test modules use."""

from __future__ import annotations

import json
import zlib

import numpy as np
import torch

from nectargan_core import LossLog, LossManager
from nectargan_core.log import Records, encode_chunk

NAME = "loss_log.jsonl"


def identity(x, y):
    return x * 1


def manager_in(directory, weight=3.0, names=("a",), **kwargs):
    manager = LossManager(experiment_dir=directory, **kwargs)
    for name in names:
        manager.register_loss_fn(name, identity, weight)
    return manager


def write(directory, values, weight=3.0, **kwargs):
    """Log the values of a loss `a`, one per step; return the reported values."""
    reported = []
    with manager_in(directory, weight, nonfinite="ignore", **kwargs) as manager:
        for value in values:
            manager.tick()
            manager.compute_loss_xy("a", value if isinstance(value, torch.Tensor) else torch.tensor(value), None)
            reported.append(manager.get_loss_values(precision=None)["a"])
    return reported


def strictly(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def records(name, values, steps=None, epochs=0.0, weights=1.0, **fields):
    """Make the records of a loss, one per step; `values` are what is recorded as weighted."""
    values = np.asarray(values, dtype=np.float64)
    steps = np.arange(len(values)) if steps is None else np.asarray(steps)
    epochs, weights = (np.broadcast_to(np.float64(each), len(values)).copy() for each in (epochs, weights))
    return Records(name, step=steps, epoch=epochs, loss=values, weight=weights, unweighted=values, **fields)


def log_of(directory, *chunks, **header):
    """Write a log of records, whose header has these fields, such as `tags=`; return it as it is read."""
    directory.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"nectargan_log": 2, **header}, separators=(",", ":"))[:-1]
    first = f'{body},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'
    text = first + "".join(encode_chunk(chunk, 1.7e9) for chunk in chunks)
    (directory / NAME).write_text(text, encoding="utf-8")
    return LossLog(directory)
