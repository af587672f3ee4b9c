"""The file itself: what it keeps, what goes with what, and what makes it unusable."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.windows import MemoryLog, Stop, fill
from trainer.errors import WindowUnusable
from trainer.schedule import Last
from trainer.window import Window


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "window.sqlite"


@pytest.fixture
def window(path: Path) -> Iterator[Window]:
    with Window(path) as made:
        yield made


def table(window: Window, name: str) -> list[tuple[object, ...]]:
    return list(window.rows(f"SELECT * FROM {name}"))  # noqa: S608


def test_only_the_owner_may_read_the_file_even_if_it_was_open_to_others(path: Path) -> None:
    path.touch(mode=0o644)
    with Window(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_user_id_stands_in_the_file(window: Window, path: Path) -> None:
    log = MemoryLog()
    log.write("anna.karenina", "by the sea", event_id="anna-1")
    log.forget("count.vronsky")
    fill(window, log)
    data = path.read_bytes()
    assert b"by the sea" in data
    assert not [name for name in (b"anna", b"vronsky") if name in data]


def test_what_an_erased_user_wrote_is_overwritten_on_the_disk(window: Window, path: Path) -> None:
    log = MemoryLog()
    log.write("anna", "secret thoughts", item_id="diary-7", item_title="My own diary", labels=["odd-label"])
    log.write("ben", "the sea")
    fill(window, log)
    ((number,),) = window.rows("SELECT id FROM texts WHERE text = 'secret thoughts'")
    window.write("INSERT INTO vectors VALUES (?, 'space', ?)", [(number, b"vector-of-it")])
    log.forget("anna")
    fill(window, log)
    data = path.read_bytes()
    assert b"the sea" in data
    left = [s for s in (b"thoughts", b"vector-of-it", b"diary", b"odd-label") if s in data]
    assert not left
    assert [table(window, name) for name in ("vectors", "items", "labels", "titles", "event_labels")] == [[]] * 5
    assert len(table(window, "users")) == 1


def test_what_another_event_uses_stays_when_a_user_is_erased(window: Window) -> None:
    log = MemoryLog()
    for user in ("anna", "ben"):
        log.write(user, "the sea", item_id="boat", item_title="Boat", labels=["sailing"])
    log.forget("anna")
    fill(window, log)
    assert {text for _, _, text in table(window, "texts")} == {"the sea", "Boat"}
    assert [name for _, name in table(window, "items")] == ["boat"]
    assert [name for _, name in table(window, "labels")] == ["sailing"]
    assert [name for _, name, _ in table(window, "titles")] == ["Boat"]


def test_a_text_that_is_a_title_too_stays_for_it(window: Window) -> None:
    log, items = MemoryLog(), MemoryLog("items")
    items.put_item("boat", title="boat", text="red")
    log.write("anna", "boat. red")
    log.forget("anna")
    fill(window, log, items)
    assert [text for _, _, text in table(window, "texts")] == ["boat. red"]


def test_texts_are_told_by_id_in_the_order_asked(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one")
    log.write("anna", "two")
    fill(window, log)
    ids = {text: number for number, _, text in table(window, "texts")}
    assert window.texts([ids["two"], ids["one"], ids["two"]]) == ["two", "one", "two"]  # type: ignore[list-item]


def test_a_text_that_has_been_erased_is_an_error(window: Window) -> None:
    with pytest.raises(ValueError, match="text 7 is not in the window"):
        window.texts([7])


def test_a_transaction_that_fails_leaves_nothing(window: Window) -> None:
    def fail() -> None:
        with window.transaction():
            window.leave_out("user-text", 0, 0, "empty")
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert window.counts() == {"read": 0, "events": 0}


def test_a_file_that_is_no_window_is_an_error_with_a_remedy(path: Path) -> None:
    path.write_bytes(b"something else entirely " * 100)
    with pytest.raises(WindowUnusable, match=r"window\.sqlite cannot be used .*delete the file: the log is read anew"):
        Window(path)


def test_a_file_that_another_process_writes_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.window.LOCK_S", 0.01)
    with Window(path) as window, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WindowUnusable, match="locked"), window.transaction():
            pass


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WindowUnusable, match="nowhere"):
        Window(tmp_path / "nowhere" / "window.sqlite")


def test_a_file_of_another_format_is_emptied(path: Path) -> None:
    log = MemoryLog()
    log.write("anna")
    with Window(path) as window:
        fill(window, log)
        list(window.rows("PRAGMA user_version = 99"))
        list(window.rows("ALTER TABLE events RENAME TO happenings"))
    with Window(path) as window:
        assert window.counts() == {"read": 0, "events": 0}
        fill(window, log)
        assert window.counts()["events"] == 1


def test_the_last_refit_is_known_until_the_window_begins_anew(window: Window) -> None:
    log = MemoryLog(count=2)
    log.write("anna")
    log.write("bert", partition=1)
    log.write("carl", partition=1)
    assert window.last_refit() is None
    fill(window, log)
    window.note_refit(1_000, enough=False)
    assert window.last_refit() == Last(1_000, {0: 1, 1: 2}, enough=False)
    log.write("dora")
    fill(window, log)
    assert window.last_refit() == Last(1_000, {0: 1, 1: 2}, enough=False), "what it saw, not what is here"
    window.note_refit(2_000, enough=True)
    assert window.last_refit() == Last(2_000, {0: 2, 1: 2}, enough=True)
    log.id = "second"
    fill(window, log)
    assert window.last_refit() is None
