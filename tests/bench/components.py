"""What it costs to record the components of a loss, beside a function that returns their sum."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from interleaved import medians
from torch import Tensor

from nectargan_core import LossManager


def layers(x: Tensor, count: int) -> dict[str, Tensor]:
    """Return some components."""
    return {f"relu{number}": x * number for number in range(count)}


def main() -> None:
    """Print a table of medians."""
    print("A loss of components (CPU time of one thread, medians of interleaved runs)")
    x = torch.tensor(0.5, requires_grad=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for count in (1, 5, 20):
            summed, separate = LossManager(enable_logging=True), LossManager(enable_logging=True)
            summed.register_loss_fn("loss", lambda x, count=count: reduce(add, layers(x, count).values()), 2.0)
            separate.register_loss_fn("loss", lambda x, count=count: layers(x, count), 2.0)
            taken = medians(
                {
                    "summed": lambda manager=summed: manager.compute_loss("loss", x),
                    "as a dict": lambda manager=separate: manager.compute_loss("loss", x),
                },
                200,
            )
            each = (taken["as a dict"] - taken["summed"]) / count * 1e6
            print(
                f"{count:>2} components{taken['summed'] * 1e6:>10.2f} us summed by the function"
                f"{taken['as a dict'] * 1e6:>10.2f} us as a dict{each:>8.2f} us each"
            )
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
