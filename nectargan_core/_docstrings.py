"""The docstring of what a plugin publishes, as listings show it and as the checks of the kit read it."""

from __future__ import annotations

import functools
import inspect


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
