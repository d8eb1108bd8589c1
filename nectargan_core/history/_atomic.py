"""Work that a signal handler, an interrupt or another thread finds done or not begun, never half done."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FrameType, GeneratorType
from typing import Any, TypeAlias

_Run: TypeAlias = "GeneratorType[int | BaseException, None, None]"


def at_once(*steps: partial[Any]) -> None:
    """Call functions of C, one after the other, within one call of C.

    Between two instructions of Python a signal handler may run, an exception be raised, or another thread go on;
    within a call of C they may not.

    Example:
        >>> rows, waiting = [1], [2, 3]
        >>> at_once(partial(rows.extend, [2]), partial(waiting.__delitem__, 0))
        >>> rows, waiting
        ([1, 2], [3])
    """
    prepared(*steps)()


def prepared(*steps: partial[Any]) -> Callable[[], object]:
    """Return what calls functions of C as `at_once` does, once; it is itself of C, so that nothing comes before it."""
    return partial(deque, map(partial.__call__, steps), maxlen=0)


class Exclusive:
    """Calls a function that must not be entered while it runs: by a signal handler, or by another thread.

    A call that comes while it runs asks for another run and returns at once; whoever runs the function then runs it
    again. The lock is a generator, which Python does not enter while it runs, and which an exception ends, so that an
    exception raised at any instruction leaves nothing locked.

    Args:
        function: What is called, without arguments; its results are added up.

    Example:
        >>> flush = Exclusive(lambda: 2)
        >>> flush()
        2
    """

    __slots__ = ("_asked", "_begun", "_ended", "_function", "_number", "_pid", "_runs")

    def __init__(self, function: Callable[[], int]) -> None:
        self._function = function
        self._asked = False
        # How many runs have begun, and which was the last that ended.
        self._begun = self._ended = 0
        # The generators by number: one that came to an end is followed by that of the next number.
        self._runs: dict[int, _Run] = {}
        self._number = 0
        self._pid = os.getpid()

    def __call__(self, wait: bool = False) -> int:
        """Call the function, or have it called again by whoever is calling it.

        Args:
            wait: Whether to wait, while another thread calls it, for the end of a run that has begun after this call.
                A call that is made inside of a run, such as that of a signal handler, never waits.

        Returns:
            The sum of the results of all calls that were made here, 0 of none.
        """
        total, before = 0, self._begun
        self._asked = True
        while self._asked or (wait and self._ended <= before):
            try:
                outcome = next(self._run())
            except ValueError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    raise
                # It is being run.
                if not wait or is_called_from(Exclusive._repeated):
                    break
                time.sleep(0.001)
            except StopIteration:
                self._asked = True
            else:
                if isinstance(outcome, BaseException):
                    raise outcome
                total += outcome
        return total

    def _run(self) -> _Run:
        if os.getpid() != self._pid:  # What another thread was running when this process was forked goes on there only.
            self._pid, self._runs = os.getpid(), {}
        number = self._number
        while True:
            # One call of C, so that two threads get the same generator.
            run = self._runs.setdefault(number, self._repeated())
            if run.gi_frame is not None:
                self._number = number
                return run
            number += 1

    def _repeated(self) -> Any:
        while True:
            yield self._outcome()

    def _outcome(self) -> int | BaseException:
        self._begun = number = self._begun + 1
        self._asked = False
        try:
            return self._function()
        except BaseException as error:  # noqa: BLE001 # raised by the caller, so that the generator does not end
            return error
        finally:
            self._ended = number


def is_called_from(method: Callable[..., Any], owner: object = None) -> bool:
    """Whether this is called, by whomever, from a method: that of an object, or of any.

    What a flag would say, but for a flag that an interrupt leaves set.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is method.__code__ and (owner is None or frame.f_locals["self"] is owner):
            return True
        frame = frame.f_back
    return False
