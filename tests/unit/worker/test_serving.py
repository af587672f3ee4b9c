"""Which release may be served, and which one a worker begins with."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.encoder.base import Encoder, Tokens, Vectors
from model.encoder.dummy import DummyEncoder
from model.errors import Refusal, ReleaseRefused
from model.head import identity
from model.manifest import read_manifest
from model.release import Release
from schemas.announcement import ReleaseAnnouncement
from schemas.release import MANIFEST_FILE
from schemas.settings import ReleasePlace
from tests.unit.worker.releases import Shelf, announcement, edit
from worker.serving import Serving, Shared, first_release, load_announced, load_served


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_an_announced_release_is_served_under_its_own_name(shelf: Shelf) -> None:
    path = shelf.write(0.9)
    found = shelf.load(announcement(path))
    assert (found.release, found.path, found.space) == (path.name, path, DummyEncoder().space)
    assert found.sha256 == announcement(path).sha256
    assert found.head is identity
    assert found.head_sha256 is None


def test_a_release_may_be_announced_by_a_file_url(shelf: Shelf) -> None:
    shelf.releases = shelf.releases.parent / "my releases"
    path = shelf.write(0.9)
    assert shelf.load(announcement(path, uri=path.as_uri())).path == path


def test_a_release_that_was_judged_to_be_rejected_is_served_and_the_log_says_so(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    path = shelf.write(0.9)
    with caplog.at_level(logging.WARNING):
        assert shelf.load(announcement(path, verdict="reject")).release == path.name
    assert f"{path.name} was judged to be rejected" in caplog.text


def outside(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(shutil.copytree(shelf.write(0.9), shelf.releases.parent / "elsewhere"))


def climbing(shelf: Shelf) -> ReleaseAnnouncement:
    path = shutil.copytree(shelf.write(0.9), shelf.releases.parent / "elsewhere")
    return announcement(path, uri=f"{shelf.releases}/../elsewhere")


def missing(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(shelf.releases / "never-written")


def another_manifest(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(shelf.write(0.9), sha256="f" * 64)


def golden_off(shelf: Shelf) -> ReleaseAnnouncement:
    def turn(manifest: dict[str, Any]) -> None:
        manifest["golden"] = [each | {"vector": [-value for value in each["vector"]]} for each in manifest["golden"]]

    return announcement(edit(shelf.write(0.9), turn))


def wrong_shape(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(edit(shelf.write(0.9), lambda manifest: manifest["encoder"].update(dimension=65)))


def half_the_weights(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(edit(shelf.write(0.9), lambda manifest: manifest["transfer"].pop("donors.knn")))


def weight_out_of_range(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(edit(shelf.write(0.9), lambda manifest: manifest["transfer"].update(own_labels=2.0)))


def another_space(shelf: Shelf) -> ReleaseAnnouncement:
    return announcement(shelf.write(0.9, encoder="dummy-128"), space=DummyEncoder().space)


def unreadable(shelf: Shelf) -> ReleaseAnnouncement:
    found, load = announcement(shelf.write(0.9)), shelf.load_release

    def without_a_right(path: Path, **options: Any) -> Release:
        if path.name == found.release:
            raise PermissionError(13, "Permission denied", str(path))
        return load(path, **options)

    shelf.load_release = without_a_right
    return found


REFUSED = [
    (outside, Refusal.UNSAFE_PATH),
    (climbing, Refusal.UNSAFE_PATH),
    (missing, Refusal.NO_MANIFEST),
    (another_manifest, Refusal.CHECKSUM),
    (golden_off, Refusal.GOLDEN),
    (wrong_shape, Refusal.SHAPE),
    (half_the_weights, Refusal.BAD_MANIFEST),
    (weight_out_of_range, Refusal.BAD_MANIFEST),
    (another_space, Refusal.SPACE),
    (unreadable, Refusal.MISSING_FILE),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_a_bad_release_is_refused_with_a_reason_and_a_remedy(shelf: Shelf, make: Any, reason: Refusal) -> None:
    with pytest.raises(ReleaseRefused) as caught:
        shelf.load(make(shelf))
    assert caught.value.reason is reason
    assert caught.value.remedy


def test_a_release_of_another_space_than_announced_is_not_even_loaded(shelf: Shelf) -> None:
    with pytest.raises(ReleaseRefused, match="the announcement says"):
        shelf.load(another_space(shelf))
    assert shelf.loaded == []


# The release that a worker begins with.


@dataclass
class Start:
    """What there is when a worker starts. refused: the names that on_refused was told."""

    shelf: Shelf
    announced: ReleaseAnnouncement | None = None
    last: Path | None = None
    refused: list[str] = field(default_factory=list)
    pending: ReleaseAnnouncement | None = None
    reached: dict[str, int] = field(default_factory=lambda: {DummyEncoder().space: 100})

    def __post_init__(self) -> None:
        self.builtin = self.shelf.write(0.3)

    def __call__(self) -> Serving:
        load = self.shelf.load_release
        encoder, found, self.pending = first_release(
            self.announced,
            load_announced=partial(load_announced, place=ReleasePlace(self.shelf.releases), load=load, limit=10),
            load=partial(load_served, load=load, limit=10),
            last=lambda: self.last,
            space_of=lambda path: read_manifest(path)[1].space,
            reached=lambda space: self.reached.get(space, 0),
            builtin=lambda: self.builtin,
            on_refused=lambda name, _: self.refused.append(name),
        )
        assert encoder.space == found.space
        return found


def spoil(path: Path) -> Path:
    return edit(path, lambda manifest: manifest.update(golden=[]))


@pytest.fixture
def start(shelf: Shelf) -> Start:
    return Start(shelf)


def test_without_an_announcement_a_worker_begins_with_the_built_in_release(start: Start) -> None:
    start.last = start.shelf.write(0.9)
    assert start().path == start.builtin


def test_an_announced_release_is_what_a_worker_begins_with(start: Start) -> None:
    path = start.shelf.write(0.9)
    start.announced = announcement(path)
    assert start().path == path
    assert start.refused == []


def test_a_worker_that_starts_serves_an_announced_release_of_any_space(start: Start) -> None:
    path = start.shelf.write(0.9, encoder="dummy-128")
    start.announced = announcement(path)
    assert start().space == DummyEncoder(128).space


def test_a_worker_whose_group_serves_another_space_begins_with_that_and_follows_the_announcement(start: Start) -> None:
    start.announced = announcement(start.shelf.write(0.9, encoder="dummy-128"))
    start.last = start.shelf.write(0.5)
    assert start().path == start.last
    assert start.pending == start.announced
    assert start.refused == []


@pytest.mark.parametrize("behind", [0, 99])
def test_a_worker_whose_last_space_is_no_further_than_the_announced_one_begins_with_that(
    start: Start, behind: int
) -> None:
    """It was away while the others went over, or Redis was emptied."""
    path = start.shelf.write(0.9, encoder="dummy-128")
    start.announced, start.last = announcement(path), start.shelf.write(0.5)
    start.reached = {DummyEncoder().space: behind, DummyEncoder(128).space: behind}
    assert start().path == path
    assert start.pending is None


def test_a_worker_whose_group_serves_the_announced_space_begins_with_what_is_announced(start: Start) -> None:
    start.announced, start.last = announcement(start.shelf.write(0.9)), start.shelf.write(0.5)
    assert start().path == start.shelf.releases / start.announced.release
    assert start.pending is None


def test_a_last_release_of_another_space_that_cannot_be_served_is_passed_over(start: Start) -> None:
    path = start.shelf.write(0.9, encoder="dummy-128")
    start.announced, start.last = announcement(path), spoil(start.shelf.write(0.5))
    assert start().path == path
    assert start.pending is None


def test_where_the_announced_release_is_refused_the_last_one_of_the_group_is_served(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bad = spoil(start.shelf.write(0.9))
    start.announced, start.last = announcement(bad), start.shelf.write(0.5)
    assert start().path == start.last
    assert start.refused == [bad.name]
    assert f"serving {start.last}, the last release of this group, instead" in caplog.text


@pytest.mark.parametrize("last", ["none", "refused", "gone"])
def test_where_the_last_one_cannot_be_served_either_the_built_in_one_is(start: Start, last: str) -> None:
    start.announced = announcement(spoil(start.shelf.write(0.9)))
    if last != "none":
        start.last = spoil(start.shelf.write(0.5)) if last == "refused" else start.shelf.releases / "gone"
    assert start().path == start.builtin
    assert len(start.refused) == 1


def test_where_a_missing_release_is_announced_the_built_in_one_is_served(start: Start) -> None:
    start.announced = announcement(start.shelf.releases / "never-written")
    assert start().path == start.builtin


def test_where_the_built_in_release_is_refused_the_last_one_is_served(start: Start) -> None:
    start.last = start.shelf.write(0.5)
    spoil(start.builtin)
    assert start().path == start.last


@pytest.mark.parametrize("last", [False, True])
def test_a_worker_to_which_nothing_is_left_ends_with_the_reason(
    start: Start, last: bool, caplog: pytest.LogCaptureFixture
) -> None:
    start.last = start.builtin if last else None
    spoil(start.builtin)
    with pytest.raises(ReleaseRefused, match="golden"):
        start()
    assert "instead" not in caplog.text


def test_a_manifest_is_not_served_when_it_changes_after_its_announcement(start: Start) -> None:
    path = start.shelf.write(0.9)
    start.announced = announcement(path)
    (path / MANIFEST_FILE).write_bytes((path / MANIFEST_FILE).read_bytes() + b"\n")
    assert start().path == start.builtin


# One encoder for two threads.


class Watched(DummyEncoder):
    """Fails when it is asked without the lock."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self.lock = lock

    def encode(self, tokens: Tokens) -> Vectors:
        assert self.lock.locked()
        return super().encode(tokens)


def test_a_release_is_checked_with_the_encoder_in_service_one_computation_at_a_time() -> None:
    lock = threading.Lock()
    shared: Encoder = Shared(Watched(lock), lock)
    texts: Sequence[str] = ["a walk by the sea"]
    found = shared.encode(shared.tokenise(texts))
    assert np.array_equal(found, DummyEncoder().encode(DummyEncoder().tokenise(texts)))
    assert not lock.locked()
    assert (shared.space, shared.dimension, shared.backend) == (DummyEncoder().space, 64, "dummy")
