"""A release directory is whole or not there, wherever its writer is stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from model.errors import ReleaseUnwritten
from model.manifest import check_files, read_manifest
from model.write import ASIDE, discard_directory, write_directory, write_release
from schemas.release import MANIFEST_FILE, EncoderEntry, Manifest

ROOT: Final = Path(__file__).parents[3]
FSYNCS: Final = 6
"""Two files, their folder, the manifest, the directory, its parent."""


def manifest(name: str = "r1") -> Manifest:
    return Manifest(
        name=name,
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
        space="s",
        encoder=EncoderEntry(name="e", dimension=4, max_tokens=8, pooling="mean", cleaning=1, reference="dummy"),
    )


def write(releases: Path, name: str = "r1") -> Path:
    return write_release(releases, manifest(name), {"notes.json": b"{}", "encoder/config.json": b"[1]"})


def held(releases: Path) -> list[str]:
    """Directories."""
    return sorted(path.name for path in releases.iterdir() if path.is_dir())


def is_whole(path: Path) -> bool:
    check_files(path, read_manifest(path)[1])
    return True


def test_a_release_holds_its_files_and_their_checksums(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"copied")
    path = write_release(tmp_path / "releases", manifest(), {"encoder/a": tmp_path / "source", "head.json": b"given"})
    found = read_manifest(path)[1]
    assert (path / "encoder" / "a").read_bytes() == b"copied"
    assert found.checksums == {"encoder/a": sha256(b"copied").hexdigest(), "head.json": sha256(b"given").hexdigest()}
    assert path.stat().st_mode & 0o777 == 0o755
    assert held(path.parent) == ["r1"]


def test_a_name_that_is_taken_is_refused_and_the_release_stays(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = (path / MANIFEST_FILE).stat()
    with pytest.raises(ReleaseUnwritten, match="another name"):
        write(tmp_path)
    assert (path / MANIFEST_FILE).stat() == before


def test_writers_that_start_together_write_one_directory(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: write_directory(tmp_path / "r1", lambda _aside: b"{}"), range(16)))
    assert sorted(made) == [False] * 15 + [True]
    assert held(tmp_path) == ["r1"]


@pytest.mark.parametrize("failing", [f"fsync {number}" for number in range(FSYNCS)] + ["rename", "copy"])
def test_a_writer_that_fails_at_any_step_leaves_no_release_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with monkeypatch.context() as patched:
        what, _, number = failing.partition(" ")
        where, name = {"fsync": (os, "fsync"), "rename": (Path, "rename"), "copy": (Path, "write_bytes")}[what]
        patched.setattr(where, name, _failing(getattr(where, name), int(number or 0)))
        with pytest.raises(ReleaseUnwritten, match="no space left"):
            write(tmp_path)
    if failing != f"fsync {FSYNCS - 1}":  # only the parent's own entry was not yet on the disk
        assert held(tmp_path) == []
        write(tmp_path)
    assert is_whole(tmp_path / "r1")


def _failing(real: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(after, -1, -1))

    def called(*arguments: Any) -> Any:
        if next(calls, 1) == 0:
            raise OSError("no space left on device")
        return real(*arguments)

    return called


def test_there_are_as_many_steps_as_are_tried_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    write(tmp_path)
    assert len(calls) == FSYNCS


@pytest.mark.parametrize("number", range(FSYNCS))
def test_a_killed_writer_leaves_nothing_that_the_next_one_does_not_clear(tmp_path: Path, number: int) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(number)], cwd=ROOT, check=False)
    assert killed.returncode == 9
    renamed = number == FSYNCS - 1
    assert [name for name in held(tmp_path) if not name.startswith(ASIDE)] == (["r1"] if renamed else [])
    assert len(held(tmp_path)) == 1
    write(tmp_path, "r2")
    assert held(tmp_path) == (["r1", "r2"] if renamed else ["r2"])
    assert all(is_whole(tmp_path / name) for name in held(tmp_path))


_KILLED: Final = """
import os, sys
from pathlib import Path
from tests.unit.model.test_write import write
calls = iter(range(int(sys.argv[2]), -1, -1))
os.fsync = lambda _: os._exit(9) if next(calls) == 0 else None
write(Path(sys.argv[1]))
"""


def test_what_is_filled_in_wrongly_leaves_nothing(tmp_path: Path) -> None:
    def fill(aside: Path) -> bytes:
        (aside / "half").write_bytes(b"1")
        raise ValueError

    with pytest.raises(ValueError):
        write_directory(tmp_path / "r1", fill)
    assert held(tmp_path) == []


def test_a_release_is_removed_without_a_trace(tmp_path: Path) -> None:
    discard_directory(write(tmp_path))
    assert held(tmp_path) == []


def test_a_release_whose_removal_was_cut_short_is_none_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _failing(shutil.rmtree, 0))
        with pytest.raises(ReleaseUnwritten):
            discard_directory(path)
    assert not path.exists()
    write(tmp_path, "r2")
    assert held(tmp_path) == ["r2"]
