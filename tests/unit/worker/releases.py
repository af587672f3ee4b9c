"""Release directories of the dummy encoder, and their announcements, for tests of the swap."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from model.encoder.base import Encoder
from model.encoder.dummy import DummyEncoder
from model.release import Release, load_release, write_builtin
from model.transfer_weights import TransferWeights
from schemas.announcement import CURRENT, ReleaseAnnouncement
from schemas.codec import encode
from schemas.release import MANIFEST_FILE
from schemas.settings import ReleasePlace
from tests.builders import RELEASES, World
from worker.serving import Serving, load_announced

NOW: Final = datetime(2026, 1, 31, tzinfo=UTC)


class Shelf:
    """A directory of releases. loaded: the directories that were loaded from it, in order."""

    def __init__(self, directory: Path) -> None:
        self.releases = directory / "releases"
        self.cache = directory / "cache"
        self.loaded: list[Path] = []
        self.load_release: Callable[..., Release] = partial(
            load_release, cache=self.cache, device="cpu", backend="torch"
        )

    def write(self, popularity: float | None = None, encoder: str = "dummy", **weights: float) -> Path:
        """A release with these transfer weights, besides the defaults; without any, the built-in one."""
        given = TransferWeights.default().to_dict() | weights
        if popularity is not None:
            given["popularity.fresh"] = popularity
        return write_builtin(self.releases, encoder, given, now=NOW, cache=self.cache)

    def load(self, announced: ReleaseAnnouncement) -> Serving:
        """As a worker that runs does."""
        running = DummyEncoder()

        def load(path: Path) -> Release:
            self.loaded.append(path)
            return self.load_release(path, running=running)

        return load_announced(announced, place=ReleasePlace(self.releases), load=load, limit=10)[1]

    def open(self, announced: ReleaseAnnouncement) -> tuple[Encoder, Serving]:
        """As a worker does with a release of another space, or at its start."""
        place = ReleasePlace(self.releases)
        return load_announced(announced, place=place, load=self.load_release, limit=10)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a manifest; what is announced afterwards has the checksum of the changed one."""
    manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    change(manifest)
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))
    return path


def announcement(path: Path, *, verdict: Literal["accept", "reject"] = "accept", **changes: Any) -> ReleaseAnnouncement:
    file = path / MANIFEST_FILE
    data = file.read_bytes() if file.is_file() else b""
    said = {
        "release": path.name,
        "uri": str(path),
        "sha256": sha256(data).hexdigest(),
        "space": json.loads(data)["space"] if data else DummyEncoder().space,
    }
    return ReleaseAnnouncement(**said | changes, verdict=verdict, created_at=NOW)


def announce(world: World, path: Path, **changes: Any) -> None:
    world.broker.append(RELEASES, CURRENT.encode(), encode(announcement(path, **changes)))
