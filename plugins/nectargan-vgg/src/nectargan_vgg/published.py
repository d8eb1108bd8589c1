"""The weights that torchvision publishes: downloaded once, checked, and cached as a slim copy of the layers in use."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from nectargan_core.errors import WeightsError
from nectargan_vgg.checkpoint import cache_folder, read_checkpoint, weights_error
from nectargan_vgg.network import CONVOLUTIONS

_ANSWER_SECONDS = 30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedWeights:
    """torchvision's `VGG19_Weights.IMAGENET1K_V1`, through the cache of `torch.hub`.

    Args:
        url: Where the file is.
        sha256_prefix: The first hexadecimal digits of its SHA-256.
    """

    url: str
    sha256_prefix: str

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the tensors under these keys from the slim copy, else from the whole file, downloaded if necessary.

        Raises:
            WeightsError: If the file cannot be downloaded, or is not the published one.
        """
        full = cache_folder() / self.url.rpartition("/")[2]
        state = _read_slim(full, shapes)
        if state is None and full.is_file():
            self._check_hash(full, f"{full} is not the published file; delete it to have it fetched again")
            state = _read_and_slim(full, shapes)
        if state is None:
            with _one_process_at_a_time(full):
                # Another process may have done all the work while this one waited.
                state = _read_slim(full, shapes)
                if state is None:
                    if not full.is_file():
                        self._fetch(full)
                    state = _read_and_slim(full, shapes)
        return state

    def _fetch(self, full: Path) -> None:
        partial = full.with_name(f"{full.name}.partial")
        try:
            size = _published_size(self.url)
            _say(
                f"fetching the weights of VGG19, {_mebibytes(size)}, from {self.url} into {full.parent}: the loss "
                "compares images by the features of this network. This happens once; later starts read only the "
                "layers in use"
            )
            torch.hub.download_url_to_file(self.url, str(partial), progress=True)
            received = partial.stat().st_size
            if size is not None and received < size:
                raise weights_error(
                    f"the connection to {self.url} was cut after {_mebibytes(received)} of {_mebibytes(size)}; "
                    "try again"
                )
            self._check_hash(partial, f"what {self.url} sent is not the published file")
            partial.replace(full)
        except WeightsError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection open
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise weights_error(f"cannot fetch {self.url} ({reason})") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _check_hash(self, path: Path, complaint: str) -> None:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise weights_error(f"cannot read {path} ({error.strerror})") from error
        found = digest.hexdigest()
        if not found.startswith(self.sha256_prefix):
            raise weights_error(
                f"{complaint}: its {_mebibytes(path.stat().st_size)} have a SHA-256 that begins with {found[:8]}, "
                f"not with {self.sha256_prefix}"
            )


def _slim_path(full: Path, convolutions: int) -> Path:
    return full.with_name(f"nectargan-{full.stem}-first{convolutions}.pth")


def _read_slim(full: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    needed = len(shapes) // 2
    for convolutions in range(needed, len(CONVOLUTIONS) + 1):
        path = _slim_path(full, convolutions)
        if path.is_file():
            # A damaged copy is replaced by a new one, made from the whole file.
            with contextlib.suppress(WeightsError):
                return read_checkpoint(path, shapes)
    return None


def _read_and_slim(full: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    state = read_checkpoint(full, shapes)
    path = _slim_path(full, len(shapes) // 2)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    # A read-only cache, as on many clusters, is not an error; the next start only takes longer.
    with contextlib.suppress(OSError, RuntimeError):
        try:
            torch.save({key: value.clone() for key, value in state.items()}, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return state


@contextlib.contextmanager
def _one_process_at_a_time(full: Path) -> Iterator[None]:
    lock = FileLock(full.with_name(f"{full.name}.lock"))
    try:
        full.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"another process is fetching {full.name}; waiting for it")
            lock.acquire()
    except OSError as error:
        reason = error.strerror or error
        raise weights_error(f"cannot write to the cache folder {full.parent} ({reason})") from error
    try:
        yield
    finally:
        lock.release()


def _published_size(url: str) -> int | None:
    # Requested first, with a timeout, which torch.hub does not set: without a network the error should come soon.
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 -- the constant above, https
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 -- likewise
        length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _mebibytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 2**20:.1f} MiB"


def _say(text: str) -> None:
    print(f"nectargan-vgg: {text}", file=sys.stderr, flush=True)
