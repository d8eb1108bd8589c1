"""A loss function as the checks look at it: how it is called, copied and moved."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nectargan_core._messages import one_line
from nectargan_core.errors import WeightsError
from nectargan_core.losses import module_of
from nectargan_core.testing._call import Call, Parameters, called, settings_restored
from nectargan_core.testing._comparing import difference_of
from nectargan_core.testing._generators import seeded
from nectargan_core.testing._inputs import CASES, Case, ExampleInputs, Inputs, Made, MakeInputs, in_case, made, prepared
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable

_BATCH = 2


@dataclass(eq=False)
class LossSubject:
    """One loss function, as the checks look at it.

    Args:
        function: The function or module.
        reads: The names of its inputs, in the order of its parameters, or by parameter.
        make_inputs: Makes them for a batch size; None for those of the plugin and of the vocabulary.
        gradcheck: Whether its gradient is compared with a numerical one.
        numberless: Why there are no numbers to check; the function is then on the meta device.
        examples: Makes the plugin's own inputs for a batch size; None where there is no plugin.
    """

    function: Callable[..., Any]
    reads: Parameters
    make_inputs: MakeInputs | None = None
    gradcheck: bool = False
    numberless: str = ""
    examples: ExampleInputs | None = None
    _made: dict[int, Made] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return tuple(self.reads.values() if isinstance(self.reads, Mapping) else self.reads)

    def fresh(self) -> Callable[..., Any]:
        """Return a copy of the function, in the state in which it was given; itself where it cannot be copied."""
        try:
            return copy.deepcopy(self.function)
        except Exception:  # noqa: BLE001 # a module may hold anything; the check `picklable` tells
            return self.function

    def values(self, case: Case = "random", batch: int = _BATCH) -> dict[str, object] | None:
        """Return inputs as they are made; None where the case is none of these inputs."""
        if batch not in self._made:
            with seeded(batch):
                self._made[batch] = made(self.names, self.make_inputs, batch, self.examples)
        return in_case(self._made[batch], case)

    def inputs(self, case: Case = "random", batch: int = _BATCH, **conversion: Any) -> Inputs:
        """Return copies of the inputs for one call; `conversion` as for `prepared`."""
        values = self.values(case, batch)
        if values is None:
            raise NotApplicable(f"no input can be such as{CASES[case]}")
        return prepared(values, **conversion)

    def cases(self) -> Iterator[Case]:
        """Yield the cases that its inputs can be."""
        return (case for case in CASES if self.values(case) is not None)

    def call(self, function: Callable[..., Any] | None = None, inputs: Inputs | None = None, seed: int = 1) -> Call:
        """Call the function, or another in its place, with the inputs given, or random ones."""
        with seeded(seed), settings_restored(), warnings.catch_warnings():
            # Such as that of a variance over one sample, whose nan is found.
            warnings.simplefilter("ignore")
            return called(
                self.fresh() if function is None else function,
                self.reads,
                self.inputs() if inputs is None else inputs,
            )

    @functools.cached_property
    def plain(self) -> Call | Exception:
        """The call with random inputs in float32 on the CPU, or what it raised."""
        try:
            return self.call()
        except Exception as error:  # noqa: BLE001 # a plugin may raise anything
            return error
        except SystemExit as error:
            return RuntimeError(f"SystemExit: {error}")

    @functools.cached_property
    def is_random(self) -> bool:
        """Whether two calls with the same inputs differ."""
        if isinstance(self.plain, Exception):
            return False
        return bool(difference_of(self.call(seed=2), self.plain))


def needs_numbers(loss: LossSubject) -> None:
    if loss.numberless:
        raise NotApplicable(loss.numberless)


def usable(loss: LossSubject) -> Call:
    """Return the call with random inputs; a check has nothing to look at where there is none."""
    needs_numbers(loss)
    if isinstance(loss.plain, WeightsError):
        raise NotApplicable(one_line(loss.plain))
    if isinstance(loss.plain, NotApplicable):
        raise loss.plain
    if isinstance(loss.plain, Exception):
        raise NotApplicable("it cannot be called, as the check `finite` tells")
    if not all(bool(term.isfinite().all()) for term in loss.plain.terms.values()):
        raise NotApplicable("it gives no finite number, as the check `finite` tells")
    return loss.plain


def must_copy(loss: LossSubject) -> None:
    try:
        copy.deepcopy(loss.function)
    except Exception as error:
        raise CheckFailed(
            f"it cannot be copied: {one_line(error)}; keep files, locks, generators and results of earlier calls out "
            "of it"
        ) from error


def moved(loss: LossSubject, **where: Any) -> Callable[..., Any]:
    """Return a copy of the function of which the module is moved by `.to()`, as a manager moves it; itself without."""
    if module_of(loss.function) is None:
        return loss.function
    must_copy(loss)
    function = copy.deepcopy(loss.function)
    module = module_of(function)
    assert module is not None  # noqa: S101 # for type checkers: it is a copy
    module.to(**where)
    return function
