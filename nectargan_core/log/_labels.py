"""Short labels for the logs of several runs, by which they are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LOG_NAMES = ("loss_log.json", "loss_log.rank")


def labels(paths: Sequence[Path]) -> list[str]:
    """Return a short label for each path: so many of its last parts as tell it from the others.

    The name of a loss log is left out, since its directory says which it is, but where several logs of a directory are
    given, such as those of ranks.

    Raises:
        ValueError: If a path is given twice.

    Example:
        >>> labels([Path("runs/a/first"), Path("runs/b/first"), Path("other/loss_log.jsonl")])
        ['a/first', 'b/first', 'other']
    """
    places = [_place(path) for path in paths]
    files = {directory: {file for other, file in places if other == directory} - {""} for directory, _ in places}
    whole = [(*parts, file) if file and len(files[parts]) > 1 else parts for parts, file in places]
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


def _place(path: Path) -> tuple[tuple[str, ...], str]:
    """Return the parts of the directory of a run, and the name of its log where that is given."""
    # What is not there, or has a name that no file can have, is an error that the reader raises.
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):
        resolved = path.absolute()
    is_log = resolved.name.startswith(_LOG_NAMES) and not resolved.is_dir()
    directory = resolved.parent if is_log else resolved
    return directory.parts[1:] or directory.parts, resolved.name if is_log else ""
