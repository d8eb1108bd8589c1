"""The docstring of what a plugin publishes, as listings show it and as the checks of the kit read it."""

from __future__ import annotations

import functools
import inspect
import itertools


def docstring_of(published: object) -> str:
    """Return the docstring of a function or class, without its indentation; empty where it has none of its own.

    Of a `functools.partial` it is that of the function. The signature that a dataclass is given for one is none.

    Example:
        >>> docstring_of(functools.partial(lambda: None)), docstring_of(functools.wraps)[:20]
        ('', 'Decorator factory to')
    """
    while isinstance(published, functools.partial):
        published = published.func
    # Asking an object of a plugin may run any code, and give anything.
    try:
        text = inspect.cleandoc(published.__doc__ or "").strip()
        name = published.__name__ if isinstance(published, type) else None
    except Exception:  # noqa: BLE001
        return ""
    return "" if name is not None and text.startswith(f"{name}(") else text


def section(doc: str, *headings: str) -> list[str]:
    r"""Return the lines of a section of a docstring in Google's style, without their indentation and blank lines.

    A section ends at the first line that is not indented; one that begins behind its heading, at the first blank line.

    Args:
        doc: The docstring, as `docstring_of` returns it.
        headings: The headings that the section may have, without the colon.

    Example:
        >>> section("Sum.\n\nArgs:\n    x: The first\n        term.\n\nSource: Euclid.", "Args")
        ['x: The first', '    term.']
    """
    lines = iter(doc.splitlines())
    for line in lines:
        heading, colon, first = line.partition(":")
        if not (colon and heading in headings):
            continue
        if first.strip():
            return [first.strip(), *(each.strip() for each in itertools.takewhile(str.strip, lines))]
        indented = itertools.takewhile(lambda line: not line.strip() or line[0].isspace(), lines)
        return inspect.cleandoc("\n" + "\n".join(filter(str.strip, indented))).splitlines()
    return []
