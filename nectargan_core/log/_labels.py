"""Short labels for the logs of several runs, by which they are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LOG_NAMES = ("loss_log.json", "loss_log.rank")


def labels(paths: Sequence[Path]) -> list[str]:
    """Return a short label for each path: so many of its last parts as tell it from the others.

    The name of a loss log is left out, since its directory says which it is.

    Raises:
        ValueError: If a path is given twice.

    Example:
        >>> labels([Path("runs/a/first"), Path("runs/b/first"), Path("other/loss_log.jsonl")])
        ['a/first', 'b/first', 'other']
    """
    whole = [_parts(path) for path in paths]
    for index, parts in enumerate(whole):
        if parts in whole[:index]:
            raise ValueError(f"the run {paths[index]} is given twice")
    found = []
    for parts in whole:
        count = 1
        while any(other != parts and other[-count:] == parts[-count:] for other in whole) and count < len(parts):
            count += 1
        found.append("/".join(parts[-count:]))
    return found


def _parts(path: Path) -> tuple[str, ...]:
    # What is not there, or has a name that no file can have, is an error that the reader raises.
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):
        resolved = path.absolute()
    directory = resolved.parent if resolved.name.startswith(_LOG_NAMES) and not resolved.is_dir() else resolved
    return directory.parts[1:] or directory.parts
