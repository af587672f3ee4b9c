"""What lies in a release directory: a hostile one is refused before any of it is opened, followed or waited for."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from model.errors import Refusal, ReleaseRefused
from model.manifest import check_files, inside, read_manifest
from schemas.release import MANIFEST_FILE, Manifest

MARK: Final = '"checksums"'
WEIGHTS: Final = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release directory with weights of its own; beside it lies a file `outside`."""
    path = tmp_path / "releases" / "r1"
    (path / "encoder").mkdir(parents=True)
    (path / "encoder" / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "releases" / "outside").write_bytes(WEIGHTS)
    write(path, {"encoder/model.safetensors": sha256(WEIGHTS).hexdigest()})
    return path


def write(path: Path, checksums: dict[str, str], **encoder: Any) -> None:
    content = {
        "name": "r1",
        "created_at": datetime(2026, 1, 31, tzinfo=UTC).isoformat(),
        "space": "s",
        "encoder": {"name": "e", "dimension": 4, "max_tokens": 8, "pooling": "mean", "cleaning": 1, **encoder},
        "checksums": checksums,
    }
    (path / MANIFEST_FILE).write_text(json.dumps(content))


def read(path: Path) -> Manifest:
    _, manifest = read_manifest(path)
    check_files(path, manifest)
    return manifest


def refusal(path: Path) -> Refusal:
    with pytest.raises(ReleaseRefused) as refused:
        read(path)
    return refused.value.reason


def test_a_release_as_it_should_be_is_read(release: Path) -> None:
    assert read(release).name == "r1"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "encoder/../../outside",
        "./../outside",
        "/etc/hostname",
        "//etc/hostname",
        "..\\outside",
        "encoder\\..\\..\\outside",
        "..",
    ],
)
@pytest.mark.parametrize("where", ["checksums", "files"])
def test_a_name_that_leads_out_is_refused(release: Path, name: str, where: str) -> None:
    named = {name: sha256(WEIGHTS).hexdigest()}
    write(release, named) if where == "checksums" else write(release, {}, files=named)
    assert refusal(release) is Refusal.UNSAFE_PATH


@pytest.mark.parametrize("name", ["", ".", "a\0b"])
def test_a_name_that_is_none_is_refused(release: Path, name: str) -> None:
    write(release, {name: sha256(WEIGHTS).hexdigest()})
    assert refusal(release) is Refusal.BAD_MANIFEST


@pytest.mark.parametrize("last", ["../outside", "encoder/model.safetensors"])
def test_of_names_given_twice_the_last_ones_are_both_checked_and_used(release: Path, last: str) -> None:
    # Readers of JSON differ in which of two equal keys they take; here two of them read the same file.
    said = (release / MANIFEST_FILE).read_text()
    digest = sha256(WEIGHTS).hexdigest()
    names = ["encoder/model.safetensors", "../outside"] if last == "../outside" else ["../outside", last]
    twice = ", ".join(f'"checksums": {{"{name}": "{digest}"}}' for name in names)
    (release / MANIFEST_FILE).write_text(f"{said.partition(MARK)[0]}{twice}}}")
    if last == "../outside":
        assert refusal(release) is Refusal.UNSAFE_PATH
    else:
        assert list(read(release).checksums) == [last]


@pytest.mark.parametrize("kind", ["file", "directory", "absolute"])
def test_a_link_that_leads_out_is_refused(release: Path, kind: str) -> None:
    outside = release.parent / "outside"
    weights = release / "encoder" / "model.safetensors"
    weights.unlink()
    if kind == "directory":
        (release / "encoder").rmdir()
        elsewhere = release.parent / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "model.safetensors").write_bytes(WEIGHTS)
        (release / "encoder").symlink_to(elsewhere, target_is_directory=True)
    else:
        weights.symlink_to(outside if kind == "absolute" else Path("../../outside"))
    assert refusal(release) is Refusal.UNSAFE_PATH


def test_a_link_inside_the_release_is_fine(release: Path) -> None:
    weights = release / "encoder" / "model.safetensors"
    weights.rename(release / "weights.safetensors")
    weights.symlink_to("../weights.safetensors")
    assert read(release).name == "r1"


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "/dev/zero"])
def test_a_manifest_that_is_a_link_is_refused(release: Path, target: str) -> None:
    (release / MANIFEST_FILE).unlink()
    (release / MANIFEST_FILE).symlink_to(target)
    assert refusal(release) is Refusal.UNSAFE_PATH


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", [MANIFEST_FILE, "encoder/model.safetensors"])
def test_nobody_waits_for_a_pipe(release: Path, name: str) -> None:
    (release / name).unlink()
    os.mkfifo(release / name)
    assert refusal(release) in (Refusal.UNSAFE_PATH, Refusal.MISSING_FILE)


@pytest.mark.parametrize("reference", ["../../outside", "/srv/../etc", "..\\outside"])
def test_a_way_to_the_encoder_that_leads_elsewhere_is_refused(release: Path, reference: str) -> None:
    write(release, {}, reference=reference)
    assert refusal(release) is Refusal.UNSAFE_PATH


def test_a_place_in_the_directory_of_releases_is_believed(release: Path) -> None:
    assert inside(release.parent, str(release)) == release


@pytest.mark.parametrize(
    "place", ["", ".", "/etc", "{releases}", "{releases}/../r1", "{releases}/link", "s3://x/r1", "a\0"]
)
def test_a_place_outside_the_directory_of_releases_is_not_believed(release: Path, place: str) -> None:
    (release.parent / "link").symlink_to("/etc")
    with pytest.raises(ReleaseRefused) as refused:
        inside(release.parent, place.replace("{releases}", str(release.parent)))
    assert refused.value.reason is Refusal.UNSAFE_PATH
