"""The manifest of a release directory, read and held against the files beside it.

Everything here is about bytes on a disk: format, names, checksums, and that no file is a pickle. Knows nothing of
encoders or of what makes a vector right.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from model.encoder.files import check_safetensors
from model.errors import EncoderError, Refusal, ReleaseRefused
from model.space import file_sha256
from schemas.codec import decode_manifest
from schemas.errors import ManifestError
from schemas.release import MANIFEST_FILE, MANIFEST_FORMAT, Manifest

ENCODER: Final = "encoder"
"""Folder of a release that has an encoder of its own."""
AGAIN: Final = "fetch or publish the release again"
MAX_MANIFEST: Final = 16 << 20
"""Bytes."""

_WEIGHTS_ELSEWHERE: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".msgpack"})


def read_manifest(path: Path) -> tuple[bytes, Manifest]:
    """The manifest of the directory `path`, as bytes and as a value. Raises ReleaseRefused."""
    file = path / MANIFEST_FILE
    try:
        # Another kind of file (a pipe, a device) may never come to its end; a link may lead anywhere.
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ReleaseRefused(Refusal.UNSAFE_PATH, f"{file} is no file but a link or a device", AGAIN)
        with file.open("rb") as opened:
            data = opened.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise ReleaseRefused(
            Refusal.NO_MANIFEST, f"{file} cannot be read ({error.strerror})", "give the directory of a release"
        ) from error
    return data, parse_manifest(data, str(file))


def parse_manifest(data: bytes, file: str) -> Manifest:
    """Bytes → manifest; file: where they come from, for messages. Raises ReleaseRefused."""
    if len(data) > MAX_MANIFEST:
        raise ReleaseRefused(Refusal.BAD_MANIFEST, f"{file} has over {MAX_MANIFEST} bytes", AGAIN)
    found = _json(data)
    version = found.get("format", MANIFEST_FORMAT)
    if version != MANIFEST_FORMAT or isinstance(version, bool):
        raise ReleaseRefused(
            Refusal.UNKNOWN_FORMAT, f"{file} is of format {version!r}, not {MANIFEST_FORMAT}", "upgrade this program"
        )
    for name in _file_names(found):
        if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ReleaseRefused(Refusal.UNSAFE_PATH, f"{file} names {name!r}, which leads out of the release", AGAIN)
    if (reference := _reference(found)) is not None and ("\\" in reference or ".." in PurePosixPath(reference).parts):
        raise ReleaseRefused(
            Refusal.UNSAFE_PATH, f"{file} refers to the encoder {reference!r}, a way that leads elsewhere", AGAIN
        )
    try:
        return decode_manifest(data)
    except ManifestError as error:
        raise ReleaseRefused(Refusal.BAD_MANIFEST, f"{file}: {error}", AGAIN) from error


def inside(releases: Path, place: str) -> Path:
    """The release directory `place`, if it lies in `releases`: what a note or a message names is not to be believed.

    Raises ReleaseRefused (unsafe_path); links are followed.
    """
    with suppress(OSError, ValueError, RuntimeError):
        if releases.resolve() in Path(place).resolve().parents:
            return Path(place)
    raise ReleaseRefused(
        Refusal.UNSAFE_PATH, f"{place!r} is not in the directory of releases, {releases}", "set KINDRED_RELEASES"
    )


def check_files(path: Path, manifest: Manifest) -> None:
    """Every file that the manifest names is there, inside the directory, unchanged, and no pickle.

    Raises ReleaseRefused.
    """
    used = [f"{ENCODER}/{name}" for name in manifest.encoder.files] if manifest.encoder.reference is None else []
    used += [manifest.head.file] if manifest.head else []
    for name in used:
        if name not in manifest.checksums:
            raise ReleaseRefused(Refusal.CHECKSUM, f"the manifest has no checksum for {name}", AGAIN)
    for name, expected in manifest.checksums.items():
        file = path / name
        if not file.is_file():
            raise ReleaseRefused(Refusal.MISSING_FILE, f"{file} is not there", AGAIN)
        if not file.resolve().is_relative_to(path.resolve()):
            raise ReleaseRefused(Refusal.UNSAFE_PATH, f"{file} is a link that leads out of the release", AGAIN)
        if file.suffix in _WEIGHTS_ELSEWHERE:
            raise ReleaseRefused(Refusal.NOT_SAFETENSORS, f"{file} is not safetensors", "publish safetensors only")
        if file_sha256(file) != expected:
            raise ReleaseRefused(Refusal.CHECKSUM, f"{file} is not what the manifest says", AGAIN)
        if file.suffix == ".safetensors" or (manifest.head and name == manifest.head.file):
            try:
                check_safetensors(file)
            except EncoderError as error:
                raise ReleaseRefused(Refusal.NOT_SAFETENSORS, str(error), "publish safetensors only") from error


def _json(data: bytes) -> Mapping[str, Any]:
    """The manifest before it is validated, to tell an unknown format and an unsafe path from any other fault."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reference(found: Mapping[str, Any]) -> str | None:
    encoder = found.get("encoder")
    reference = encoder.get("reference") if isinstance(encoder, dict) else None
    return reference if isinstance(reference, str) else None


def _file_names(found: Mapping[str, Any]) -> Iterator[str]:
    encoder, head = found.get("encoder"), found.get("head")
    for names in (found.get("checksums"), encoder.get("files") if isinstance(encoder, dict) else None):
        if isinstance(names, dict):
            yield from names
    if isinstance(head, dict) and isinstance(head.get("file"), str):
        yield head["file"]
