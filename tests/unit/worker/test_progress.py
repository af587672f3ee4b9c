"""Lag, healing and its end, on the metrics and in the health report."""

from __future__ import annotations

import pytest

from model.health import Health
from worker.broker.memory import MemoryBroker, MemoryReader
from worker.decode import Breaker
from worker.errors import WrongLog
from worker.metrics import Metrics
from worker.partition import Assignments, InFlight, Lease, Partition, PartitionState
from worker.progress import Named, Progress


class Scene:
    """A log of ten records in partition 0, and a worker that has it."""

    def __init__(self, state: PartitionState, lease: Lease | None) -> None:
        self.broker = MemoryBroker({"user-text": 1})
        for _ in range(10):
            self.broker.append("user-text", b"k", b"v", partition=0)
        self.partition = Partition(0, Breaker(in_a_row=1, window=1, share=1.0), state, lease)
        self.metrics, self.health = Metrics(), Health()
        self.reader = MemoryReader(self.broker, "user-text", "g", Assignments(InFlight()))
        self.partitions = {0: self.partition}
        self.progress = Progress(self.partitions, self.reader, self.metrics, self.health, Named(""))

    def figure(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def test_lag_is_what_the_log_has_beyond_the_committed_offset() -> None:
    scene = Scene(PartitionState.RUNNING, Lease(0, 4, 7))
    scene.progress.measure()
    assert scene.figure("kindred_consumer_lag", partition="0") == 3


def test_a_partition_heals_until_all_below_the_committed_offset_is_done() -> None:
    lease = Lease(0, publish_from=8, committed=8, done=2)
    scene = Scene(PartitionState.HEALING, lease)
    scene.progress.measure()
    assert scene.partitions[0].reads
    assert scene.figure("kindred_healing_remaining", partition="0") == 6
    assert (scene.figure("kindred_healing_eta_seconds") or 0) > 0
    lease.done = 8
    scene.progress.measure()
    assert scene.partition.state is PartitionState.RUNNING
    assert scene.figure("kindred_healing_remaining", partition="0") == 0
    assert scene.figure("kindred_healing_eta_seconds") == 0


def test_offsets_that_hold_no_record_are_neither_lag_nor_left_to_heal() -> None:
    lease = Lease(0, publish_from=10, committed=10, done=8)
    scene = Scene(PartitionState.HEALING, lease)
    scene.partition.next_offset = 8
    scene.reader.seek(0, 10)
    scene.progress.measure()
    assert scene.partition.state is PartitionState.RUNNING
    lease.committed = 8
    scene.progress.measure()
    assert scene.figure("kindred_consumer_lag", partition="0") == 0


def test_what_was_polled_and_is_under_way_is_still_left_to_heal() -> None:
    scene = Scene(PartitionState.HEALING, Lease(0, publish_from=10, committed=10, done=8))
    scene.partition.next_offset = 10
    scene.reader.seek(0, 10)
    scene.progress.measure()
    assert scene.partition.state is PartitionState.HEALING


def test_a_broker_that_is_away_is_named_until_it_answers_again() -> None:
    scene = Scene(PartitionState.RUNNING, Lease(0, 0, 0))
    scene.broker.fail_with = "no route"
    scene.progress.measure()
    assert scene.figure("kindred_unavailable", service="kafka") == 1
    assert any("no route" in str(reason) for reason in scene.health.report()[1]["reasons"])  # type: ignore[attr-defined]
    scene.broker.fail_with = None
    scene.progress.measure()
    assert scene.figure("kindred_unavailable", service="kafka") == 0
    assert scene.health.report()[1]["reasons"] == []


def test_a_partition_that_is_given_away_leaves_no_figures_behind() -> None:
    scene = Scene(PartitionState.RUNNING, Lease(0, 0, 0))
    scene.progress.measure()
    scene.progress.forget(0)
    assert scene.figure("kindred_consumer_lag", partition="0") is None


@pytest.mark.parametrize(
    ("state", "joined", "words"),
    [
        (PartitionState.RUNNING, False, "joining the group"),
        (PartitionState.RUNNING, True, "running"),
        (PartitionState.PAUSED, True, "running"),
        (PartitionState.CHECKING, True, "checking"),
        (PartitionState.HEALING, True, "healing"),
    ],
)
def test_the_health_report_says_what_the_worker_does(state: PartitionState, joined: bool, words: str) -> None:
    scene = Scene(state, None)
    scene.reader.subscribed = joined
    scene.progress.report()
    assert scene.health.state == words
    assert scene.figure("kindred_partitions", state=state.value) == 1


def test_a_log_that_is_cut_below_what_was_committed_stops_the_worker() -> None:
    scene = Scene(PartitionState.RUNNING, Lease(0, 0, 10))
    del scene.broker.topics["user-text"].partitions[0][5:]
    with pytest.raises(WrongLog, match="ends at offset 5, below the committed offset 10"):
        scene.progress.measure()
