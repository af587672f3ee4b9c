"""The life of partitions: where reading begins, what pauses it, and what an operator can do."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from tests.builders import GROUP, TEXTS, Gate, Worker, World, eventually
from tests.stories import story
from worker.broker.base import Bounds, BrokerUnavailable, CommitRefused, Committed, Record
from worker.broker.memory import MemoryReader
from worker.errors import SharedGroup, WrongLog
from worker.store.base import StoreUnavailable, Watermarks
from worker.store.memory import MemoryStore


@pytest.fixture
def world() -> World:
    return World()


# Where a group begins.


def test_a_new_group_may_begin_at_the_end_of_the_log(world: World) -> None:
    world.write("anna")
    with world.worker(start="latest") as made:
        made.finish()
        world.write("bo")
        made.finish()
    assert world.answered() == [("bo", 1)]
    assert world.state("anna") is None


def test_a_group_that_began_at_the_end_begins_there_again_before_its_first_event(world: World) -> None:
    story(world)
    world.work(start="latest")
    world.work(start="latest")
    assert world.users() == {}


def test_a_partition_that_is_added_to_a_group_that_began_at_the_end_is_read_from_its_own_beginning(
    world: World,
) -> None:
    world.work(start="latest")
    texts = world.broker.topics[TEXTS]
    texts.partitions.append([])
    texts.begin.append(0)
    world.write("anna", partition=len(texts.partitions) - 1)
    world.work(start="latest")
    assert world.answered() == [("anna", 1)], "written before a worker knew of the partition, and lost"


def test_what_was_written_while_kafka_forgot_the_groups_commits_is_read(world: World) -> None:
    world.work(start="latest")
    world.write("anna")
    world.work(start="latest")
    world.broker.committed.clear()  # the group had no member for longer than commits are kept
    world.write("bo")
    world.work(start="latest")
    assert world.answered() == [("anna", 1), ("bo", 1)]


class Forgetful(MemoryReader):
    """Of a broker that keeps no notes with commits, as the embedded one."""

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        super().commit({partition: Committed(committed.offset) for partition, committed in offsets.items()})


def test_it_does_so_too_where_the_broker_keeps_no_notes(world: World) -> None:
    story(world)
    world.work(start="latest", reader=Forgetful)
    world.work(start="latest", reader=Forgetful)
    assert world.users() == {}


def test_a_group_that_began_at_the_end_heals_from_there_and_not_from_the_beginning(world: World) -> None:
    world.write("anna")
    with world.worker(start="latest") as made:
        made.finish()
        world.write("bo")
        made.finish()
        before = world.users()
        world.data.flush()
        world.write("cy")
        made.finish()
        assert set(before) < set(world.users())
    assert world.state("anna") is None
    assert made.value("kindred_events_unrecoverable_total") == 0


def test_a_new_group_may_begin_at_a_time(world: World) -> None:
    since = datetime(2026, 5, 1, tzinfo=UTC)
    at = int(since.timestamp() * 1000)
    world.write("anna", timestamp=at - 1)
    world.write("bo", timestamp=at)
    world.work(start=since)
    assert world.answered() == [("bo", 1)]


def test_newcomers_of_the_past_may_be_learned_from_without_being_answered(world: World) -> None:
    world.write("anna", timestamp=world.broker.now_ms - 10, item_id="boat", item_title="boat")
    world.write("bo")
    world.work(answer_after_ms=world.broker.now_ms)
    (answer,) = world.recommendations()
    assert answer.user_id == "bo"
    assert answer.donors.count == 1


def test_a_log_that_was_cut_before_what_redis_needs_is_counted_and_read_from_where_it_begins(world: World) -> None:
    for number in range(10):
        world.write(f"user {number}")
    world.work()
    world.broker.truncate(TEXTS, 0, 4)
    world.data.flush()
    with world.worker() as made:
        eventually(lambda: len(world.users()) == 6, "the rest is healed")
        made.finish()
        assert made.value("kindred_events_unrecoverable_total") == 4
    assert world.state("user 3") is None
    assert len(world.answered()) == 10


def test_a_log_that_begins_late_misses_nothing_that_a_new_group_needs(world: World) -> None:
    for number in range(10):
        world.write(f"user {number}")
    world.broker.truncate(TEXTS, 0, 4)
    for _ in range(2):
        with world.worker() as made:
            made.finish()
            assert made.value("kindred_events_unrecoverable_total") == 0
    assert len(world.answered()) == 6


# What must not be worked on.


def test_a_topic_made_anew_while_running_stops_the_worker_at_the_next_check(world: World) -> None:
    world.write("anna")
    with world.worker() as made:
        made.finish()
        world.broker.topics[TEXTS].topic_id = "another"
        world.data.flush()
        error = made.await_error()
    assert isinstance(error, WrongLog)
    assert error.exit_code == 66


def test_a_log_that_ends_before_what_was_read_stops_the_worker(world: World) -> None:
    for _ in range(3):
        world.write("anna")
    world.work()
    world.broker.topics[TEXTS].partitions[0].clear()
    with world.worker() as made:
        error = made.await_error()
    assert isinstance(error, WrongLog)
    assert "KINDRED_REDIS_URL" in str(error)


def test_a_commit_of_another_stack_stops_the_worker(world: World) -> None:
    world.write("anna")
    with world.worker() as made:
        made.finish()
        world.broker.committed[GROUP, TEXTS, 1] = Committed(0, "somebody-else 0")
        world.data.flush(0)  # makes it check its partitions again
        error = made.await_error()
    assert isinstance(error, SharedGroup)
    assert "KINDRED_GROUP" in str(error)


def test_a_commit_by_a_worker_that_found_the_emptied_redis_first_is_no_other_stacks(world: World) -> None:
    """The instance in the commit is newer than what this worker knows; Redis itself knows better."""
    world.write("anna")
    with world.worker() as made:
        made.finish()
        old = world.data.identity
        assert old is not None
        world.data.identity = type(old)(old.topic_id, "newer", old.previous | {old.instance})
        world.broker.committed[GROUP, TEXTS, 1] = Committed(0, "newer 0")
        world.data.flush(0)
        world.write("anna", partition=1)
        made.finish()
    assert world.commits[-1][1].metadata == "newer 0"


def test_an_operators_commit_without_a_note_is_taken(world: World) -> None:
    for _ in range(5):
        world.write("anna")
    world.broker.committed[GROUP, TEXTS, 0] = Committed(2, None)
    with world.worker() as made:
        made.finish()
    assert world.answered() == [("anna", 3)]


# A partition whose leader is away.


class Leaderless(MemoryReader):
    """Of a broker that cannot answer for the partitions in `away`."""

    away: frozenset[int] = frozenset()

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]:
        asked = list(partitions)
        if self.away & set(asked):
            raise BrokerUnavailable("a leader is away")
        return super().bounds(asked)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        asked = list(partitions)
        if self.away & set(asked):
            raise BrokerUnavailable("a leader is away")
        return super().ends(asked)


def test_the_other_partitions_do_not_wait_for_one_that_cannot_be_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Leaderless, "away", frozenset({0}))
    world.write("anna", partition=0)
    world.write("bo", partition=1)
    with world.worker(reader=Leaderless) as made:
        eventually(lambda: world.answered() == [("bo", 1)], "the other partition is read")
        monkeypatch.setattr(Leaderless, "away", frozenset())
        made.finish()
    assert ("anna", 1) in world.answered()


def test_the_other_partitions_are_healed_while_one_cannot_be_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        world.write(f"anna {n}", partition=0)
        world.write(f"bo {n}", partition=1)
    with world.worker(reader=Leaderless) as made:
        made.finish()
        monkeypatch.setattr(Leaderless, "away", frozenset({0}))
        world.data.flush()
        world.write("cy", partition=1)
        eventually(lambda: len(world.users()) == 21, "what the other partition holds is healed")
        eventually(lambda: made.value("kindred_partitions", state="running") == 1, "and known to be")
        monkeypatch.setattr(Leaderless, "away", frozenset())
        made.finish()
    assert len(world.users()) == 41


# Too many bad records.


@pytest.fixture
def stuck(world: World) -> Iterator[Worker]:
    """A worker with partition 0 paused at offset 100, and good records on both sides of it."""
    world.write("anna")
    for _ in range(100):
        world.spoil()
    world.write("bo")
    with world.worker() as made:
        eventually(lambda: made.value("kindred_partitions", state="paused") == 1, "paused")
        eventually(lambda: world.committed()[0] == 100, "what came before is committed")
        yield made


def test_a_hundred_bad_records_in_a_row_pause_their_partition_and_no_other(stuck: Worker, world: World) -> None:
    world.write("cy", partition=1)
    eventually(lambda: ("cy", 1) in world.answered(), "the other partition goes on")
    assert world.committed()[0] == 100
    assert len(world.dead_letters()) == 99
    assert ("bo", 1) not in world.answered()
    assert not stuck.ready()
    assert "paused at offset 100" in stuck.why()
    assert "kindred dlq accept 0" in stuck.why()
    assert "kindred offsets skip 0" in stuck.why()


def test_accepting_them_sends_them_to_the_dead_letters_and_goes_on(stuck: Worker, world: World) -> None:
    world.store().note("accept:0", "101")
    stuck.finish()
    assert len(world.dead_letters()) == 100
    assert world.answered() == [("anna", 1), ("bo", 1)]


def test_skipping_passes_over_them_and_goes_on(stuck: Worker, world: World) -> None:
    world.store().note("skip:0", "100-101")
    stuck.finish()
    assert len(world.dead_letters()) == 99
    assert world.answered() == [("anna", 1), ("bo", 1)]
    assert stuck.value("kindred_events_skipped_total", reason="operator") == 1


def test_what_was_before_a_skipped_stretch_is_healed_later(stuck: Worker, world: World) -> None:
    world.store().note("skip:0", "100-101")
    stuck.finish()
    stuck.end()
    known = len(world.users())
    for shard in range(world.shards):
        world.data.flush(shard=shard)  # as in a new space; notes belong to the namespace
    world.work()
    assert len(world.users()) == known


def test_who_is_to_be_forgotten_in_a_skipped_stretch_is_forgotten(stuck: Worker, world: World) -> None:
    assert world.state("anna") is not None
    gone = world.forget("anna")
    world.store().note("skip:0", f"100-{gone.offset + 1}")
    stuck.finish()
    assert world.state("anna") is None


def test_a_request_below_the_bad_record_changes_nothing(stuck: Worker, world: World) -> None:
    world.store().note("accept:0", "100")
    world.write("cy", partition=1)
    eventually(lambda: ("cy", 1) in world.answered(), "the other partition goes on")
    assert stuck.value("kindred_partitions", state="paused") == 1


def test_a_worker_that_is_started_again_does_not_go_past_them(stuck: Worker, world: World) -> None:
    for _ in range(50):
        world.spoil()
    stuck.end()
    with world.worker() as made:
        eventually(lambda: made.value("kindred_partitions", state="paused") == 1, "paused again")
        assert "paused at offset 100" in made.why()
    assert world.committed()[0] == 100
    assert len(world.dead_letters()) == 99


def test_a_redis_that_falls_back_does_not_carry_a_partition_past_them(stuck: Worker, world: World) -> None:
    for _ in range(50):
        world.spoil()
    world.data.flush()
    eventually(lambda: stuck.value("kindred_events_in_total") > 110, "it is replayed")
    eventually(lambda: stuck.value("kindred_partitions", state="paused") == 1, "paused again")
    assert world.committed()[0] == 100
    assert len(world.dead_letters()) == 99


def test_bad_records_below_the_old_offset_do_not_stop_the_healing(world: World) -> None:
    for _ in range(3):
        for _ in range(80):
            world.spoil()
        world.write("anna")
    world.store().note("accept:0", "1000")
    world.work(dead_in_a_row=50)
    before = world.users()
    world.data.flush()
    with world.worker(dead_in_a_row=50) as made:
        eventually(lambda: world.users() == before, "healed")
        made.finish()
    assert len(world.dead_letters()) == 240


# Kafka and Redis that are away.


class Deaf(MemoryReader):
    """Its poll fails while the broker is away, as kafka-python's may."""

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        self._broker.check()
        return super().poll(timeout_s, max_records)


@pytest.mark.parametrize("reader", [MemoryReader, Deaf])
def test_a_broker_may_be_away_for_a_while(world: World, reader: type[MemoryReader]) -> None:
    with world.worker(reader=reader) as made:
        eventually(made.ready, "ready")
        world.broker.fail_with = "no broker"
        story(world)
        eventually(lambda: "no broker" in made.why(), "/readyz says so")
        eventually(lambda: made.value("kindred_unavailable", service="kafka") == 1, "the metric says so")
        world.broker.fail_with = None
        made.finish()
        eventually(lambda: made.value("kindred_unavailable", service="kafka") == 0, "the metric says so")
    assert len(world.answered()) == 36


class Waking(MemoryStore):
    """Redis is still loading when it is first asked for watermarks."""

    failures = 3

    def watermarks(self) -> Watermarks:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("loading")
        return super().watermarks()


def test_a_partition_that_cannot_be_checked_is_checked_again(world: World) -> None:
    world.write("anna")
    world.work(store=Waking)
    assert world.answered() == [("anna", 1)]


class Moving(MemoryReader):
    """Refuses some commits because the group is rebalancing."""

    refusals = 5

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise CommitRefused("rebalancing", retry=True)
        super().commit(offsets)


def test_a_commit_during_a_rebalance_is_made_after_it(world: World) -> None:
    world.write("anna")
    world.work(reader=Moving)
    assert world.committed()[0] == 1


class Once(MemoryReader):
    """The broker is away for its first questions about a partition."""

    failures = 3

    def committed(self, partition: int) -> Committed | None:
        if self.subscribed and self.failures:
            self.failures -= 1
            raise BrokerUnavailable("coordinator is loading")
        return super().committed(partition)


def test_why_a_partition_waits_is_said_and_taken_back(world: World) -> None:
    world.write("anna")
    with world.worker(reader=Once) as made:
        made.finish()
        assert made.why() == "running: []"


# Full stages.


def test_a_full_stage_pauses_the_partitions_while_polling_goes_on(world: World) -> None:
    gate = Gate(4)
    polled = threading.Event()

    class Watched(MemoryReader):
        def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
            if self.owned and self.paused >= self.owned:
                polled.set()
            return super().poll(timeout_s, max_records)

    story(world)
    with world.worker(fail_point=gate, batch_max_events=1, batches_in_flight=1, reader=Watched) as made:
        gate.await_reached()
        eventually(polled.is_set, "polled with everything paused")
        read = made.value("kindred_events_in_total")
        assert read < len(world.log())
        polled.clear()
        eventually(polled.is_set, "polled again")
        assert made.value("kindred_events_in_total") == read
        gate.open()
        made.finish()
    assert len(world.answered()) == 36


def test_the_lag_is_measured_to_the_end_of_the_log(world: World) -> None:
    gate = Gate(4)
    for _ in range(7):
        world.write("anna")
    with world.worker(fail_point=gate) as made:
        gate.await_reached()
        eventually(lambda: made.value("kindred_consumer_lag", partition="0") == 7, "nothing is committed yet")
        gate.open()
        made.finish()
        eventually(lambda: made.value("kindred_consumer_lag", partition="0") == 0, "all is committed")
