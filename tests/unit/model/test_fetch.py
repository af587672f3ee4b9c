"""A release is on this machine whole, wherever it is kept; nothing else ever gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fsspec
import pytest

from model.errors import Refusal, ReleaseRefused, ReleasesUnreachable
from model.fetch import fetch, listed, name_under
from model.manifest import read_manifest
from model.remote import Remote, open_remote
from model.write import ASIDE, write_release
from schemas.release import MANIFEST_FILE, EncoderEntry, Manifest
from schemas.settings import ReleasePlace

WEIGHTS: Final = (2).to_bytes(8, "little") + b"{}"


def manifest(name: str, day: int = 1) -> Manifest:
    return Manifest(
        name=name,
        created_at=datetime(2026, 1, day, tzinfo=UTC),
        space="s",
        encoder=EncoderEntry(name="e", dimension=4, max_tokens=8, pooling="mean", cleaning=1, reference="dummy"),
    )


def write(directory: Path, name: str, day: int = 1) -> Path:
    return write_release(directory, manifest(name, day), {"encoder/model.safetensors": WEIGHTS, "notes.json": b"{}"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ReleasePlace]:
    """Behind a URL, a memory of this process'."""
    url = f"memory://{uuid4().hex}/releases"
    yield ReleasePlace(tmp_path / "copies", url)
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def shared(place: ReleasePlace, tmp_path: Path) -> Remote:
    """The place, with a release r1 that another machine has uploaded."""
    assert place.url is not None
    upload(open_remote(place.url), write(tmp_path / "elsewhere", "r1"))
    return open_remote(place.url)


def upload(there: Remote, path: Path) -> None:
    data, found = read_manifest(path)
    there.upload(path, found, data)


def test_a_release_in_a_plain_directory_is_taken_as_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, "r1")
    found = fetch(ReleasePlace(tmp_path), "r1")
    assert (found.path, found.manifest.name) == (path, "r1")
    assert found.sha256 == sha256((path / MANIFEST_FILE).read_bytes()).hexdigest()
    assert fetch(ReleasePlace(tmp_path), "r1", found.sha256) == found


def test_a_release_behind_a_url_is_copied_whole(place: ReleasePlace, shared: Remote) -> None:
    found = fetch(place, "r1")
    assert found.path == place.directory / "r1"
    assert (found.path / "encoder" / "model.safetensors").read_bytes() == WEIGHTS
    assert (found.path / MANIFEST_FILE).read_bytes() == shared.manifest("r1")


def test_a_copy_that_is_there_is_not_fetched_again(
    place: ReleasePlace, shared: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fetch(place, "r1")
    monkeypatch.setattr(Remote, "fetch", lambda *_: pytest.fail("fetched again"))
    assert fetch(place, "r1", found.sha256) == found


@pytest.mark.parametrize("file", ["notes.json", MANIFEST_FILE])
def test_a_copy_that_was_damaged_is_made_anew(place: ReleasePlace, shared: Remote, file: str) -> None:
    found = fetch(place, "r1")
    (found.path / file).write_bytes(b"damaged")
    assert fetch(place, "r1") == found
    assert (found.path / file).read_bytes() != b"damaged"


def test_another_release_of_the_same_name_takes_the_copys_place(
    place: ReleasePlace, shared: Remote, tmp_path: Path
) -> None:
    before = fetch(place, "r1")
    upload(shared, write(tmp_path / "again", "r1", day=2))
    after = fetch(place, "r1")
    assert after.sha256 != before.sha256
    with pytest.raises(ReleaseRefused, match="not the one that was announced"):
        fetch(place, "r1", before.sha256)


def test_what_is_damaged_behind_the_url_never_becomes_a_release(place: ReleasePlace, shared: Remote) -> None:
    shared.files.pipe_file(f"{shared.root}/r1/notes.json", b"damaged")
    with pytest.raises(ReleaseRefused) as refused:
        fetch(place, "r1")
    assert refused.value.reason is Refusal.CHECKSUM
    assert [path for path in place.directory.iterdir() if path.is_dir()] == []


def test_an_upload_that_was_cut_short_is_no_release(
    place: ReleasePlace, shared: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "elsewhere", "r2")
    with monkeypatch.context() as patched:
        patched.setattr(type(shared.files), "pipe_file", _unreachable)
        with pytest.raises(ReleasesUnreachable):
            upload(shared, path)
    assert shared.names() == ["r1"]
    with pytest.raises(ReleaseRefused) as refused:
        fetch(place, "r2")
    assert refused.value.reason is Refusal.NO_MANIFEST
    upload(shared, path)
    assert fetch(place, "r2").manifest.name == "r2"


def _unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError


@pytest.mark.parametrize("name", ["..", "../r1", "/etc", "", "gone", f"{ASIDE}x"])
@pytest.mark.parametrize("url", [True, False])
def test_a_name_that_is_no_releases_is_refused(place: ReleasePlace, shared: Remote, name: str, url: bool) -> None:
    with pytest.raises(ReleaseRefused):
        fetch(place if url else ReleasePlace(place.directory), name)


def test_a_release_under_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "r1").rename(tmp_path / "r2")
    with pytest.raises(ReleaseRefused, match="holds the release 'r1'"):
        fetch(ReleasePlace(tmp_path), "r2")


def test_releases_are_listed_newest_first_each_once(place: ReleasePlace, shared: Remote, tmp_path: Path) -> None:
    fetch(place, "r1")
    upload(shared, write(tmp_path / "elsewhere", "r3", day=3))
    write(place.directory, "here-only", day=2)
    (place.directory / f"{ASIDE}x").mkdir()
    (place.directory / f"{ASIDE}x" / MANIFEST_FILE).write_text("{}")
    (place.directory / "no-release").mkdir()
    assert [found.name for found in listed(place).manifests] == ["r3", "here-only", "r1"]
    assert listed(place).unreadable == ()


def test_a_manifest_that_cannot_be_read_is_told_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path, "r1")
    (write(tmp_path, "r2") / MANIFEST_FILE).write_text("[]")
    found = listed(ReleasePlace(tmp_path))
    assert [each.name for each in found.manifests] == ["r1"]
    assert len(found.unreadable) == 1
    assert found.unreadable[0].startswith("r2: ")


def test_where_nothing_is_there_is_nothing_to_list(tmp_path: Path) -> None:
    assert listed(ReleasePlace(tmp_path / "gone")).manifests == ()


def test_an_announced_place_is_a_release_directly_under_the_releases(tmp_path: Path) -> None:
    here = ReleasePlace(tmp_path)
    there = ReleasePlace(tmp_path, "s3://bucket/releases")
    assert name_under(here, str(tmp_path / "r1")) == "r1"
    assert name_under(there, "s3://bucket/releases/r1") == "r1"
    for place, uri in [
        (here, str(tmp_path / "r1" / "encoder")),
        (here, str(tmp_path)),
        (here, str(tmp_path / ".." / "r1")),
        (here, "s3://bucket/releases/r1"),
        (there, str(tmp_path / "r1")),
        (there, "s3://bucket/releases/.."),
        (there, "s3://bucket/releases/"),
        (there, "s3://bucket/releases/r1/encoder"),
        (there, "s3://bucket/r1"),
    ]:
        with pytest.raises(ReleaseRefused) as refused:
            name_under(place, uri)
        assert refused.value.reason is Refusal.UNSAFE_PATH
