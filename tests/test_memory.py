"""The memory that records take."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import torch
    from nectargan_core import LossManager

    torch.set_num_threads(1)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def train(manager, steps):
        image = torch.rand(256, 256)
        value = torch.tensor(0.5, requires_grad=True)
        for step in range(steps):
            manager.tick(epoch=step)
            for name in names:
                temporary = image * 1.5
                manager.compute_loss_xy(name, value, temporary)

    names = [f"loss{number}" for number in range(8)]
    manager = LossManager(enable_logging=True)
    for name in names:
        manager.register_loss_fn(name, lambda x, y: x)
    train(manager, 500)
    before = resident()
    train(manager, 50_000)
    print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_four_hundred_thousand_records_take_40_bytes_each_and_little_more():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, check=True, timeout=280
    )
    assert int(done.stdout) <= 8 * 50_000 * 40 + 32 * 2**20
