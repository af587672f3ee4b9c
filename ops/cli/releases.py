"""The releases that there are, told by their manifests: no weights are loaded and no file beside them is looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.errors import ReleasesUnreachable
from model.fetch import listed
from ops.cli.announcements import standing
from ops.cli.render import plain_table
from ops.cli.target import find, find_releases
from ops.errors import NoStack, NotAllowed, NotFound, NotServable, OpsError, Unreachable
from schemas.announcement import ReleaseAnnouncement
from schemas.release import Manifest
from schemas.settings import ReleasePlace
from trainer.publish import PAGE, report_directory


def read_releases(place: ReleasePlace) -> list[Manifest]:
    """Newest first. Raises NotFound where there is none, also for manifests that this version cannot read, and
    NotServable where the place does not answer."""
    try:
        found = listed(place)
    except ReleasesUnreachable as error:
        raise NotServable(f"{error}.") from error
    if not found.manifests:
        unreadable = "".join(f"; {why}" for why in found.unreadable)
        raise NotFound(
            f"No release in {told(place)}{unreadable}.",
            "The built-in one is written when a worker starts: `kindred up`. KINDRED_RELEASES names another directory.",
        )
    return list(found.manifests)


def told(place: ReleasePlace) -> str:
    """Where releases are kept, for messages."""
    return str(place.directory) if place.url is None else place.url


def list_releases(data_dir: Path | None, *, as_json: bool) -> None:
    found = read_releases(find_releases(data_dir))
    announced = _announced(data_dir)
    if as_json:
        rows = [_as_json(manifest, announced) for manifest in found]
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    table = plain_table("", "release", "made", "space", "encoder", "head", "verdict")
    for manifest in found:
        encoder = manifest.encoder
        table.add_row(
            "→" if announced is not None and announced.release == manifest.name else "",
            manifest.name,
            manifest.created_at.strftime("%Y-%m-%d %H:%M"),
            manifest.space[:12],
            f"{encoder.name} ({encoder.dimension} dimensions, {encoder.max_tokens} tokens)",
            "identity" if manifest.head is None else manifest.head.file,
            _verdict(manifest),
        )
    Console().print(table)


def show_release(data_dir: Path | None, name: str, *, as_json: bool) -> None:
    """Raises NotFound."""
    place = find_releases(data_dir)
    found = next((manifest for manifest in read_releases(place) if manifest.name == name), None)
    if found is None:
        raise NotFound(f"No release {name} in {told(place)}.", "`kindred model list` lists them.")
    announced = _announced(data_dir)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(found, announced), ensure_ascii=False) + "\n")
        return
    console = Console()
    table = Table.grid(padding=(0, 2))
    for what, value in _rows(place, found, announced):
        table.add_row(what, Text(value))
    console.print(table)
    verdict = {} if found.verdict is None else found.verdict.numbers
    for title, numbers in (("verdict", verdict), ("measured", found.metrics), ("transfer", found.transfer)):
        if numbers:
            listing = plain_table(title, "")
            for each, number in sorted(numbers.items()):
                listing.add_row(each, f"{number:.4f}")
            console.print(listing)


def _announced(data_dir: Path | None) -> ReleaseAnnouncement | None:
    """None also where Kafka cannot be asked, which is said: releases can be looked at without a stack."""
    try:
        return standing(find(data_dir))
    except NoStack:
        return None
    except (Unreachable, NotAllowed) as error:
        _say(error)
        return None


def _say(error: OpsError) -> None:
    sys.stderr.write(f"Which release is announced is not known. {error.text}\n")


def _as_json(manifest: Manifest, announced: ReleaseAnnouncement | None) -> dict[str, object]:
    is_it = announced is not None and announced.release == manifest.name
    return {**manifest.model_dump(mode="json", exclude={"golden"}), "announced": is_it}


def _verdict(manifest: Manifest) -> str:
    if manifest.verdict is None:
        return "none"
    return "accepted" if manifest.verdict.accepted else "rejected"


def _rows(place: ReleasePlace, manifest: Manifest, announced: ReleaseAnnouncement | None) -> Iterator[tuple[str, str]]:
    encoder, head, window = manifest.encoder, manifest.head, manifest.window
    yield "release", manifest.name
    page = report_directory(place, manifest.name) / PAGE
    yield "report", str(page) if page.is_file() else "none on this machine"
    yield "made", manifest.created_at.isoformat(timespec="seconds")
    if announced is not None and announced.release == manifest.name:
        yield "announced", announced.created_at.isoformat(timespec="seconds")
    yield "verdict", _verdict(manifest)
    for reason in () if manifest.verdict is None else manifest.verdict.reasons:
        yield "", reason
    yield "space", manifest.space
    where = "its own" if encoder.reference is None else encoder.reference
    yield "encoder", f"{encoder.name}, {encoder.dimension} dimensions, {encoder.max_tokens} tokens, files: {where}"
    if head is None:
        yield "head", "identity"
    else:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(head.shapes.items()))
        yield "head", f"{head.file}: {shapes}"
    yield "labels", str(len(manifest.labels)) if manifest.labels else "none"
    if window is None:
        yield "window", "none"
    else:
        offsets = ", ".join(f"{part}: {window.start.get(part, 0)} to {end}" for part, end in window.end.items())
        yield "window", f"{window.events} events of {window.users} users, offsets {offsets}"
