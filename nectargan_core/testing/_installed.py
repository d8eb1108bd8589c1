"""Checks of any installed plugin: its entry point, the metadata of its distribution, and what importing it does."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from nectargan_core._core_requirement import CORE, core_requirement
from nectargan_core._process import run_python
from nectargan_core.catalog import Plugin
from nectargan_core.testing._outcomes import Check, CheckFailed, NotApplicable, named

_TIMEOUT_S = 120.0

HEAVY = {
    "IPython": "is for interactive use",
    "accelerate": "starts slowly and looks for devices",
    "albumentations": "starts slowly, and brings OpenCV",
    "cv2": "starts slowly, and sets the number of threads",
    "datasets": "starts slowly",
    "diffusers": "starts slowly",
    "jax": "starts slowly, and takes memory of the device",
    "kornia": "takes a second to import",
    "librosa": "takes seconds to import, with numba and scipy",
    "lightning": "takes seconds to import",
    "lpips": "imports torchvision",
    "matplotlib": "takes a second to import, and is for plots",
    "mlflow": "takes seconds to import",
    "monai": "takes seconds to import",
    "numba": "takes a second to import",
    "open_clip": "takes seconds to import",
    "pandas": "takes a second to import",
    "piq": "imports torchvision",
    "pytorch_lightning": "takes seconds to import",
    "scipy": "takes a part of a second to import",
    "seaborn": "imports pandas and matplotlib",
    "skimage": "takes a second to import, with scipy",
    "sklearn": "takes a second to import, with scipy",
    "tensorboard": "takes seconds to import",
    "tensorflow": "takes seconds to import, and takes memory of the device",
    "timm": "takes seconds to import, with torchvision",
    "torchaudio": "must match the build of torch",
    "torchmetrics": "takes seconds to import",
    "torchvision": "takes seconds to import, and must match the build of torch",
    "transformers": "takes seconds to import",
    "wandb": "takes seconds to import, and starts threads",
}
"""Modules that no plugin should import before it needs them, each with the reason."""

# The program of the other process. It needs nothing of the kit, so that it sees only what is installed.
_CHILD = """
import json, os, sys, traceback
task = json.loads(open(sys.argv[1], encoding="utf-8").read())
own = [each for each in sys.path if each]
sys.path[:] = [each for each in task["path"] if each not in own] + own
network = []

def watch(event, arguments):
    where = None
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        where = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[-1], tuple):
        where = arguments[-1][0]
    if where is not None:
        network.append(where.decode("utf-8", "replace") if isinstance(where, bytes) else str(where))
        raise OSError("there is no network while a package is imported")

found = {"failure": None, "missing": None, "metadata": None, "imported": False, "heavy": [], "network": network}
try:
    import importlib.metadata
    for each in importlib.metadata.distribution(task["dist"]).entry_points:
        if (each.group, each.name) == (task["group"], task["name"]):
            found["metadata"] = each.value
except Exception:
    pass
try:
    import importlib
    sys.addaudithook(watch)
    module, _, attributes = task["target"].partition(":")
    loaded = importlib.import_module(module)
    found["imported"] = True
    found["heavy"] = sorted(name for name in task["heavy"] if name in sys.modules)
    for attribute in filter(None, attributes.split(".")):
        loaded = getattr(loaded, attribute)
except BaseException as error:
    text = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    found["failure"] = text[-1][:300] if text else type(error).__name__
    found["missing"] = error.name if isinstance(error, ModuleNotFoundError) else None
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(found, file)
os._exit(0)
"""


@dataclass(frozen=True)
class _Probe:
    """What another process found when it imported a plugin.

    Args:
        failure: What importing it, or finding its attribute, raised, in one line; None where it was found.
        missing: The name of the module that was not found, if that was the failure.
        imported: Whether its module could be imported.
        metadata: The target of its entry point in the metadata that the other process found, if any.
        heavy: Which modules of `HEAVY` it imported.
        network: The hosts that it asked for or connected to.
    """

    failure: str | None
    missing: str | None
    imported: bool
    metadata: str | None
    heavy: tuple[str, ...]
    network: tuple[str, ...]


class HasPlugin(Protocol):
    """What a check of a plugin looks at, where the plugin is only a part of it."""

    @property
    def plugin(self) -> Plugin | None:
        """The installed plugin; None for code that is checked without being installed as one."""


def entry_point(plugin: Plugin) -> None:
    """Its entry point resolves from the installed package, in a process that starts in an empty directory."""
    found = _probe(plugin)
    if found.network:
        raise NotApplicable("the import uses the network, as the check `imports` tells")
    if found.metadata is None:
        raise CheckFailed(
            f"{plugin.dist} is found only from the current directory, with the entry point {plugin.name!r}; install "
            "it: pip install -e ."
        )
    if found.failure is None:
        return
    package = plugin.module.partition(".")[0]
    if found.missing is not None and found.missing.partition(".")[0] == package:
        raise CheckFailed(
            f"the entry point {plugin.name!r} names {plugin.target!r}, and the installed {plugin.dist} has no module "
            f"{found.missing!r}; correct the entry point, or let the build include that package (what the current "
            "directory holds does not count)"
        )
    if found.missing is not None:
        raise CheckFailed(
            f"importing {plugin.module!r} needs the module {found.missing!r}, which is not installed; add what "
            "provides it to the dependencies in pyproject.toml, or import it where it is used"
        )
    raise CheckFailed(
        f"the entry point {plugin.name!r} names {plugin.target!r}, which cannot be had: {found.failure}; it must be "
        "module:attribute of the installed package"
    )


def metadata(plugin: Plugin) -> None:
    """Its distribution says which Python and which nectargan-core it needs, with an upper bound for the latter."""
    try:
        distribution = importlib_metadata.distribution(plugin.dist)
    except importlib_metadata.PackageNotFoundError:
        raise CheckFailed(f"{plugin.dist} has no metadata that can be found; install it: pip install -e .") from None
    faults = [*_python_faults(distribution), *_core_faults(distribution, plugin.dist)]
    if faults:
        raise CheckFailed(f"pyproject.toml of {plugin.dist}: {'; '.join(faults)}")


def imports(plugin: Plugin) -> None:
    """Importing it imports nothing heavy and uses no network."""
    found = _probe(plugin)
    faults = []
    if found.network:
        faults.append(
            f"importing {plugin.module!r} asks the network for {', '.join(dict.fromkeys(found.network))}; download in "
            "the function that needs it, when it is called"
        )
    if found.heavy:
        which = "; ".join(f"{name} {HEAVY[name]}" for name in found.heavy)
        faults.append(
            f"importing {plugin.module!r} imports {', '.join(found.heavy)} ({which}); import it in the function that "
            "uses it"
        )
    if faults:
        raise CheckFailed("; ".join(faults))
    if not found.imported:
        raise NotApplicable("it cannot be imported, as the check `entry_point` tells")


CHECKS: tuple[Check[Plugin], ...] = (named(entry_point), named(metadata), named(imports))
"""The checks of any installed plugin; the subject is the plugin."""


def for_subjects(checks: Iterable[Check[Plugin]] = CHECKS) -> tuple[Check[Any], ...]:
    """Return checks of a plugin as checks of a subject that has an attribute `plugin`.

    Where that is None, they are skipped: what is checked is not an installed plugin.
    """
    return tuple(Check(check.name, _of_subject(check.run)) for check in checks)


def _of_subject(run: Callable[[Plugin], None]) -> Callable[[HasPlugin], None]:
    @functools.wraps(run)
    def of_subject(subject: HasPlugin) -> None:
        if subject.plugin is None:
            raise NotApplicable("it was given as an object, not by the name of an installed plugin")
        run(subject.plugin)

    return of_subject


# Another process


def _probe(plugin: Plugin) -> _Probe:
    """Import a plugin in another process; what was found is kept as long as neither its code nor the path changes."""
    return _probe_once(plugin, _installed_path(), _stamp(plugin))


@functools.lru_cache(maxsize=32)
def _probe_once(plugin: Plugin, path: tuple[str, ...], stamp: object) -> _Probe:
    task = {**asdict(plugin), "path": path, "heavy": list(HEAVY)}
    ended = run_python(_CHILD, task, _TIMEOUT_S, in_empty_directory=True)
    try:
        found: dict[str, Any] = json.loads(ended.result)
    except ValueError:
        advice = "" if ended.is_late else "; a plugin must not end the process that imports it"
        raise CheckFailed(f"importing {plugin.module!r} {ended.how}{advice}") from None
    found["heavy"], found["network"] = tuple(found["heavy"]), tuple(found["network"])
    return _Probe(**found)


def _installed_path() -> tuple[str, ...]:
    """The directories of this process's path that distributions are installed in.

    The other process has its own path, too. What only the current directory, or a setting of pytest, put on the path
    of this process is not there.
    """
    places = (pathlib.Path(each or os.curdir) for each in sys.path)
    return tuple(str(place.resolve()) for place in places if any(place.glob("*.dist-info")))


def _stamp(plugin: Plugin) -> object:
    """Return something that changes when the code of a plugin does."""
    try:
        spec = importlib.util.find_spec(plugin.module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = pathlib.Path(spec.origin)
    files = origin.parent.rglob("*.py") if spec.submodule_search_locations else [origin]
    return tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files if file.is_file()))


# Metadata


def _python_faults(distribution: Any) -> list[str]:
    requires = distribution.metadata.get("Requires-Python")
    if requires is None:
        return ['requires-python is missing; add requires-python = ">=3.10"']
    try:
        running = ".".join(map(str, sys.version_info[:3]))
        if not SpecifierSet(requires).contains(running, prereleases=True):
            return [f"requires-python is {requires!r}, which does not admit this Python, {running}; widen it"]
    except InvalidSpecifier:
        return [f'requires-python is {requires!r}, which cannot be read; write ">=3.10"']
    return []


def _core_faults(distribution: Any, name: str) -> list[str]:
    if canonicalize_name(name) == CORE:
        return []
    advised = core_requirement()
    if advised is None:
        return []
    running = importlib_metadata.version(CORE)
    advice = f'write "{advised}" in dependencies'
    ranges = [range_ for line in distribution.requires or () if (range_ := _core_range(line)) is not None]
    if not ranges:
        return [f"it does not require {CORE}; {advice}"]
    faults = []
    if not all(each.contains(running, prereleases=True) for each in ranges):
        faults.append(f"it requires {CORE}{','.join(map(str, ranges))}, and this is {running}; {advice}")
    if not any(one.operator in ("<", "<=", "==", "===", "~=") for each in ranges for one in each):
        faults.append(
            f"it requires {CORE}{','.join(map(str, ranges))} without an upper bound, and would break with the next "
            f"release that changes something; {advice}"
        )
    return faults


def _core_range(requirement: str) -> SpecifierSet | None:
    """Return the versions of nectargan-core that a requirement admits; None where it is about something else."""
    try:
        read = Requirement(requirement)
        applies = read.marker is None or read.marker.evaluate({"extra": ""})
    except (InvalidRequirement, KeyError, ValueError):
        return None
    return read.specifier if applies and canonicalize_name(read.name) == CORE else None
