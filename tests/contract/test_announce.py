"""Announcements on a real broker: acknowledged when `announce` returns, read back by whoever comes next; and the
commands on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from model.write import discard_directory, write_release
from ops import broker
from ops.cli.announcements import standing
from ops.cli.app import app
from ops.cli.target import Target
from ops.errors import NoStack
from schemas.access import KafkaAccess
from schemas.announcement import ReleaseAnnouncement
from schemas.release import EncoderEntry, Manifest, Verdict
from schemas.settings import ReleasePlace
from schemas.topics import MODEL_RELEASES
from tests.broker_servers import KIND, broker_server
from trainer.announce import announce

pytestmark = [
    getattr(pytest.mark, KIND),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # see tests/brokers.py
]

NOW: Final = datetime(2026, 1, 31, tzinfo=UTC)
VERDICTS: Final = {"good": Verdict(accepted=True), "bad": Verdict(accepted=False, reasons=("no gain",)), "raw": None}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with broker_server(tmp_path_factory.mktemp("broker")) as server:
        yield server.address


@dataclass(frozen=True, slots=True)
class Scene:
    """A namespace of its own, with topics and releases."""

    target: Target

    def write(self, name: str, verdict: Verdict | None, day: int = 1) -> None:
        manifest = Manifest(
            name=name,
            created_at=NOW.replace(day=day),
            space="s",
            encoder=EncoderEntry(
                name="dummy", dimension=64, max_tokens=8, pooling="sum", cleaning=1, reference="dummy"
            ),
            verdict=verdict,
        )
        write_release(self.target.releases.directory, manifest, {"notes.json": b"{}"})

    def announce(self, told: ReleaseAnnouncement) -> None:
        with broker.producer(self.target.kafka, linger_ms=0) as producer:
            announce(producer, self.target.topic(MODEL_RELEASES), told)

    def send(self, key: bytes | None, value: bytes | None) -> None:
        with broker.producer(self.target.kafka, linger_ms=0) as producer:
            producer.send(self.target.topic(MODEL_RELEASES), key=key, value=value).get(10)

    def current(self) -> str | None:
        found = standing(self.target)
        return None if found is None else found.release

    def model(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["model", *arguments])
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def scene(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    namespace = f"n{uuid4().hex[:8]}"
    access = KafkaAccess(address)
    broker.create_topics(access, namespace)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINDRED_CONFIG", raising=False)
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", address)
    monkeypatch.setenv("KINDRED_NAMESPACE", namespace)
    monkeypatch.setenv("KINDRED_RELEASES", str(tmp_path / "releases"))
    monkeypatch.setenv("KINDRED_ENCODER", "dummy")
    return Scene(Target(access, "redis://nowhere", "group", namespace, ReleasePlace(tmp_path / "releases")))


def told(release: str) -> ReleaseAnnouncement:
    return ReleaseAnnouncement(
        release=release, uri=f"/r/{release}", sha256="0" * 64, space="s", verdict="accept", created_at=NOW
    )


def test_nothing_is_announced_at_first(scene: Scene) -> None:
    assert standing(scene.target) is None


def test_what_was_announced_last_stands(scene: Scene) -> None:
    scene.announce(told("r1"))
    scene.announce(told("r2").model_copy(update={"before": ("r1",)}))
    assert standing(scene.target) == told("r2").model_copy(update={"before": ("r1",)})


def test_records_that_cannot_be_read_change_nothing(scene: Scene) -> None:
    scene.announce(told("r1"))
    scene.send(b"current", b"no json")
    scene.send(b"another key", b"{}")
    scene.send(b"current", None)
    assert scene.current() == "r1"


def test_a_topic_that_is_missing_says_how_to_make_it(address: str, tmp_path: Path) -> None:
    target = Target(KafkaAccess(address), "redis://nowhere", "group", uuid4().hex, ReleasePlace(tmp_path))
    with pytest.raises(NoStack, match="kindred topics create"):
        standing(target)


def test_releases_are_promoted_listed_and_rolled_back(scene: Scene) -> None:
    for day, name in enumerate(["builtin-dummy", "r1", "r2"], 1):
        scene.write(name, VERDICTS["good"], day)
    assert [row["announced"] for row in json.loads(scene.model("list", "--json"))] == [False, False, False]
    assert "Announced r1" in scene.model("promote", "r1")
    assert "goes back to r1" in scene.model("promote", "r2")
    assert [(row["name"], row["announced"]) for row in json.loads(scene.model("list", "--json"))] == [
        ("r2", True),
        ("r1", False),
        ("builtin-dummy", False),
    ]
    assert json.loads(scene.model("show", "r2", "--json"))["announced"]
    assert "Announced r1" in scene.model("rollback")
    # Before the first announcement the workers served what is built in.
    assert "Announced builtin-dummy" in scene.model("rollback")
    assert "Nothing that was served before builtin-dummy is kept" in scene.model("rollback", code=1)
    assert "Announced r2" in scene.model("rollback", "--to", "r2")


def test_a_rollback_passes_over_a_release_that_is_not_kept_any_more(scene: Scene) -> None:
    for name in ("r1", "r2", "r3"):
        scene.write(name, VERDICTS["good"])
        scene.model("promote", name)
    discard_directory(scene.target.releases.directory / "r2")
    assert "Announced r1" in scene.model("rollback")


def test_a_rollback_of_nothing_says_that_the_built_in_release_is_served(scene: Scene) -> None:
    assert "the workers serve the built-in release" in scene.model("rollback", code=1)


@pytest.mark.parametrize(("name", "why"), [("bad", "no gain"), ("raw", "nobody has judged it")])
def test_what_was_not_accepted_is_announced_only_by_force(scene: Scene, name: str, why: str) -> None:
    scene.write(name, VERDICTS[name])
    assert why in scene.model("promote", name, code=1)
    assert scene.current() is None
    assert "verdict reject" in scene.model("promote", name, "--force")
    assert scene.current() == name


def test_what_was_served_before_can_be_gone_back_to_whatever_its_verdict(scene: Scene) -> None:
    scene.write("bad", VERDICTS["bad"])
    scene.write("good", VERDICTS["good"])
    scene.model("promote", "bad", "--force")
    scene.model("promote", "good")
    assert "Announced bad" in scene.model("rollback")


def test_a_release_that_is_damaged_or_missing_is_not_announced(scene: Scene) -> None:
    scene.write("good", VERDICTS["good"])
    (scene.target.releases.directory / "good" / "notes.json").write_bytes(b"damaged")
    assert "is not what the manifest says" in scene.model("promote", "good", code=1)
    assert "kindred model list" in scene.model("promote", "gone", code=1)
    assert scene.current() is None
