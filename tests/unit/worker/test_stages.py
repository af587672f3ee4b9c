"""Hand-over from thread to thread: in order, bounded, and ending."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.builders import eventually
from worker.batch import Batch
from worker.metrics import Metrics
from worker.pipeline import Work
from worker.stages import Stage


def work() -> Work:
    return Work(Batch(0.0))


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    """Stages that a test made; they are stopped at the end."""
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.stop(5)


def stage(
    made: list[Stage],
    do: Callable[[Work], None],
    hand_on: Callable[[Work], None] = lambda _: None,
    *,
    capacity: int = 2,
    idle: Callable[[], None] | None = None,
) -> Stage:
    waiting = Metrics().stage_queue.labels("x")
    new = Stage("x", do, hand_on, capacity=capacity, waiting=waiting, idle=idle)
    made.append(new)
    return new


def test_works_go_through_all_stages_in_their_order(stages: list[Stage]) -> None:
    done: list[Work] = []
    second = stage(stages, done.append)
    first = stage(stages, lambda _: None, second.put)
    works = [work() for _ in range(20)]
    second.start()
    first.start()
    for one in works:
        first.put(one)
    eventually(lambda: len(done) == 20, "all are done")
    assert all(a is b for a, b in zip(done, works, strict=True))


def test_a_full_stage_takes_nothing_more(stages: list[Stage]) -> None:
    held = threading.Event()
    made = stage(stages, lambda _: (held.wait(10), None)[1], capacity=1)
    made.start()
    made.put(work())
    eventually(lambda: made.offer(work(), 0.0), "the first one is being done")
    assert not made.offer(work(), 0.0)
    held.set()
    eventually(lambda: made.offer(work(), 0.0), "there is room again")


def test_the_first_error_is_kept_and_ends_the_stage_and_nobody_waits_for_it(stages: list[Stage]) -> None:
    def fail(_: Work) -> None:
        raise RuntimeError("broken")

    made = stage(stages, fail, capacity=1)
    made.start()
    made.put(work())
    eventually(lambda: made.failure is not None, "it has failed")
    assert str(made.failure) == "broken"
    made.put(work())
    made.put(work())  # more than fit: returns all the same


def test_idle_work_is_done_while_there_is_nothing_else(stages: list[Stage]) -> None:
    idled = threading.Event()
    stage(stages, lambda _: None, idle=idled.set).start()
    assert idled.wait(10)


def test_an_error_of_the_idle_work_is_kept_too(stages: list[Stage]) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    made = stage(stages, lambda _: None, idle=fail)
    made.start()
    eventually(lambda: made.failure is not None, "it has failed")


def test_a_stage_that_was_never_started_can_be_stopped(stages: list[Stage]) -> None:
    stage(stages, lambda _: None).stop(1)
