"""What is announced: where a rollback goes is in the record itself. (Kafka: tests/contract/test_announce.py.)"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError

from model.fetch import Whole
from schemas.announcement import MAX_BEFORE, ReleaseAnnouncement
from schemas.release import EncoderEntry, Manifest, Verdict
from trainer.announce import announce, announcement, before

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SHA256 = "0" * 64


def whole(name: str, verdict: Verdict | None) -> Whole:
    entry = EncoderEntry(name="e", dimension=4, max_tokens=8, pooling="mean", cleaning=1)
    manifest = Manifest(name=name, created_at=NOW.replace(day=1), space="s", encoder=entry, verdict=verdict)
    return Whole(Path(name), manifest, SHA256)


def after(*names: str) -> ReleaseAnnouncement | None:
    last = None
    for name in names:
        last = announcement(whole(name, Verdict(accepted=True)), f"/releases/{name}", last, NOW)
    return last


def test_an_announcement_says_what_a_worker_must_know() -> None:
    told = announcement(whole("r1", Verdict(accepted=True)), "/releases/r1", None, NOW)
    assert told == ReleaseAnnouncement(
        release="r1", uri="/releases/r1", sha256=SHA256, space="s", verdict="accept", created_at=NOW
    )


@pytest.mark.parametrize("verdict", [None, Verdict(accepted=False)])
def test_what_was_not_accepted_is_announced_as_such(verdict: Verdict | None) -> None:
    assert announcement(whole("r1", verdict), "/releases/r1", None, NOW).verdict == "reject"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("a", ""),
        ("ab", "a"),
        ("abc", "ba"),
        ("abcc", "ba"),  # the same again changes nothing
        ("abcb", "a"),  # gone back: c is forgotten
        ("abcba", ""),
        ("abcbd", "ba"),
    ],
)
def test_the_releases_before_are_those_that_a_rollback_would_go_through(order: str, expected: str) -> None:
    found = after(*order)
    assert found is not None
    assert "".join(found.before) == expected


def test_a_rollback_never_comes_back_to_what_it_left() -> None:
    assert before("built in", after("a"), back=True) == ()
    assert before("built in", after("a", "b"), back=True) == ("a",)
    assert before("a", after("a", "b"), back=True) == ()


class Unacknowledged:
    """A producer, and the future of what it sends."""

    def send(self, *_: object, **__: object) -> Unacknowledged:
        return self

    def get(self, timeout: float) -> None:
        raise KafkaTimeoutError(f"nothing within {timeout} s")


def test_what_is_not_acknowledged_is_not_announced() -> None:
    told = after("r1")
    assert told is not None
    with pytest.raises(KafkaTimeoutError):
        announce(Unacknowledged(), "model-releases", told)


def test_only_so_many_are_remembered() -> None:
    assert before("new", after(*map(str, range(100)))) == tuple(str(99 - back) for back in range(MAX_BEFORE))
