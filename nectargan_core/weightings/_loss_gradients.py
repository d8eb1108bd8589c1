"""`LossGradients`: how the gradients of losses compare, in size and direction, as numbers and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nectargan_core._messages import listed
from nectargan_core._printable import printable
from nectargan_core.errors import WeightingError
from nectargan_core.weightings._gradients import gradients_of, gram_of, not_reached, sizes_of, sum_of, unreached

# Characters in a line of the table, beyond which cosines between losses get lines of their own.
_WIDTH = 80


@dataclass(frozen=True, repr=False)
class LossGradients:
    """The gradients of weighted losses with respect to the same tensors, compared; prints as a table.

    What `ComputedLosses.gradients` returns. The gradient of a loss is that of its weighted result, or of the mean of a
    result that is no scalar. All of its entries together are one vector, and the total gradient is the sum of these
    vectors.

    Attributes:
        norms: The Euclidean norm of the gradient of each loss, by name; 0.0 for a loss that was skipped, or that does
            not depend on the tensors.
        shares: Each norm divided by the sum of the norms, from 0 to 1; nan if that is 0 or not finite.
        cosines: The cosine of the gradient of each loss with the total gradient, from -1 (against it) to 1 (along it);
            nan where one of the two is 0 or not finite.
        between: The cosine of the gradient of each loss with that of each loss, by both names, likewise: 1.0 with
            itself.
        total_norm: The norm of the total gradient.

    Example:
        >>> from nectargan_core import ComputedLosses
        >>> x = torch.zeros(2, requires_grad=True)
        >>> losses = ComputedLosses(a=3 * x[0], b=4 * x[1])
        >>> print(losses.gradients(x))
                              cosine with
                 norm  share    total      1
        1 a         3  42.9%     0.60
        2 b         4  57.1%     0.80   0.00
          total     5
    """

    norms: dict[str, float]
    shares: dict[str, float]
    cosines: dict[str, float]
    between: dict[str, dict[str, float]]
    total_norm: float

    def __repr__(self) -> str:
        return _table(self)


def compared(
    results: Mapping[str, Tensor],
    ran: Sequence[str],
    wrt: Sequence[Tensor],
    scale: float = 1.0,
    extra: Tensor | None = None,
) -> LossGradients:
    """Compare the gradients of results; waits for the device once.

    Args:
        results: Weighted results, by the name of the loss.
        ran: Those of the names whose function was called.
        wrt: The tensors that gradients are taken with respect to.
        scale: What results are multiplied by on the way back; see `gradients_of`.
        extra: What the total has beside the results.

    Raises:
        WeightingError: If losses ran, and none of them has a graph or depends on the tensors; or a graph was freed.
    """
    names = tuple(results)
    if ran and not any(results[name].requires_grad for name in ran):
        raise WeightingError(
            f"no gradient can be taken of {listed(ran)}: computed under torch.no_grad() or torch.inference_mode(), or "
            "from tensors none of which requires a gradient; compute the losses with gradients"
        )
    rows = gradients_of(results, wrt, scale)
    missing = set(unreached(names, rows))
    if ran and missing.issuperset(ran):
        raise not_reached(ran, "wrt")
    others = [] if extra is None else gradients_of({"total": extra}, wrt, scale)
    rows.append(sum_of([*rows, *others], wrt))
    sizes = sizes_of(rows, wrt)
    # Of rows divided by their sizes, so that neither squares nor products leave the range of a float.
    gram = gram_of(rows, wrt, sizes)
    read: list[list[float]] = torch.cat([sizes[:, None], gram], dim=1).tolist()
    products = [row[1:] for row in read]
    squares = [row[place] for place, row in enumerate(products)]
    *norms, total_norm = [row[0] * math.sqrt(square) for row, square in zip(read, squares, strict=True)]
    cosines = [
        [_cosine(products, squares, place, other) for other in range(len(squares))] for place in range(len(names))
    ]
    summed = sum(norms)
    is_shared = 0.0 < summed < math.inf
    return LossGradients(
        norms=dict(zip(names, norms, strict=True)),
        shares={name: norm / summed if is_shared else math.nan for name, norm in zip(names, norms, strict=True)},
        cosines={name: row[-1] for name, row in zip(names, cosines, strict=False)},
        between={name: dict(zip(names, row, strict=False)) for name, row in zip(names, cosines, strict=False)},
        total_norm=total_norm,
    )


def _cosine(products: Sequence[Sequence[float]], squares: Sequence[float], place: int, other: int) -> float:
    """Return the cosine of two of several vectors from their inner products; nan where there is none."""
    product = products[max(place, other)][min(place, other)]
    if not (squares[place] > 0.0 and squares[other] > 0.0 and math.isfinite(product)):
        return math.nan
    return max(-1.0, min(product / math.sqrt(squares[place] * squares[other]), 1.0))


# The table


def _table(gradients: LossGradients) -> str:
    """Return the table: a line for each loss, and the cosine of each two losses once."""
    names = list(gradients.norms)
    if not names:
        return "no losses"
    numbers = [f"{number:>{len(str(len(names)))}}" for number in range(1, len(names) + 1)]
    labels = [f"{number} {printable(name)}" for number, name in zip(numbers, names, strict=True)]
    columns = [
        _column("", [*labels, f"{'':{len(numbers[0])}} total"], left=True),
        _column("norm", [f"{norm:.4g}" for norm in (*gradients.norms.values(), gradients.total_norm)]),
        _column("share", [*map(_percent, gradients.shares.values()), ""]),
    ]
    # The first column of cosines begins where its title does.
    title = " " * len("  ".join(column[0] for column in columns)) + "  cosine with"
    columns.append(_column("total", [*map(_two, gradients.cosines.values()), ""], width=7))
    # For each loss but the last its cosines with the losses after it.
    others = [
        _column(numbers[place], [_two(gradients.between[name][names[place]]) for name in names[place + 1 :]], width=5)
        for place in range(len(names) - 1)
    ]
    beside = [column[:1] + [""] * (place + 1) + column[1:] + [""] for place, column in enumerate(others)]
    lines = _joined([*columns, *beside])
    if len(lines[0]) <= _WIDTH:
        return "\n".join([title, *lines])
    lines = [title, *_joined(columns), "", "cosine with each other"]
    several = (_WIDTH - len(numbers[0])) // 7
    for first in range(0, len(others), several):
        group = others[first : first + several]
        shown = [column[:1] + [""] * place + column[1:] for place, column in enumerate(group)]
        lines += _joined([_column("", numbers[first + 1 :]), *shown])
    return "\n".join(lines)


def _column(title: str, cells: Sequence[str], *, width: int = 0, left: bool = False) -> list[str]:
    """Return the cells of a column under its title, all of the same width."""
    width = max(width, len(title), *map(len, cells))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in (title.strip(), *cells)]


def _joined(columns: Sequence[Sequence[str]]) -> list[str]:
    """Return columns side by side, as lines."""
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.3g}%"


def _two(cosine: float) -> str:
    """Write a cosine with two digits, and never -0.00; one that is nan as a dash."""
    return "-" if math.isnan(cosine) else f"{round(cosine, 2) + 0.0:.2f}"
