"""The entry points of installed distributions, read from their metadata without importing any of them."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import importlib_metadata

# packaging is imported where it is used: only listings and errors need it.
if TYPE_CHECKING:
    from packaging.version import Version

CORE = "nectargan-core"

_PREFIX = "nectargan."
# Blanks around the colon and extras at the end are allowed and ignored.
_VALUE = re.compile(r"([\w.]+)\s*(?::\s*([\w.]+))?\s*(?:\[.*\])?")
_CORE_REQUIREMENT = re.compile(r"nectargan[-_.]+core\b", re.IGNORECASE)


def canonical(distribution: str) -> str:
    """Write the name of a distribution as package indexes compare it (PEP 503).

    Example:
        >>> canonical("Acme_VGG")
        'acme-vgg'
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


class Source:
    """One metadata directory of one distribution; it is read when asked, and reading it never raises."""

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution

    @functools.cached_property
    def name(self) -> str:
        """The name of the distribution as it writes it; that of the directory where it has none."""
        return self._header("Name") or self._directory_name[0] or "(nameless)"

    @functools.cached_property
    def key(self) -> str:
        """The name of the distribution as package indexes compare it."""
        return canonical(self.name)

    @functools.cached_property
    def version(self) -> str | None:
        """The version of the distribution, if it says one."""
        return self._header("Version") or self._directory_name[1] or None

    @functools.cached_property
    def supports(self) -> str:
        """The versions of nectargan-core that it depends on, such as `">=0.1,<0.2"`; empty for any."""
        try:
            requirements = self._distribution.requires or ()
        except Exception:  # noqa: BLE001 # metadata that cannot be read requires nothing
            return ""
        return ",".join(filter(None, map(_core_range, requirements)))

    @functools.cached_property
    def location(self) -> str:
        """The directory that the metadata lies in, links resolved."""
        try:
            return os.path.realpath(str(self._distribution.locate_file("")))
        except Exception:  # noqa: BLE001 # a custom finder need not have files
            return f"({type(self._distribution).__name__})"

    @functools.cached_property
    def identity(self) -> tuple[str, str | None, bool]:
        """Equal for two readings of the same metadata, such as through `lib` and `lib64`."""
        return self.location, self.version, self._is_installation_record

    @functools.cached_property
    def is_whole(self) -> bool:
        """Whether it can be read, and agrees with the name of its directory: not what a broken installation left."""
        name, version = self._header("Name"), self._header("Version")
        named, dated = self._directory_name
        if not (name and version) or canonical(name) != canonical(named or name):
            return False
        # An .egg-info may have a version of Python after its own.
        return self._entry_points_can_be_read and (not dated or _same_version(version, dated.partition("-")[0]))

    @property
    def precedence(self) -> tuple[bool, bool, Version]:
        """What decides within one location: a record of an installation, then the later version."""
        from packaging.version import InvalidVersion, Version

        try:
            version, valid = Version(self.version or ""), True
        except InvalidVersion:
            version, valid = Version("0"), False
        return self._is_installation_record, valid, version

    @functools.cached_property
    def _is_installation_record(self) -> bool:
        # An .egg-info directory, which a build leaves in a source tree, has PKG-INFO instead of METADATA.
        try:
            return self._distribution.read_text("METADATA") is not None
        except Exception:  # noqa: BLE001 # there, and not to be read
            return True

    @property
    def _entry_points_can_be_read(self) -> bool:
        try:
            self._distribution.read_text("entry_points.txt")
        except Exception:  # noqa: BLE001 # not UTF-8, no permission
            return False
        return True

    @functools.cached_property
    def _directory_name(self) -> tuple[str, str]:
        # importlib.metadata has no public name for the directory, and only it identifies unreadable metadata.
        stem = pathlib.PurePath(str(getattr(self._distribution, "_path", ""))).stem
        name, _, version = stem.partition("-")
        return name.replace("_", "-"), version

    def _header(self, field: str) -> str:
        try:
            return str((self._distribution.metadata.get_all(field) or [""])[0])
        except Exception:  # noqa: BLE001 # no file, not UTF-8, whatever a custom finder raises
            return ""


@dataclass(frozen=True)
class EntryPoint:
    """One entry point of one distribution, which offers `target` under `name` in `group`."""

    group: str
    name: str
    target: str
    source: Source


class Installed:
    """One reading of the entry points of every distribution on the path, as the path was then.

    Args:
        groups: The entry point groups to read.
    """

    def __init__(self, groups: Iterable[str]) -> None:
        self._path = list(sys.path)
        self._entry_points: dict[str, dict[str, list[EntryPoint]]] = {group: {} for group in groups}
        self._leading: dict[str, Source | None] = {}
        self.unreadable: list[tuple[Source, Exception]] = []
        # Not importlib_metadata.entry_points(), which raises for everybody where the file of one distribution
        # is not UTF-8 or has a line without "=".
        for distribution in importlib_metadata.distributions(path=self._path):
            try:
                text = distribution.read_text("entry_points.txt")
            except Exception as error:  # noqa: BLE001 # a broken file must not prevent reading the others
                self.unreadable.append((Source(distribution), error))
                continue
            if text is None or _PREFIX not in text:
                continue
            source = Source(distribution)
            for group, name, target in _lines(text):
                if group in self._entry_points:
                    self._entry_points[group].setdefault(name, []).append(EntryPoint(group, name, target, source))

    def names(self, group: str) -> tuple[str, ...]:
        """The names that are offered in a group, whichever distribution offers them."""
        return tuple(self._entry_points[group])

    def entry_points(self, group: str, name: str) -> tuple[list[EntryPoint], list[EntryPoint]]:
        """Return the entry points of a name that count, and those in metadata that other metadata stands before.

        Of a distribution that is found more than once, only the metadata that stands first on the path
        counts: the code beside it is what would be imported. Metadata that is not whole counts after all that is.
        """
        current: list[EntryPoint] = []
        shadowed: list[EntryPoint] = []
        seen = set()
        for entry_point in self._entry_points[group].get(name, ()):
            source = entry_point.source
            if (line := (source.key, source.identity, entry_point.target)) in seen:
                continue
            seen.add(line)
            leading = self.leading(source.key)
            counts = leading is None or leading.identity == source.identity
            (current if counts else shadowed).append(entry_point)
        return current, shadowed

    def leading(self, key: str) -> Source | None:
        """The metadata that counts for a distribution; `None` where the path has none under that name."""
        if key not in self._leading:
            self._leading[key] = _search(key, self._path)
        return self._leading[key]


def core_version() -> str | None:
    """The version of nectargan-core; `None` where it runs from a source tree without being installed."""
    leading = _search(CORE, sys.path)
    return None if leading is None else leading.version


def supports_core(supports: str) -> bool:
    """Whether the running nectargan-core may be one of the versions that `supports` describes."""
    from packaging.specifiers import SpecifierSet

    running = core_version()
    return not supports or running is None or SpecifierSet(supports).contains(running, prereleases=True)


def _search(key: str, path: list[str]) -> Source | None:
    """Return the metadata that counts for a distribution."""
    found = [Source(each) for each in importlib_metadata.distributions(name=key, path=path)]
    if len(found) < 2:
        return next(iter(found), None)
    sources = [source for source in found if source.is_whole] or found
    beside = [source for source in sources if source.location == sources[0].location]
    return max(beside, key=lambda source: source.precedence)


def _same_version(version: str, written: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) == Version(written.replace("_", "-"))
    except InvalidVersion:
        return version == written


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            match = _VALUE.fullmatch(value.strip())
            yield group, name.strip(), ":".join(filter(None, match.groups())) if match else value.strip()


def _core_range(requirement: str) -> str:
    if not _CORE_REQUIREMENT.match(requirement):
        return ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        read = Requirement(requirement)
        applies = read.marker is None or read.marker.evaluate({"extra": ""})
    except (InvalidRequirement, KeyError, ValueError):
        return ""
    return str(read.specifier) if applies and canonical(read.name) == CORE else ""
