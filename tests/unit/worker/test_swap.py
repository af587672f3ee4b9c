"""Releases announced while a worker runs: one takes the place of another between two batches, or nothing changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import Refusal
from model.head import Head, identity
from model.health import Health
from model.nearest import Floats
from model.users import UserWrite
from schemas.announcement import CURRENT, ReleaseAnnouncement
from schemas.recommendation import Recommendation
from tests.builders import GROUP, PATIENCE, RELEASES, Gate, Worker, World, built_in, eventually, key_of
from tests.stories import expected_ids, in_order, story
from tests.unit.worker.releases import Shelf, announce, announcement
from tests.unit.worker.test_serving import REFUSED, golden_off
from worker.broker.memory import MemoryLog
from worker.metrics import Metrics
from worker.retry import Persistent
from worker.serving import Serving
from worker.store.base import Write
from worker.swap import SWAP, announced_now


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def serves(made: Worker, release: Path) -> bool:
    return made.value("kindred_release_info", release=release.name, space=built_in().space, backend="dummy") == 1


def await_serving(made: Worker, release: Path) -> None:
    eventually(lambda: serves(made, release) or made.error, f"{release.name} is served ({made.why()})")


def releases(world: World) -> list[str]:
    """The release of each recommendation, in the order of the topic."""
    return [found.release for found in world.recommendations()]


# Taking over.


def test_an_announced_release_is_served_while_events_flow_and_nothing_is_lost_or_doubled(
    world: World, shelf: Shelf
) -> None:
    path = shelf.write(0.9)
    with world.worker(load=shelf.load) as made:
        story(world)
        eventually(lambda: len(world.recommendations()) > 0, "the first release answers")
        announce(world, path)
        story(world, seed=2, users=20, first=1000)
        await_serving(made, path)
        story(world, seed=3, users=30, first=2000)
        made.finish()
        assert made.value("kindred_swaps_total") == 1
        assert made.value("kindred_swap_seconds_count") == 1
        assert made.value("kindred_release_info", release="built-in", space=built_in().space, backend="dummy") == 0
    names = releases(world)
    assert set(names) == {"built-in", path.name}
    assert names == sorted(names, key=["built-in", path.name].index), "once one has taken over the other is gone"
    assert set(world.ids()) == expected_ids(world)
    assert max(world.ids().values()) == 1
    in_order(world)


def test_the_longest_wait_for_an_acknowledgement_during_a_swap_is_told(world: World, shelf: Shelf) -> None:
    def told() -> float:
        return made.value("kindred_swap_ack_gap_seconds")

    path, gate = shelf.write(0.9), Gate(SWAP)
    with world.worker(load=shelf.load, fail_point=gate) as made:
        world.write("anna")
        made.finish()
        assert told() == 0, "no swap was announced"
        announce(world, path)
        gate.await_reached()
        world.write("bo")
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + 0.3, "bo has waited")
        gate.open()
        made.finish()
        longest = told()
        assert 0.2 < longest < PATIENCE
        world.write("cy")
        made.finish()
        assert told() == longest, "what comes later is not the swap's"


def test_a_batch_that_is_under_way_is_answered_by_the_release_that_it_began_with(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9), Gate(6)
    for user in ("anna", "bo", "cy"):
        world.write(user)
    with world.worker(load=shelf.load, fail_point=gate) as made:
        gate.await_reached()
        announce(world, path)
        eventually(lambda: made.service._parts.swap._ready, "the release is ready")
        gate.open()
        await_serving(made, path)
        world.write("dora")
        made.finish()
    assert releases(world) == ["built-in"] * 3 + [path.name]


def test_other_weights_answer_otherwise(world: World, shelf: Shelf) -> None:
    def scores(found: Recommendation) -> list[float]:
        return [item.score for item in found.items]

    path = shelf.write(2.0)
    world.write("bo", item_id="boat", item_title="boat")
    world.write("anna")
    with world.worker(load=shelf.load) as made:
        made.finish()
        announce(world, path)
        await_serving(made, path)
        world.write("anna")
        made.finish()
    before, after = (found for found in world.recommendations() if found.user_id == "anna")
    assert scores(before)
    assert scores(after) != scores(before)


def test_only_the_last_of_several_announcements_matters(world: World, shelf: Shelf) -> None:
    slow, passed_over, last = shelf.write(0.5), shelf.write(0.6), shelf.write(0.7)
    entered, opened = threading.Event(), threading.Event()

    def load(announced: ReleaseAnnouncement) -> Serving:
        found = shelf.load(announced)
        if announced.release == slow.name:
            entered.set()
            assert opened.wait(PATIENCE)
        else:
            world.write("anna")  # before its batch the first one would have been taken over, if it were handed on
            eventually(world.all_committed, "a batch goes through while the last one is loaded")
        return found

    with world.worker(load=load) as made:
        announce(world, slow)
        assert entered.wait(PATIENCE)
        announce(world, passed_over)
        announce(world, last)
        opened.set()
        await_serving(made, last)
        assert made.value("kindred_swaps_total") == 1
    assert shelf.loaded == [slow, last]
    assert releases(world) == ["built-in"]


def test_an_older_release_that_is_announced_again_is_served_again(world: World, shelf: Shelf) -> None:
    older, newer = shelf.write(0.5), shelf.write(0.6)
    with world.worker(load=shelf.load) as made:
        for path in (older, newer, older):
            announce(world, path)
            await_serving(made, path)
            world.write(f"user {made.value('kindred_swaps_total')}")
            made.finish()
        assert made.value("kindred_swaps_total") == 3
    assert releases(world) == [older.name, newer.name, older.name]


def test_a_release_that_is_announced_again_while_it_is_served_is_left_alone(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.5)
    with world.worker(load=shelf.load) as made:
        announce(world, path)
        await_serving(made, path)
        announce(world, path)
        other = shelf.write(0.6)
        announce(world, other)
        await_serving(made, other)
    assert shelf.loaded == [path, other]


def test_what_is_served_is_noted_for_workers_that_start(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.5)
    with world.worker(load=shelf.load):
        announce(world, path)
        eventually(lambda: world.store().noted(f"served:{GROUP}") == str(path), "the note is renewed")


def test_a_worker_that_dies_in_the_middle_of_a_swap_leaves_nothing_undone(world: World, shelf: Shelf) -> None:
    def die(step: int) -> None:
        if step == SWAP:
            raise RuntimeError("dead")

    path = shelf.write(0.5)
    story(world)
    with world.worker(load=shelf.load, fail_point=die) as made:
        announce(world, path)
        story(world, seed=2, first=1000)
        assert str(made.await_error()) == "dead"
    assert world.store().noted(f"served:{GROUP}") is None
    with world.worker(load=shelf.load) as made:
        await_serving(made, path)
        made.finish()
    assert set(world.ids()) == expected_ids(world)


# Heads.


def mirrored(vectors: Floats) -> Floats:
    return np.ascontiguousarray(vectors[:, ::-1])


def with_head(shelf: Shelf, head: Head, head_sha256: str | None) -> Callable[[ReleaseAnnouncement], Serving]:
    def load(announced: ReleaseAnnouncement) -> Serving:
        return replace(shelf.load(announced), head=head, head_sha256=head_sha256)

    return load


def interests(made: Worker) -> Floats:
    index = made.service.pipeline.follower.index
    rows = np.array([row for _, row in sorted(index._rows.items())])
    return index._vectors.interests.get(rows)


def test_donors_are_found_by_the_interest_vectors_of_the_new_head(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.5)
    story(world)
    with world.worker(load=with_head(shelf, mirrored, "a" * 64)) as made:
        made.finish()
        before = interests(made)
        announce(world, path)
        await_serving(made, path)
        assert np.allclose(interests(made), mirrored(before), atol=1e-6)
        story(world, seed=2, first=1000)
        made.finish()
        changed = interests(made)
    with world.worker(load=shelf.load) as fresh:
        assert np.allclose(mirrored(interests(fresh)), changed, atol=1e-6), "users that changed since as well"


def test_an_index_that_is_loaded_anew_after_a_swap_has_the_new_head(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.5)
    story(world)
    with world.worker(load=with_head(shelf, mirrored, "a" * 64)) as made:
        made.finish()
        announce(world, path)
        await_serving(made, path)
        before, expected = made.service.pipeline.follower.index, interests(made)
        with world.data.lock:  # the feed has lost an entry before this worker could read it
            position, state = world.users()[key_of("user 1")]
            world.store().save(
                Write({}, [{} for _ in range(4)], [UserWrite(key_of("user 1"), position, position, state)])
            )
            for shard in world.data.stored:
                shard.trimmed = shard.last
        eventually(lambda: made.service.pipeline.follower.index is not before, "the index is loaded anew")
        assert np.allclose(interests(made), expected, atol=1e-6)


def test_a_head_that_stays_is_not_applied_again(world: World, shelf: Shelf) -> None:
    applied: list[int] = []

    def counting(vectors: Floats) -> Floats:
        applied.append(len(vectors))
        return mirrored(vectors)

    def load(announced: ReleaseAnnouncement) -> Serving:
        return replace(shelf.load(announced), head=partial(counting), head_sha256="a" * 64)

    one, two = shelf.write(0.5), shelf.write(0.6)
    story(world)
    with world.worker(load=load) as made:
        made.finish()
        announce(world, one)
        await_serving(made, one)
        count = len(applied)
        assert sum(applied) >= 12
        announce(world, two)
        await_serving(made, two)
        assert len(applied) == count
        assert made.service.pipeline.follower.index.head is not identity


# Refusing.


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_a_bad_release_changes_nothing_and_is_told(world: World, shelf: Shelf, make: Any, reason: Refusal) -> None:
    bad = make(shelf)
    with world.worker(load=shelf.load) as made:
        made.finish()
        world.broker.append(RELEASES, CURRENT.encode(), bad.model_dump_json().encode())
        eventually(lambda: made.value("kindred_releases_refused_total", reason=reason) == 1, "it is refused")
        world.write("anna")
        made.finish()
        ready, said = made.health.report()
        assert ready
        assert f"the announced release {bad.release} is not served" in str(said["notices"])
        good = shelf.write(0.7)
        announce(world, good)
        await_serving(made, good)
        assert "notices" not in made.health.report()[1]
    assert releases(world) == ["built-in"]


def test_a_refused_release_stands_in_the_log_with_its_remedy(
    world: World, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with world.worker(load=shelf.load) as made, caplog.at_level(logging.ERROR):
        world.broker.append(RELEASES, CURRENT.encode(), golden_off(shelf).model_dump_json().encode())
        eventually(lambda: made.value("kindred_releases_refused_total", reason="golden") == 1, "it is refused")
    assert "release refused (golden)" in caplog.text


def test_a_notice_goes_when_the_release_in_service_is_announced_again(world: World, shelf: Shelf) -> None:
    good = shelf.write(0.7)
    with world.worker(load=shelf.load) as made:
        announce(world, good)
        await_serving(made, good)
        announce(world, shelf.releases / "never-written")
        eventually(lambda: "notices" in made.health.report()[1], "it is told")
        announce(world, good)
        eventually(lambda: "notices" not in made.health.report()[1], "what was announced is served")
        assert made.value("kindred_swaps_total") == 1


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (CURRENT, b"no json", "not_json"),
        (CURRENT, b"{}", "missing_field"),
        (CURRENT, None, "wrong_shape"),
        ("else", b"", "key_mismatch"),
    ],
)
def test_an_announcement_that_cannot_be_read_is_counted_and_passed_over(
    world: World, shelf: Shelf, key: str, value: bytes | None, reason: str
) -> None:
    path = shelf.write(0.5)
    sent = announcement(path).model_dump_json().encode() if value == b"" else value
    with world.worker(load=shelf.load) as made:
        world.broker.append(RELEASES, key.encode(), sent)
        eventually(lambda: made.value("kindred_announcements_bad_total", reason=reason) == 1, "it is counted")
        announce(world, path)
        await_serving(made, path)
        assert made.ready()
    assert shelf.loaded == [path]


def test_an_error_that_is_no_refusal_ends_the_worker(world: World, shelf: Shelf) -> None:
    def broken(_: ReleaseAnnouncement) -> Serving:
        raise RuntimeError("broken")

    with world.worker(load=broken) as made:
        announce(world, shelf.write(0.5))
        assert str(made.await_error()) == "broken"


# What is announced when a worker starts.


def announced_at_start(world: World) -> tuple[ReleaseAnnouncement | None, Metrics]:
    metrics = Metrics()
    persist = Persistent(metrics, Health(), longest_pause=0.01)
    return announced_now(MemoryLog(world.broker, RELEASES), metrics, persist), metrics


def test_without_any_announcement_there_is_none(world: World) -> None:
    assert announced_at_start(world)[0] is None


def test_the_last_readable_announcement_of_the_whole_topic_counts(world: World, shelf: Shelf) -> None:
    paths = [shelf.write(0.5), shelf.write(0.6)]
    for number in range(600):
        announce(world, paths[number % 2])
    world.broker.append(RELEASES, CURRENT.encode(), b"no json")
    found, metrics = announced_at_start(world)
    assert found is not None
    assert found.release == paths[1].name
    assert metrics.registry.get_sample_value("kindred_announcements_bad_total", {"reason": "not_json"}) == 1


def test_a_worker_that_starts_waits_until_the_announcements_can_be_read(world: World, shelf: Shelf) -> None:
    announce(world, shelf.write(0.5))
    world.broker.fail_with = "no leader"
    found: list[ReleaseAnnouncement | None] = []
    metrics = Metrics()
    persist = Persistent(metrics, Health(), longest_pause=0.01)
    log = MemoryLog(world.broker, RELEASES)
    waiting = threading.Thread(target=lambda: found.append(announced_now(log, metrics, persist)))
    waiting.start()
    eventually(lambda: metrics.registry.get_sample_value("kindred_retries_total", {"service": "kafka"}), "it waits")
    world.broker.fail_with = None
    waiting.join(PATIENCE)
    assert found
    assert found[0] is not None
