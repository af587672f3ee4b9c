"""Publishing: whole on this machine, then behind the URL; and nothing is removed that may still be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ReleasesUnreachable, ReleaseUnwritten
from model.fetch import Whole, fetch, listed, name_under
from model.release import BUILTIN
from model.remote import open_remote
from schemas.announcement import ReleaseAnnouncement
from schemas.release import EncoderEntry, Manifest
from schemas.settings import ReleasePlace
from trainer.announce import announcement
from trainer.publish import PAGE, outdated, publish, report_directory, retain, share, uri

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def manifest(name: str, day: int = 1) -> Manifest:
    return Manifest(
        name=name,
        created_at=NOW.replace(day=day),
        space="s",
        encoder=EncoderEntry(name="e", dimension=4, max_tokens=8, pooling="mean", cleaning=1, reference="dummy"),
    )


@pytest.fixture(params=["directory", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReleasePlace]:
    if request.param == "directory":
        yield ReleasePlace(tmp_path / "releases")
        return
    yield ReleasePlace(tmp_path / "copies", f"memory://{uuid4().hex}/releases")
    fsspec.filesystem("memory").store.clear()


def elsewhere(place: ReleasePlace, tmp_path: Path) -> ReleasePlace:
    """The same place as another machine has it."""
    return place if place.url is None else ReleasePlace(tmp_path / "another machine", place.url)


def release(place: ReleasePlace, name: str, day: int = 1) -> Whole:
    return publish(place, manifest(name, day), {"head.json": b"{}"})


def names(place: ReleasePlace) -> list[str]:
    return [found.name for found in listed(place).manifests]


def current(place: ReleasePlace, *order: str) -> ReleaseAnnouncement:
    """The announcement that stands after these were announced in this order."""
    last = None
    for name in order:
        last = announcement(fetch(place, name), uri(place, name), last, NOW)
    assert last is not None
    return last


def test_what_is_published_can_be_fetched_by_its_announcement_on_another_machine(
    place: ReleasePlace, tmp_path: Path
) -> None:
    told = announcement(release(place, "r1"), uri(place, "r1"), None, NOW)
    there = elsewhere(place, tmp_path)
    found = fetch(there, name_under(there, told.uri), told.sha256)
    assert (found.path / "head.json").read_bytes() == b"{}"


def test_a_name_is_published_once(place: ReleasePlace) -> None:
    release(place, "r1")
    with pytest.raises(ReleaseUnwritten):
        release(place, "r1", day=2)


def test_an_upload_that_failed_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ReleasePlace(tmp_path / "copies", f"memory://{uuid4().hex}")
    files = type(fsspec.filesystem("memory"))
    with monkeypatch.context() as patched:
        patched.setattr(files, "put_file", _unreachable)
        with pytest.raises(ReleasesUnreachable, match="could not be written"):
            release(place, "r1")
    assert names(elsewhere(place, tmp_path)) == []
    share(place, fetch(place, "r1"))
    assert names(elsewhere(place, tmp_path)) == ["r1"]


def _unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError


def test_what_another_trainer_uploaded_is_not_uploaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ReleasePlace(tmp_path / "copies", f"memory://{uuid4().hex}")
    release(place, "r1")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", _unreachable)
    share(elsewhere(place, tmp_path), fetch(place, "r1"))


def test_old_releases_go_everywhere_but_not_the_announced_one_and_the_one_before(
    place: ReleasePlace, tmp_path: Path
) -> None:
    for day in range(1, 7):
        release(place, f"r{day}", day)
    release(place, f"{BUILTIN}dummy", 1)
    assert retain(place, 2, current(place, "r1", "r3", "r2")) == ["r4", "r1"]
    left = ["r6", "r5", "r3", "r2", f"{BUILTIN}dummy"]
    assert names(place) == left
    assert names(elsewhere(place, tmp_path)) == left
    assert retain(place, 2, current(place, "r2")) == ["r3"]
    assert retain(place, 2, None) == ["r2"]


def test_a_release_goes_with_its_report_and_the_others_keep_theirs(tmp_path: Path) -> None:
    place = ReleasePlace(tmp_path / "releases")
    for day, name in enumerate(("a", "b"), 1):
        release(place, name, day)
        report_directory(place, name).mkdir(parents=True)
        (report_directory(place, name) / PAGE).touch()
    assert retain(place, 1, None) == ["a"]
    assert not report_directory(place, "a").exists()
    assert (report_directory(place, "b") / PAGE).exists()


def test_a_release_that_is_only_on_this_machine_is_removed_as_well(place: ReleasePlace) -> None:
    release(place, "r1")
    release(place, "r2", day=2)
    if place.url is not None:
        open_remote(place.url).remove("r1")
    assert retain(place, 1, None) == ["r1"]
    assert names(place) == ["r2"]


@given(st.lists(st.integers(0, 30), max_size=12, unique=True), st.integers(0, 5), st.sets(st.integers(0, 30)))
def test_nothing_new_needed_or_built_in_is_ever_outdated(days: list[int], keep: int, needed: set[int]) -> None:
    newest = [manifest(f"r{day}" if day % 3 else f"{BUILTIN}{day}") for day in sorted(days, reverse=True)]
    gone = outdated(newest, keep, {f"r{day}" for day in needed})
    fitted = [found.name for found in newest if not found.name.startswith(BUILTIN)]
    assert set(gone) <= set(fitted[keep:])
    assert set(fitted[keep:]) - set(gone) == {f"r{day}" for day in needed} & set(fitted[keep:])
