"""Weights that are published: downloaded once, checked, and cached as a slim copy of the layers in use.

Whoever else can write to the cache folder can put other weights there, and can take files away; nobody can have them
used. The published file is checked against the hash in the code whenever it is read. A slim copy is checked
against the hash that was recorded when the copy was made, in a folder that only this user can write (`records.py`).
Its hash is no constant as that of the published file is, since its bytes depend on the version of torch. Both are
read into memory first, so that what is parsed is what was checked. Somebody who acts as this user, or as root, can
change records as well as this code, and is not kept out.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from nectargan_core.errors import NectarganWarning, WeightsError
from nectargan_vgg import records
from nectargan_vgg.checkpoint import Checkpoint, cache_folder, parse_checkpoint
from nectargan_vgg.files import is_regular, read_regular, remove_leftovers, replacing

_ANSWER_SECONDS = 30
_STALL_SECONDS = 120
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedWeights:
    """The weights of a published checkpoint, through the cache of `torch.hub`.

    Args:
        checkpoint: The checkpoint.
    """

    checkpoint: Checkpoint

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the tensors under these keys from a slim copy, else from the published file, downloaded if necessary.

        A slim copy that is not the one that this user made is replaced by a new one, with a `NectarganWarning`.

        Raises:
            WeightsError: If the published file cannot be downloaded, or what is in its place is another file.
        """
        full = cache_folder() / self.checkpoint.file
        state, complaints = self._from_copy(full, shapes)
        if state is not None and not complaints:
            return state
        with self._one_process_at_a_time(full.name):
            # Another process may have done all the work while this one waited.
            state, complaints = self._from_copy(full, shapes)
            for complaint in complaints:
                warnings.warn(complaint, NectarganWarning, stacklevel=2)
            if state is None or complaints:
                if state is None:
                    state = self._from_published(full, shapes)
                if self.checkpoint.copied:
                    self._keep_copy(full, state)
        return state

    def files(self) -> dict[str, str]:
        """Return the name and the SHA-256 of the published file, also where a slim copy of it is read."""
        return {self.checkpoint.file: self.checkpoint.sha256}

    def has_copy(self, sha256: str) -> bool:
        """Say whether a file with this SHA-256 is a slim copy that this user made of the published one."""
        try:
            return any(records.is_recorded(self._name_of(layers, sha256)) for layers in range(1, self._layers() + 1))
        except OSError:
            return False

    def _from_copy(
        self, full: Path, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, Tensor] | None, list[str]]:
        """Read a slim copy with enough layers, and say of others why they are not used."""
        complaints: list[str] = []
        for layers in range(max(1, len(shapes) // 2), self._layers() + 1):
            path = _copy_path(full, layers)
            try:
                data = read_regular(path)
                if records.is_recorded(self._record_name(layers, data)):
                    return parse_checkpoint(self.checkpoint, data, path, shapes), complaints
                reason = (
                    f"its SHA-256 is not on record in {records.folder()}, so it is damaged, or exchanged, or was made "
                    "by another user or elsewhere"
                )
            except (FileNotFoundError, NotADirectoryError):
                continue
            except WeightsError as error:
                reason = str(error).partition("\n")[0].removesuffix(".")
            except OSError as error:
                reason = error.strerror or str(error)
            complaints.append(
                f"{self.checkpoint.distribution}: {path} is not used: {reason}; the weights are read from the "
                "published file instead, and a new copy is made"
            )
        return None, complaints

    def _layers(self) -> int:
        return len(self.checkpoint.parameters) // 2 if self.checkpoint.copied else 0

    def _from_published(self, full: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        if not is_regular(full):
            self._fetch(full)
        try:
            # A symlink is followed here, since it may be the user's own, and the hash decides.
            data = read_regular(full, follow=True)
        except OSError as error:
            raise self.checkpoint.error(f"cannot read {full} ({error.strerror})") from error
        self._check_hash(
            hashlib.sha256(data).hexdigest(),
            len(data),
            f"{full} is not the published file; delete it to have it fetched again",
        )
        return parse_checkpoint(self.checkpoint, data, full, shapes)

    def _keep_copy(self, full: Path, state: Mapping[str, Tensor]) -> None:
        layers = len(state) // 2
        file = io.BytesIO()
        torch.save({key: value.clone() for key, value in state.items()}, file)
        data = file.getvalue()
        # A read-only cache, as on many clusters, is not an error; the next start only takes longer.
        with contextlib.suppress(OSError):
            records.record(self._record_name(layers, data))  # first: without its record a copy is of no use
            with replacing(_copy_path(full, layers)) as copy:
                copy.write(data)

    def _record_name(self, layers: int, copy: bytes) -> str:
        return self._name_of(layers, hashlib.sha256(copy).hexdigest())

    def _name_of(self, layers: int, sha256: str) -> str:
        # With the hash of the published file, so that a copy of other weights is not taken for one of these.
        return f"{self.checkpoint.sha256}-first{layers}-{sha256}"

    def _fetch(self, full: Path) -> None:
        if full.is_dir() and not full.is_symlink():
            raise self.checkpoint.error(f"{full} is a folder, where the published file should be; remove it")
        try:
            full.parent.mkdir(parents=True, exist_ok=True)
            for name in (full.name, *(_copy_path(full, number).name for number in range(1, self._layers() + 1))):
                remove_leftovers(full.parent, name)
            with replacing(full) as file:
                self._download(file, full.parent)
        except WeightsError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise self.checkpoint.error(f"cannot write to the cache folder {full.parent} ({reason})") from error

    def _download(self, file: BinaryIO, folder: Path) -> None:
        try:
            size = self._published_size()
            self._say(
                f"fetching the weights of {self.checkpoint.network}, {_mebibytes(size)}, from {self.checkpoint.url} "
                f"into {folder}: the loss compares images by them. This happens once"
                f"{'; later starts read only the layers in use' if self.checkpoint.copied else ''}"
            )
            digest = hashlib.sha256()
            received = 0
            for chunk in self._chunks():
                file.write(chunk)
                digest.update(chunk)
                self._show_progress(received, received + len(chunk), size)
                received += len(chunk)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection open
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise self.checkpoint.error(f"cannot fetch {self.checkpoint.url} ({reason})") from error
        if size is not None and received < size:
            raise self.checkpoint.error(
                f"the connection to {self.checkpoint.url} was cut after {_mebibytes(received)} of "
                f"{_mebibytes(size)}; try again"
            )
        self._check_hash(digest.hexdigest(), received, f"what {self.checkpoint.url} sent is not the published file")

    def _check_hash(self, found: str, size: int, complaint: str) -> None:
        if found != self.checkpoint.sha256:
            raise self.checkpoint.error(
                f"{complaint}: its {_mebibytes(size)} have the SHA-256 {found}, not {self.checkpoint.sha256}"
            )

    @contextlib.contextmanager
    def _one_process_at_a_time(self, name: str) -> Iterator[None]:
        # Only to spare work: files are replaced as a whole, so that without the lock each process does the work itself.
        # The lock is apart from the cache folder, where others could hold it for ever, or put something in its place.
        with contextlib.ExitStack() as stack:
            # filelock raises NotImplementedError on a file system without locks.
            with contextlib.suppress(OSError, NotImplementedError):
                lock = FileLock(records.private_folder() / f"{name}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    self._say(f"another process is fetching {name}, or reading it to make a slim copy; waiting for it")
                    lock.acquire()
                stack.callback(lock.release)
            yield

    def _published_size(self) -> int | None:
        # Asked for first, with a short timeout: without a network the error should come soon.
        with self._open(_ANSWER_SECONDS, "HEAD") as answer:
            length = answer.headers.get("Content-Length")
        return int(length) if length else None

    def _chunks(self) -> Iterator[bytes]:
        with self._open(_STALL_SECONDS, "GET") as answer:
            try:
                while chunk := answer.read(_CHUNK):
                    yield chunk
            except http.client.IncompleteRead as error:  # some versions of Python raise it where others end
                yield error.partial

    def _open(self, seconds: int, method: str) -> http.client.HTTPResponse:
        headers = {"User-Agent": self.checkpoint.distribution}
        request = urllib.request.Request(self.checkpoint.url, headers=headers, method=method)  # noqa: S310 -- the constant, https
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=seconds)  # noqa: S310 -- likewise
        return answer

    def _show_progress(self, before: int, now: int, size: int | None) -> None:
        percent = 100 * now // size if size else 0
        if size and percent > 100 * before // size:
            end = "\n" if now >= size else ""
            print(
                f"\r{self.checkpoint.distribution}: {percent} % of {_mebibytes(size)}",
                end=end,
                file=sys.stderr,
                flush=True,
            )

    def _say(self, text: str) -> None:
        print(f"{self.checkpoint.distribution}: {text}", file=sys.stderr, flush=True)


def _copy_path(full: Path, layers: int) -> Path:
    return full.with_name(f"nectargan-{full.stem}-first{layers}.pth")


def _mebibytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 2**20:.1f} MiB"
