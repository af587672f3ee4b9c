"""Which releases there are, and one of them on this machine, with every byte as its manifest has it.

A release behind a URL is copied into the directory of KINDRED_RELEASES' copies; one in a plain directory lies there
already. Nothing is loaded, and whether a release gives the right vectors is not known here: see model/release.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.errors import Refusal, ReleaseRefused
from model.manifest import AGAIN, check_files, inside, parse_manifest, read_manifest
from model.remote import Remote, open_remote
from model.write import ASIDE, discard_directory, write_directory
from schemas.release import MANIFEST_FILE, Manifest
from schemas.settings import ReleasePlace


@dataclass(frozen=True, slots=True)
class Listed:
    """manifests: newest first. unreadable: why, of each that cannot be read."""

    manifests: tuple[Manifest, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """A release whose files are what the manifest says. sha256: of the manifest file."""

    path: Path
    manifest: Manifest
    sha256: str


def listed(place: ReleasePlace) -> Listed:
    """All releases, told by their manifests only: nothing else is looked at. Raises ReleasesUnreachable."""
    found: dict[str, Manifest] = {}
    unreadable: list[str] = []
    for name, read in _manifests(place):
        try:
            found.setdefault(name, read())
        except ReleaseRefused as refused:
            unreadable.append(f"{name}: {refused}")
    newest = sorted(found.values(), key=lambda manifest: (manifest.created_at, manifest.name), reverse=True)
    return Listed(tuple(newest), tuple(unreadable))


def fetch(place: ReleasePlace, name: str, sha256: str | None = None) -> Whole:
    """The release of this name, on this machine and with every file as its manifest says. sha256: of the manifest that
    is meant, None for the one that is there.

    A copy that is not what stands behind the URL is made anew; a release that is only here and not there is taken as it
    is. Raises ReleaseRefused, ReleaseUnwritten and ReleasesUnreachable.
    """
    path = inside(place.directory, str(place.directory / name))
    remote = None if place.url is None else open_remote(place.url)
    data = None if remote is None else remote.manifest(name)
    if remote is not None and data is not None:
        _copy(remote, path, data, sha256)
    return _whole(path, sha256)


def name_under(place: ReleasePlace, uri: str) -> str:
    """The name of the release that an announcement's uri stands for. Raises ReleaseRefused (unsafe_path) for one that
    is not directly under KINDRED_RELEASES."""
    if place.url is None:
        path = inside(place.directory, uri)
        parent, name = path.resolve().parent == place.directory.resolve(), path.name
    else:
        parent, name = uri.rpartition("/")[0] == place.url, uri.rpartition("/")[2]
    if not parent or name in ("", ".", ".."):
        raise ReleaseRefused(
            Refusal.UNSAFE_PATH, f"{uri!r} is not directly under {place.url or place.directory}", "set KINDRED_RELEASES"
        )
    return name


def _manifests(place: ReleasePlace) -> Iterator[tuple[str, Callable[[], Manifest]]]:
    if place.url is not None:
        remote = open_remote(place.url)
        for name in remote.names():
            yield name, partial(_remote_manifest, remote, name)
    for file in sorted(place.directory.glob(f"*/{MANIFEST_FILE}")):
        if not file.parent.name.startswith(ASIDE):
            yield file.parent.name, partial(_local_manifest, file.parent)


def _remote_manifest(remote: Remote, name: str) -> Manifest:
    return parse_manifest(remote.manifest(name) or b"", f"{remote.uri(name)}/{MANIFEST_FILE}")


def _local_manifest(path: Path) -> Manifest:
    return read_manifest(path)[1]


def _copy(remote: Remote, path: Path, data: bytes, sha256: str | None) -> None:
    """Behind the URL → `path`, unless it is there already, whole and the same."""
    found = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, found):
        raise ReleaseRefused(
            Refusal.CHECKSUM, f"the manifest of {remote.uri(path.name)} is not the one that was announced", AGAIN
        )
    if (path / MANIFEST_FILE).exists():
        try:
            _whole(path, found)
        except ReleaseRefused:
            discard_directory(path)
        else:
            return
    manifest = parse_manifest(data, f"{remote.uri(path.name)}/{MANIFEST_FILE}")

    def fill(aside: Path) -> bytes:
        for name in manifest.checksums:
            remote.fetch(path.name, name, aside / name)
        check_files(aside, manifest)
        return data

    write_directory(path, fill)


def _whole(path: Path, sha256: str | None) -> Whole:
    data, manifest = read_manifest(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, found):
        raise ReleaseRefused(Refusal.CHECKSUM, f"the manifest in {path} is not the one that was announced", AGAIN)
    if manifest.name != path.name:
        raise ReleaseRefused(Refusal.BAD_MANIFEST, f"{path} holds the release {manifest.name!r}", AGAIN)
    check_files(path, manifest)
    return Whole(path, manifest, found)
