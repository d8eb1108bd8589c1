"""Runs commands as a user does: in a terminal of a size, or in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

PROGRAM = [sys.executable, "-m", "nectargan_core"]


class Ended(NamedTuple):
    """What a command in a terminal has printed, and its exit status."""

    output: str
    status: int

    @property
    def text(self) -> str:
        """What was printed, without the codes for colours and positions."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output).replace("\r\n", "\n")


def in_terminal(
    arguments: Sequence[object],
    *,
    columns: int = 80,
    rows: int = 40,
    environment: dict[str, str] | None = None,
    interrupt_at: Callable[[str], bool] | None = None,
    terminate_at: Callable[[str], bool] | None = None,
    on_output: Callable[[str], object] | None = None,
    seconds: float = 120.0,
) -> Ended:
    """Run the program in a terminal.

    Args:
        arguments: What stands behind `nectargan`.
        columns: The width of the terminal.
        rows: Its height.
        environment: Variables beside those that there are; `COLUMNS` and the like are not set.
        interrupt_at: Called with all that was printed so far; when it is true, Ctrl-C is typed.
        terminate_at: Likewise; when it is true, SIGTERM is sent.
        on_output: Likewise called with what was printed so far.
        seconds: After these it is killed, and the test fails.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | (environment or {}),
        # Typing Ctrl-C is a signal to what the terminal controls.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    output, interrupted, deadline = b"", False, time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    data = os.read(ours, 1 << 16)
                except OSError:  # the other end is closed
                    data = b""
                if not data:
                    break
                output += data
            text = output.decode(errors="replace")
            if on_output is not None:
                on_output(text)
            if interrupt_at is not None and not interrupted and interrupt_at(text):
                interrupted = True
                os.write(ours, b"\x03")
            if terminate_at is not None and not interrupted and terminate_at(text):
                interrupted = True
                process.terminate()
        else:
            raise AssertionError(f"it did not end: {output.decode(errors='replace')}")
        return Ended(output.decode(), process.wait(timeout=30))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)


def in_pipe(arguments: Sequence[object], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program with pipes for what it prints."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
