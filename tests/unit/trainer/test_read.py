"""Step 1: which records make the window, over runs, kills and logs that are not what they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.kafka.base import Bounds
from model.update import DAY_MS
from tests.windows import NOW_MS, MemoryLog, Stop, fill, held_events, key_of
from trainer.errors import WrongTopic
from trainer.read import Reach, starts
from trainer.window import Stretch, Window


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    with Window(tmp_path / "window.sqlite") as made:
        yield made


def texts(window: Window) -> list[str | None]:
    return [text for _, text in held_events(window).values()]


def test_events_are_kept_cleaned_under_the_hash_of_their_user(window: Window) -> None:
    log = MemoryLog(count=2)
    log.write("anna", "a <b>walk</b>  https://x.org by the sea")
    log.write("ben", "tea", partition=1)
    fill(window, log)
    assert held_events(window) == {
        (0, 0): (key_of("anna"), "a walk by the sea"),
        (1, 0): (key_of("ben"), "tea"),
    }


def test_every_record_is_counted_once_under_what_became_of_it(window: Window) -> None:
    log = MemoryLog(cut=2)
    log.append(b"x", b"no json")
    log.append(b"other", b'{"user_id":"anna","text":"a"}')
    log.write("anna", "https://only.a/link")
    log.write("anna", "https://only.a/link", item_id="boat")
    log.write("anna", "tea")
    log.mark()
    log.forget("anna")
    log.write("anna", "back again")
    fill(window, log)
    assert window.counts() == {
        "read": 7,
        "events": 1,
        "bad.not_json": 1,
        "bad.key_mismatch": 1,
        "empty": 1,
        "erased": 2,
        "tombstone": 1,
    }
    assert window.stretches() == {0: Stretch(0, 8, 8)}


def test_an_event_with_an_item_and_no_text_stays_an_interaction(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "https://only.a/link", item_id="boat")
    fill(window, log)
    assert texts(window) == [None]


def test_of_a_bad_record_nothing_is_kept(window: Window) -> None:
    log = MemoryLog()
    log.append(b"anna", b'{"user_id":"anna","text":"half a sent')
    fill(window, log)
    window.close()
    assert b"half" not in window.path.read_bytes()


# Tombstones, as in model/update.py.


def test_a_tombstone_erases_what_stood_before_it_and_not_what_comes_after(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "before", timestamp=NOW_MS + 500)  # a producer's clock that is ahead
    log.write("ben", "tea")
    log.forget("anna", timestamp=NOW_MS)
    log.write("anna", "after", timestamp=NOW_MS - 500)
    fill(window, log)
    assert sorted(map(str, texts(window))) == ["after", "tea"]


@pytest.mark.parametrize("cut", [1, 100])
@pytest.mark.parametrize("partition", [0, 1])
def test_in_other_partitions_what_is_not_newer_is_erased_whichever_is_read_first(
    window: Window, partition: int, cut: int
) -> None:
    log = MemoryLog(count=2, cut=cut)
    log.forget("anna", partition=partition, timestamp=NOW_MS)
    for lag in (-1, 0, 1):
        log.write("anna", f"lag {lag}", partition=1 - partition, timestamp=NOW_MS + lag)
    fill(window, log)
    assert texts(window) == ["lag 1"]
    assert window.counts()["erased"] == 2


def test_an_erasure_is_remembered_in_later_runs(window: Window) -> None:
    log = MemoryLog(count=2)
    log.forget("anna", timestamp=NOW_MS)
    fill(window, log)
    log.begins[0] = 1
    log.write("anna", "old", partition=1, timestamp=NOW_MS - 5)
    fill(window, log)
    assert texts(window) == []


# Runs and kills.


def test_a_later_run_reads_on_from_where_the_last_one_stopped(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    fill(window, log)
    log.write("anna", "two")
    log.partitions[0][0] = None  # it could not be read a second time
    fill(window, log)
    assert sorted(map(str, texts(window))) == ["one", "two"]


def test_a_run_that_was_cut_goes_on_up_to_the_end_it_had_recorded(window: Window) -> None:
    log = MemoryLog(count=2, cut=2, stop_after=3)
    for number in range(12):
        log.write("anna", f"text {number}", partition=number % 2)
    with pytest.raises(Stop):
        fill(window, log)
    assert window.counts()["read"] == 6
    log.stop_after = None
    log.write("anna", "later")
    log.write("anna", "later", partition=1)
    fill(window, log)
    assert sorted(map(str, texts(window))) == sorted(f"text {number}" for number in range(12))
    fill(window, log)
    assert texts(window).count("later") == 2


def test_a_run_that_was_killed_after_reading_keeps_its_window_until_its_refit_is_noted(window: Window) -> None:
    log, items = MemoryLog(), MemoryLog("items", 1)
    log.write("anna", "one")
    fill(window, log, items, now_ms=NOW_MS)
    log.write("anna", "two")
    items.append(b"boat", b'{"item_id":"boat","title":"A boat"}')
    fill(window, log, items, now_ms=NOW_MS + 999, resume_ms=1_000)
    assert texts(window) == ["one"]
    assert window.stretches() == {0: Stretch(0, 1, 1)}
    assert [*window.rows("SELECT item FROM listings")] == [], "nor does the catalogue change under it"
    window.note_refit(NOW_MS + 2_000, enough=True)
    fill(window, log, items, now_ms=NOW_MS + 2_000, resume_ms=10_000)
    assert sorted(map(str, texts(window))) == ["one", "two"]
    assert [*window.rows("SELECT item FROM listings")] == [("boat",)]


def test_a_run_that_was_killed_too_long_ago_is_not_gone_on_with(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    fill(window, log, now_ms=NOW_MS)
    log.forget("anna")
    fill(window, log, now_ms=NOW_MS + 1_000, resume_ms=1_000)
    assert texts(window) == []


def test_a_window_of_another_secret_is_not_gone_on_with(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    fill(window, log)
    log.write("anna", "two")
    fill(window, log, secret=b"another", resume_ms=10_000)
    assert len(texts(window)) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.windows import MemoryLog, fill
from trainer.window import Window

class Killed(Window):
    def advance(self, topic, reached):
        if reached.get(0) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        super().advance(topic, reached)

log = MemoryLog(cut=3)
for number in range(9):
    log.write("anna", f"text {number}")
fill(Killed(Path(sys.argv[1])), log)
"""


def test_a_trainer_that_is_killed_in_a_transaction_reads_that_piece_again(tmp_path: Path) -> None:
    path = tmp_path / "window.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    log = MemoryLog()
    for number in range(9):
        log.write("anna", f"text {number}")
    with Window(path) as window:
        assert window.stretches() == {0: Stretch(0, 3, 9)}
        assert window.counts()["events"] == 3
        fill(window, log)
        assert sorted(map(str, texts(window))) == [f"text {number}" for number in range(9)]


def test_what_falls_below_the_new_start_is_dropped_with_its_counts(window: Window) -> None:
    log = MemoryLog()
    log.append(b"x", b"no json")
    for number in range(4):
        log.write("anna", f"text {number}")
    fill(window, log)
    log.begins[0] = 3
    fill(window, log)
    assert texts(window) == ["text 2", "text 3"]
    assert window.counts() == {"read": 2, "events": 2}


def test_a_gap_that_retention_made_is_passed_over(window: Window) -> None:
    log = MemoryLog(cut=2)
    for number in range(4):
        log.write("anna", f"text {number}")
    fill(window, log)
    for number in range(4, 12):
        log.write("anna", f"text {number}")
    log.begins[0] = 9
    fill(window, log)
    assert texts(window) == ["text 9", "text 10", "text 11"]
    assert window.stretches() == {0: Stretch(9, 12, 12)}


def test_new_partitions_are_read_from_their_beginning(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    fill(window, log)
    log.partitions.append([])
    log.begins.append(0)
    log.write("ben", "two", partition=1)
    fill(window, log)
    assert texts(window) == ["one", "two"]


@pytest.mark.parametrize(
    "change",
    [{"secret": b"another"}, {"reach": Reach(newest=100)}],
    ids=["another secret", "another reach"],
)
def test_a_window_that_was_read_otherwise_begins_anew(window: Window, change: dict[str, Any]) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    fill(window, log)
    window.write("UPDATE texts SET text = 'old'", [()])
    fill(window, log, **change)
    assert texts(window) == ["one"]


def test_a_topic_made_anew_begins_a_window_anew(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    log.write("anna", "two")
    fill(window, log)
    anew = MemoryLog(id="second")
    for number in range(3):
        anew.write("ben", f"new {number}")
    fill(window, anew)
    assert sorted(map(str, texts(window))) == ["new 0", "new 1", "new 2"]


@pytest.mark.parametrize("stop_after", [None, 1])
def test_a_log_that_ends_before_what_was_read_begins_a_window_anew(window: Window, stop_after: int | None) -> None:
    log = MemoryLog(cut=2, stop_after=stop_after)
    for _ in range(4):
        log.write("anna", "one")
    if stop_after is None:
        fill(window, log)
    else:
        with pytest.raises(Stop):
            fill(window, log)
    shorter = MemoryLog()
    shorter.write("ben", "other")
    fill(window, shorter)
    assert texts(window) == ["other"]


def test_without_the_topic_there_is_an_error_with_a_remedy(window: Window) -> None:
    with pytest.raises(WrongTopic, match="user-text does not exist; create the topics"):
        fill(window, MemoryLog(id=None))


# Where a window begins.


def test_a_window_may_reach_back_so_many_days(window: Window) -> None:
    log = MemoryLog()
    for age in (30, 20, 10, 1):
        log.write("anna", f"{age} days old", timestamp=NOW_MS - age * DAY_MS)
    fill(window, log, reach=Reach(days=15))
    assert texts(window) == ["10 days old", "1 days old"]
    fill(window, log, reach=Reach(days=15), now_ms=NOW_MS + 10 * DAY_MS)
    assert texts(window) == ["1 days old"]


def test_a_window_may_hold_no_more_than_the_newest(window: Window) -> None:
    log = MemoryLog(count=2)
    for number in range(8):
        log.write("anna", f"text {number}")
    for number in range(4):
        log.write("ben", f"tea {number}", partition=1)
    fill(window, log, reach=Reach(newest=6))
    assert sorted(held_events(window)) == [(0, 4), (0, 5), (0, 6), (0, 7), (1, 2), (1, 3)]


def test_no_window_begins_before_its_log_or_behind_it() -> None:
    bounds = {0: Bounds(2, 10), 1: Bounds(0, 5)}
    assert starts(bounds, {}, None) == {0: 2, 1: 0}
    assert starts(bounds, {0: 1, 1: 3}, None) == {0: 2, 1: 3}
    assert starts(bounds, {0: 99}, None) == {0: 10, 1: 0}
    assert starts(bounds, {}, 0) == {0: 10, 1: 5}


def test_reading_on_keeps_the_start_that_it_has(window: Window) -> None:
    log = MemoryLog(count=2)
    for number in range(4):
        log.write("anna", f"text {number}")
    fill(window, log, reach=Reach(newest=4))
    for number in range(4):
        log.write("ben", f"tea {number}", partition=1)
    fill(window, log, reach=Reach(newest=4))
    log.begins[1] = 4  # the newest four would now be all of the first partition
    fill(window, log, reach=Reach(newest=4))
    assert window.stretches() == {0: Stretch(2, 4, 4), 1: Stretch(4, 4, 4)}


def test_progress_is_told_from_what_is_there_already(window: Window) -> None:
    log = MemoryLog(cut=2, stop_after=2)
    for _ in range(5):
        log.write("anna")
    told: list[tuple[int, int]] = []
    with pytest.raises(Stop):
        fill(window, log, on_progress=lambda done, of: told.append((done, of)))
    log.stop_after = None
    fill(window, log, on_progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 5), (4, 5), (5, 5)]


# The catalogue.


def listings(window: Window) -> dict[str, tuple[str, bool]]:
    return {
        item: (title, bool(free)) for item, title, free in window.rows("SELECT item, title, available FROM listings")
    }


def test_the_catalogue_holds_the_latest_of_each_item(window: Window) -> None:
    items = MemoryLog("items")
    items.put_item("boat", title="old")
    items.put_item("boat", title="new")
    items.put_item("tea", available=False)
    items.put_item("gone")
    items.append(b"gone", None)
    items.append(b"x", b"no json")
    fill(window, MemoryLog(), items)
    assert listings(window) == {"boat": ("new", True), "tea": ("tea", False)}
    assert window.counts() == {"read": 0, "events": 0, "items.tombstone": 1, "items.bad.not_json": 1}
    assert window.stretches("items") == {0: Stretch(0, 6, 6)}


def test_what_a_compacted_catalogue_no_longer_tells_is_gone_with_the_next_run(window: Window) -> None:
    items = MemoryLog("items")
    items.put_item("boat")
    items.put_item("tea")
    fill(window, MemoryLog(), items)
    kept = list(window.rows("SELECT id FROM texts WHERE text = 'tea.'"))
    items.partitions[0][0] = None
    fill(window, MemoryLog(), items)
    assert list(listings(window)) == ["tea"]
    assert list(window.rows("SELECT id FROM texts")) == kept  # and so are its vectors


def test_a_catalogue_that_was_cut_is_read_anew(window: Window) -> None:
    items = MemoryLog("items", cut=1, stop_after=1)
    items.put_item("boat")
    items.put_item("tea")
    log = MemoryLog()
    log.write("anna")
    with pytest.raises(Stop):
        fill(window, log, items)
    items.stop_after = None
    fill(window, log, items)
    assert sorted(listings(window)) == ["boat", "tea"]
    assert window.counts()["events"] == 1
