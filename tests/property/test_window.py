"""Any log, read in any pieces with kills in between, leaves the window that a few plain lines say it must."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windows import NOW_MS, MemoryLog, Place, Stop, expected_events, fill, held_events
from trainer.window import Window

PARTITIONS = 3


@dataclass(frozen=True, slots=True)
class Write:
    """text None: a tombstone."""

    user: str
    text: str | None
    partition: int
    lag: int


@dataclass(frozen=True, slots=True)
class Retention:
    """One more record of the partition is gone."""

    partition: int


@dataclass(frozen=True, slots=True)
class Run:
    """cut: records a piece. stop_after: pieces after which the trainer is killed."""

    cut: int
    stop_after: int | None


STEPS = st.lists(
    st.one_of(
        st.builds(
            Write,
            user=st.sampled_from(["anna", "ben"]),
            text=st.sampled_from([None, "", "one", "two", "two"]),
            partition=st.integers(0, PARTITIONS - 1),
            lag=st.integers(-3, 3),
        ),
        st.builds(Retention, partition=st.integers(0, PARTITIONS - 1)),
        st.builds(Run, cut=st.integers(1, 4), stop_after=st.none() | st.integers(0, 6)),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=200)
@given(steps=STEPS)
def test_a_window_is_what_its_log_says(steps: list[Write | Retention | Run]) -> None:
    log = MemoryLog(count=PARTITIONS)
    read: set[Place] = set()
    lost: set[Place] = set()
    with tempfile.TemporaryDirectory() as directory:
        for step in [*steps, Run(cut=2, stop_after=None)]:
            if isinstance(step, Retention):
                if log.begins[step.partition] < len(log.partitions[step.partition]):
                    log.begins[step.partition] += 1
            elif isinstance(step, Run):
                with Window(Path(directory) / "window.sqlite") as window:
                    list(window.rows("PRAGMA synchronous = OFF"))  # no test here pulls the plug
                    run(window, log, step)
                    check(window, log, read, lost)
            elif step.text is None:
                log.forget(step.user, partition=step.partition, timestamp=NOW_MS + step.lag)
            else:
                log.write(step.user, step.text, partition=step.partition, timestamp=NOW_MS + step.lag)


def run(window: Window, log: MemoryLog, step: Run) -> None:
    log.cut, log.stop_after = step.cut, step.stop_after
    resumed = any(stretch.next < stretch.stop for stretch in window.stretches().values())
    with suppress(Stop):
        fill(window, log)
        if not resumed:
            stretches = {p: (s.start, s.next, s.stop) for p, s in window.stretches().items()}
            assert stretches == {p: (bounds.begin, bounds.end, bounds.end) for p, bounds in log.bounds().items()}
    for number, _, _ in list(window.rows("SELECT * FROM texts")):
        window.write("INSERT OR IGNORE INTO vectors VALUES (?, 'space', x'00')", [(number,)])


def check(window: Window, log: MemoryLog, read: set[Place], lost: set[Place]) -> None:
    """Against the reference, and nothing is left of what no event uses."""
    inside = {(p, offset) for p, stretch in window.stretches().items() for offset in range(stretch.start, stretch.next)}
    # What is passed for the first time was read, unless it was gone by then.
    lost.update((p, offset) for p, offset in inside - read if offset < log.begins[p])
    read.update(inside - lost)
    alive, erased = expected_events(log, read, inside - lost)
    assert held_events(window) == alive
    assert window.counts().get("erased", 0) == erased
    texts = {text for _, text in alive.values()}
    assert {text for (text,) in window.rows("SELECT text FROM texts")} == texts
    assert len(list(window.rows("SELECT * FROM vectors"))) == len(texts)
    assert {name for (name,) in window.rows("SELECT name FROM users")} == {user for user, _ in alive.values()}
