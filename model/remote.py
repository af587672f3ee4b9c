"""Releases behind a URL that fsspec reads and writes: listed, uploaded, removed, their bytes read.

Nothing here is verified: `model/fetch.py` decides what of it may lie in a directory that releases are loaded from. What
the place is asked for with (keys, endpoints) is fsspec's own configuration and never in the URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec

from model.errors import ReleasesUnreachable
from model.manifest import MAX_MANIFEST
from schemas.release import MANIFEST_FILE, Manifest

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Remote:
    """url: without a slash at its end. files: fsspec's file system. root: the URL's path on it.

    Every call raises ReleasesUnreachable where the place does not do what is asked.
    """

    url: str
    files: Any
    root: str

    def uri(self, name: str) -> str:
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        """Of every release that is whole: its manifest, which is written last, is there."""
        with self._doing("listed"):
            self.files.invalidate_cache()
            found = [file.split("/")[-2] for file in self.files.glob(f"{self.root}/*/{MANIFEST_FILE}")]
        return sorted(name for name in found if _NAME.fullmatch(name))

    def manifest(self, name: str) -> bytes | None:
        """Its bytes, no more than may be read of any; None where there is no such release."""
        with self._doing("read"):
            self.files.invalidate_cache()
            try:
                with self.files.open(f"{self.root}/{name}/{MANIFEST_FILE}", "rb") as file:
                    data: bytes = file.read(MAX_MANIFEST + 1)
            except FileNotFoundError:
                return None
        return data

    def fetch(self, name: str, file: str, into: Path) -> None:
        """One file of a release, to `into`."""
        with self._doing("read"):
            into.parent.mkdir(parents=True, exist_ok=True)
            self.files.get_file(f"{self.root}/{name}/{file}", str(into))

    def upload(self, path: Path, manifest: Manifest, data: bytes) -> None:
        """The release directory `path`; data: its manifest's bytes, which come last. What a killed upload left is
        written over."""
        with self._doing("written"):
            for file in manifest.checksums:
                target = f"{self.root}/{path.name}/{file}"
                self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.files.put_file(str(path / file), target)
            self.files.makedirs(f"{self.root}/{path.name}", exist_ok=True)
            self.files.pipe_file(f"{self.root}/{path.name}/{MANIFEST_FILE}", data)

    def remove(self, name: str) -> None:
        """A release, its manifest first."""
        with self._doing("removed"):
            self.files.rm_file(f"{self.root}/{name}/{MANIFEST_FILE}")
            self.files.rm(f"{self.root}/{name}", recursive=True)

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Each file system has errors of its own, and what they say may hold what it was configured with.
            said = getattr(error, "strerror", None) or type(error).__name__
            raise ReleasesUnreachable(
                f"releases at {self.url} could not be {what} ({said}); check the address, the network, the "
                "rights there, and the room on this disk"
            ) from error


def open_remote(url: str) -> Remote:
    """Raises ReleasesUnreachable where fsspec does not know the scheme, or its package is missing."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except Exception as error:
        scheme = url.partition(":")[0]
        wanted = f"; {error}" if isinstance(error, ImportError) else ""
        raise ReleasesUnreachable(
            f"releases cannot be kept at {url}: fsspec cannot open {scheme} ({type(error).__name__}{wanted}); install "
            "its package (for s3: pip install s3fs), or name a directory in KINDRED_RELEASES"
        ) from error
    return Remote(url, files, str(root).rstrip("/"))
