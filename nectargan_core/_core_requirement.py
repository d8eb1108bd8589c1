"""The requirement on nectargan-core that a plugin should declare: written for new ones, and advised to others."""

from __future__ import annotations

import importlib_metadata

CORE = "nectargan-core"


def core_requirement() -> str | None:
    """Return what admits the running core, and no release that may break a plugin; None where core is not installed.

    Example:
        >>> core_requirement().partition(">=")[0]
        'nectargan-core'
    """
    # Imported here, since hardly anything needs it.
    from packaging.version import Version

    try:
        version = Version(importlib_metadata.version(CORE))
    except importlib_metadata.PackageNotFoundError:
        return None
    lower = f"{version.major}.{version.minor}"
    upper = f"0.{version.minor + 1}" if version.major == 0 else f"{version.major + 1}"
    if Version(lower) > version:  # A pre-release is before the release that it leads to.
        lower = version.public
    return f"{CORE}>={lower},<{upper}"
