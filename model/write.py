"""A directory that is whole or not there, whenever its writer is killed; and a release written as one.

Knows nothing of encoders, nor of whether what it writes deserves to be served.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock

from model.errors import ReleaseUnwritten
from model.space import file_sha256
from schemas.codec import encode_manifest
from schemas.release import MANIFEST_FILE, Manifest

ASIDE: Final = ".aside-"
"""How a directory is called that is no release yet, or none any more. One that nobody works on belonged to a process
that was killed."""

_LOCK: Final = ".writing.lock"


def write_release(releases: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Path:
    """The directory `releases/NAME` of a new release, whole and on the disk. files: name inside it → content, or the
    file to copy; their checksums take the place of the manifest's.

    Raises ReleaseUnwritten, also where a release of that name is there already.
    """
    path = releases / manifest.name

    def fill(aside: Path) -> bytes:
        checksums = {}
        with _onto_disk(path):
            for name, content in files.items():
                file = aside / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content) if isinstance(content, bytes) else shutil.copyfile(content, file)
                checksums[name] = file_sha256(file)
        return encode_manifest(Manifest.model_validate(manifest.model_dump() | {"checksums": checksums}))

    if not write_directory(path, fill):
        raise ReleaseUnwritten(f"there is a release {path} already; give the new one another name")
    return path


def write_directory(path: Path, fill: Callable[[Path], bytes]) -> bool:
    """Make the release directory `path`; whether it was made: one that is there stays as it is.

    `fill` puts the files into the directory that it is given and returns the manifest's bytes. In order: a directory
    aside, its files, each on the disk, the manifest, the name; a reader sees all of it or nothing. Any number of
    processes may do so at once: one does, and the others find it done. Raises ReleaseUnwritten, and what `fill` raises.
    """
    if (path / MANIFEST_FILE).is_file():
        return False
    with _locked(path):
        if (path / MANIFEST_FILE).is_file():
            return False
        with _onto_disk(path):
            aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=path.parent))
        try:
            manifest = fill(aside)
            with _onto_disk(path):
                _seal(aside, manifest)
                aside.rename(path)
                _sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return True


def discard_directory(path: Path) -> None:
    """Remove a release: first its name, so that nobody ever reads half of it. Raises ReleaseUnwritten."""
    with _locked(path), _onto_disk(path):
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=path.parent))
        path.rename(aside / path.name)
        _sync(path.parent)
        shutil.rmtree(aside)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time, and what killed ones left is gone. The lock ends with its holder, whatever ends that."""
    with _onto_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / _LOCK)
        lock.acquire()
    try:
        for left in path.parent.glob(f"{ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextmanager
def _onto_disk(release: Path) -> Iterator[None]:
    """The disk's errors as ours. Raises ReleaseUnwritten."""
    try:
        yield
    except OSError as error:
        raise ReleaseUnwritten(
            f"the release {release} could not be written ({error.strerror or error}); make room there, let this "
            "program write there, or name another directory in KINDRED_RELEASES"
        ) from error


def _seal(aside: Path, manifest: bytes) -> None:
    """Everything onto the disk, the manifest last."""
    inside = sorted(aside.rglob("*"), reverse=True)  # what a directory holds stands before it
    for each in inside:
        _sync(each)
    with (aside / MANIFEST_FILE).open("wb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    aside.chmod(0o755)
    _sync(aside)


def _sync(file_or_directory: Path) -> None:
    descriptor = os.open(file_or_directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
