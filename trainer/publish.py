"""Step 6: a release into the directory of releases and behind its URL; and which old ones may go.

Knows nothing of how a release came about or of whether it will be announced.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from model.fetch import Whole, fetch, listed
from model.release import BUILTIN
from model.remote import open_remote
from model.write import discard_directory, write_release
from schemas.announcement import ReleaseAnnouncement
from schemas.release import MANIFEST_FILE, Manifest
from schemas.settings import ReleasePlace

PAGE: Final = "index.html"
"""Of a refit's report, in its directory; pictures lie beside it."""
_REPORTS: Final = "reports"


def report_directory(place: ReleasePlace, name: str) -> Path:
    """Where the trainer that made a release keeps its report for people: beside the releases, because it tells what the
    making of one took, to the end. It is not uploaded."""
    return place.directory / _REPORTS / name


def publish(place: ReleasePlace, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Whole:
    """A new release, whole in the directory and then, where there is a URL, behind it too. files: as `write_release`.

    A kill leaves it in neither, or in the directory only; `fetch` and `share` go on from there. Raises ReleaseUnwritten
    (also for a name that is taken), ReleaseRefused (what was written is no release) and ReleasesUnreachable.
    """
    write_release(place.directory, manifest, files)
    whole = fetch(place, manifest.name)
    share(place, whole)
    return whole


def share(place: ReleasePlace, whole: Whole) -> None:
    """Upload a release of the directory, where there is a URL that does not have it yet. Raises ReleasesUnreachable."""
    if place.url is None:
        return
    remote = open_remote(place.url)
    if remote.manifest(whole.manifest.name) is None:
        remote.upload(whole.path, whole.manifest, (whole.path / MANIFEST_FILE).read_bytes())


def uri(place: ReleasePlace, name: str) -> str:
    """What an announcement calls a release: directly under KINDRED_RELEASES, as `name_under` reads it."""
    return str((place.directory / name).resolve()) if place.url is None else f"{place.url}/{name}"


def outdated(manifests: Sequence[Manifest], keep: int, needed: Collection[str]) -> list[str]:
    """Names of those that are neither among the newest `keep` nor needed. manifests: newest first.

    Built-in releases are not counted and never outdated: they are a manifest, and what workers fall back to.
    """
    fitted = [manifest.name for manifest in manifests if not manifest.name.startswith(BUILTIN)]
    return [name for name in fitted[keep:] if name not in needed]


def retain(place: ReleasePlace, keep: int, current: ReleaseAnnouncement | None) -> list[str]:
    """Remove outdated releases with their reports; their names. What is announced stays, and the release before it,
    where a rollback goes.

    Raises ReleaseUnwritten and ReleasesUnreachable.
    """
    needed = set() if current is None else {current.release, *current.before[:1]}
    gone = outdated(listed(place).manifests, keep, needed)
    remote = None if place.url is None or not gone else open_remote(place.url)
    for name in gone:
        if remote is not None and remote.manifest(name) is not None:
            remote.remove(name)
        if (place.directory / name).is_dir():
            discard_directory(place.directory / name)
        shutil.rmtree(report_directory(place, name), ignore_errors=True)
    return gone
