"""A release that is not what it says: a worker that starts serves the last one of its group instead, or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.encoder.dummy import DummyEncoder
from schemas.release import MANIFEST_FILE
from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from worker.errors import Unready

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_that_starts_serves_its_groups_last_release_in_place_of_a_bad_one(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(200))
    worker = stack.worker()
    stack.wait_done()
    worker.kill()
    builtin = _only(stack.directory / "releases")
    older = shutil.copytree(builtin, builtin.with_name("older"))
    _edit(older, name="older")
    _edit(builtin, golden=_turned(builtin))
    _note_as_served(stack, older)
    worker = stack.worker()
    stack.produce(load.take(200))
    stack.wait_done()

    assert f"serving {older}, the last release of this group, instead" in worker.said
    assert worker.metric("kindred_release_info", release="older") == 1
    assert_equals_reference(stack)


def test_a_worker_without_another_release_ends_and_says_why(stack: Stack, number: int) -> None:
    worker = stack.worker()
    stack.wait_ready(worker)
    worker.kill()
    builtin = _only(stack.directory / "releases")
    _edit(builtin, golden=_turned(builtin))
    worker = stack.worker()

    assert worker.exit_code() == Unready.exit_code
    assert "golden" in worker.said.splitlines()[-1]


def _only(releases: Path) -> Path:
    (manifest,) = releases.glob(f"*/{MANIFEST_FILE}")
    return manifest.parent


def _edit(release: Path, **changes: Any) -> None:
    file = release / MANIFEST_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _turned(release: Path) -> list[dict[str, Any]]:
    """Its golden texts, with other vectors than the encoder gives."""
    golden = json.loads((release / MANIFEST_FILE).read_text())["golden"]
    return [entry | {"vector": [-value for value in entry["vector"]]} for entry in golden]


def _note_as_served(stack: Stack, release: Path) -> None:
    store = stack.store(DummyEncoder().space)
    store.note(f"served:{stack.group}", str(release))
    store.close()
