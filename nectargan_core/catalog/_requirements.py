"""How a distribution is written in a requirements file, so that pip installs it again as it is installed now."""

from __future__ import annotations

import re
import shlex
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from nectargan_core._printable import printable
from nectargan_core.catalog._installed import Source

# A user and a password may stand in an URL as names of environment variables (PEP 610).
_VARIABLES = re.compile(r"\$\{[A-Za-z0-9-_]+\}(:\$\{[A-Za-z0-9-_]+\})?")


def requirement(source: Source) -> str:
    """Return the line for a distribution, as `pip freeze` prints it; a comment where its metadata does not say it."""
    if path := _editable(source.origin):
        return f"-e {shlex.quote(path)}"
    line = f"{source.name} @ {_url(source.origin)}" if source.origin else _pinned(source)
    return line if line and _is_valid(line) else f"# {printable(source.name)}: its metadata is not valid; reinstall it"


def _pinned(source: Source) -> str:
    from packaging.version import InvalidVersion, Version

    version = source.version or ""
    try:
        Version(version)
    except InvalidVersion:
        return f"{source.name}==={version}" if version else ""
    return f"{source.name}=={version}"


def _editable(origin: Mapping[str, Any]) -> str:
    """Return the directory of an editable installation; empty for any other."""
    if not _part(origin, "dir_info").get("editable"):
        return ""
    return urllib.request.url2pathname(urllib.parse.urlsplit(origin["url"]).path)


def _url(origin: Mapping[str, Any]) -> str:
    vcs, archive = _part(origin, "vcs_info"), _part(origin, "archive_info")
    url = _without_password(origin["url"], vcs.get("vcs"))
    if vcs:
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    fragments = []
    if archive.get("hash"):
        fragments.append(str(archive["hash"]))
    elif hashes := _part(archive, "hashes"):
        fragments.append("{}={}".format(*next(iter(hashes.items()))))
    if subdirectory := origin.get("subdirectory"):
        fragments.append(f"subdirectory={subdirectory}")
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _without_password(url: str, vcs: str | None) -> str:
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or (vcs == "git" and user == "git") or _VARIABLES.fullmatch(user):
        return url
    return parts._replace(netloc=host).geturl()


def _part(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = mapping.get(key)
    return part if isinstance(part, dict) else {}


def _is_valid(line: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(line)
    except InvalidRequirement:
        return False
    return True
