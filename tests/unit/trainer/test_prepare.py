from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.windows import NOW_MS, MemoryLog, fill
from trainer.errors import TooLittleData
from trainer.prepare import Least, Prepared, by_appearance, known_order, prepare, seen_before
from trainer.window import Window

ANY = Least(0, 0, 0)


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    with Window(tmp_path / "window.sqlite") as made:
        yield made


def prepared(window: Window, log: MemoryLog, items: MemoryLog | None = None) -> Prepared:
    fill(window, log, items)
    return prepare(window, ANY)


def texts_of(window: Window, found: Prepared) -> list[str | None]:
    """The text of each event."""
    texts = window.texts(found.text_ids.tolist())
    return [None if row < 0 else texts[row] for row in found.text]


def test_every_array_holds_what_the_log_said(window: Window) -> None:
    log = MemoryLog()
    log.write(
        "anna",
        "a walk",
        timestamp=NOW_MS,
        occurred_at="2025-06-15T00:00:00Z",
        item_id="boat",
        item_title="The boat",
        labels=["sea", "sun"],
        weight=0.5,
        lang="en",
    )
    log.write("ben", "茶", timestamp=NOW_MS + 1, labels=["sun"], lang="zh")
    log.write("anna", "http://a.link", timestamp=NOW_MS + 2, item_id="tea")
    found = prepared(window, log)
    assert found.user.tolist() == [0, 1, 0]
    assert found.users == 2
    assert texts_of(window, found) == ["a walk", "茶", None]
    assert found.item.tolist() == [0, -1, 1]
    assert found.item_ids == ("boat", "tea")
    assert found.titles == ("The boat", "")
    assert found.title.tolist() == [2, -1]
    assert window.texts(found.text_ids.tolist()) == ["a walk", "茶", "The boat"]
    assert found.labels.tolist() == [[0, 1], [1, -1], [-1, -1]]
    assert found.label_names == ("sea", "sun")
    assert found.weight.tolist() == [0.5, 1.0, 1.0]
    assert found.occurred.tolist() == [1_749_945_600_000, NOW_MS + 1, NOW_MS + 2]
    assert found.timestamp.tolist() == [NOW_MS, NOW_MS + 1, NOW_MS + 2]
    assert found.partition.tolist() == [0, 0, 0]
    assert found.offset.tolist() == [0, 1, 2]
    assert [found.languages[tag] for tag in found.lang] == ["en", "zh", ""]
    assert found.available.tolist() == [True, True]


def test_arrays_have_the_promised_types_and_shapes_even_without_a_label_or_an_event(window: Window) -> None:
    log = MemoryLog()
    for _ in range(2):
        found = prepared(window, log)
        count = len(found.user)
        assert found.labels.shape == (count, 1)
        for name, kind in {
            "user": np.int32,
            "text": np.int32,
            "item": np.int32,
            "weight": np.float32,
            "occurred": np.int64,
            "timestamp": np.int64,
            "partition": np.int32,
            "offset": np.int64,
            "lang": np.int16,
        }.items():
            array = getattr(found, name)
            assert (array.dtype, array.shape, array.flags.c_contiguous) == (kind, (count,), True), name
        assert [found.labels.dtype.name, found.title.dtype.name, found.text_ids.dtype.name] == [
            "int32",
            "int32",
            "int64",
        ]
        log.write("anna")


# The order in which events became known.


def test_partitions_are_merged_by_the_records_timestamps(window: Window) -> None:
    log = MemoryLog(count=2)
    log.write("anna", "first", timestamp=NOW_MS)
    log.write("anna", "third", timestamp=NOW_MS + 2)
    log.write("ben", "second", partition=1, timestamp=NOW_MS + 1)
    log.write("ben", "fourth", partition=1, timestamp=NOW_MS + 3)
    assert texts_of(window, prepared(window, log)) == ["first", "second", "third", "fourth"]


def test_an_event_stays_behind_what_stood_before_it_in_its_partition(window: Window) -> None:
    log = MemoryLog(count=2)
    log.write("anna", "ahead of time", timestamp=NOW_MS + 10)
    log.write("anna", "its follower", timestamp=NOW_MS)
    log.write("ben", "between", partition=1, timestamp=NOW_MS + 5)
    log.write("ben", "last", partition=1, timestamp=NOW_MS + 11)
    assert texts_of(window, prepared(window, log)) == ["between", "ahead of time", "its follower", "last"]


PLACES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 3)), max_size=30
)  # partition, timestamp, occurred


@given(PLACES)
def test_the_order_is_by_the_largest_time_so_far_and_breaks_no_partition(places: list[tuple[int, int, int]]) -> None:
    places.sort(key=lambda place: place[0])
    offset = np.arange(len(places)) * 3
    partition, timestamp, occurred = np.array(places, np.int64).reshape(-1, 3).T
    order = known_order(partition, offset, timestamp, occurred).tolist()
    largest: dict[int, tuple[int, int]] = {}
    keys = []
    for (where, *times), at in zip(places, offset.tolist(), strict=True):
        largest[where] = max(largest.get(where, (-1, -1)), (times[0], times[1]))
        keys.append((largest[where], where, at))
    assert [keys[place] for place in order] == sorted(keys)
    for number in range(3):
        inside = [offset[place] for place in order if partition[place] == number]
        assert inside == sorted(inside)


# Repeats and duplicates.


def test_a_producers_repeat_counts_once(window: Window) -> None:
    log = MemoryLog(count=2)
    log.write("anna", "one", event_id="a", timestamp=NOW_MS)
    log.write("anna", "changed meanwhile", event_id="a", partition=1, timestamp=NOW_MS + 1)
    log.write("ben", "another's", event_id="a")
    log.write("anna", "without")
    log.write("anna", "without either")
    found = prepared(window, log)
    assert sorted(map(str, texts_of(window, found))) == ["another's", "one", "without", "without either"]
    assert (found.counts["repeats"], found.counts["duplicates"], found.counts["kept"]) == (1, 0, 4)


def test_exact_duplicates_are_dropped_and_counted(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "a walk", item_id="boat", labels=["sea", "sun"])
    log.write("anna", "a  walk ", item_id="boat", labels=["sun", "sea", "sea"])
    found = prepared(window, log)
    assert (found.offset.tolist(), found.counts["duplicates"]) == ([0], 1)


@pytest.mark.parametrize(
    "other",
    [
        ("ben", "a walk", {"item_id": "boat", "labels": ["sea"]}),
        ("anna", "a swim", {"item_id": "boat", "labels": ["sea"]}),
        ("anna", "a walk", {"item_id": "tea", "labels": ["sea"]}),
        ("anna", "a walk", {"labels": ["sea"]}),
        ("anna", "a walk", {"item_id": "boat", "labels": ["sea", "sun"]}),
        ("anna", "a walk", {"item_id": "boat"}),
    ],
)
def test_what_differs_in_anything_is_no_duplicate(window: Window, other: tuple[str, str, dict[str, Any]]) -> None:
    log = MemoryLog()
    log.write("anna", "a walk", item_id="boat", labels=["sea"])
    user, text, fields = other
    log.write(user, text, **fields)
    assert len(prepared(window, log).user) == 2


def test_a_duplicate_counts_when_the_event_it_repeats_has_left_the_window(window: Window) -> None:
    log = MemoryLog()
    for _ in range(3):
        log.write("anna", "a walk", event_id="same")
    assert prepared(window, log).offset.tolist() == [0]
    log.begins[0] = 1
    assert prepared(window, log).offset.tolist() == [1]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), max_size=20))
def test_a_row_is_seen_before_exactly_when_an_earlier_one_is_the_same(rows: list[tuple[int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 2).T
    assert seen_before(*columns).tolist() == [row in rows[:place] for place, row in enumerate(rows)]


@given(st.lists(st.integers(-1, 6), max_size=20))
def test_numbers_are_given_in_the_order_of_first_appearance(values: list[int]) -> None:
    numbers, of = by_appearance(np.array(values, np.int64))
    assert of.tolist() == list(dict.fromkeys(value for value in values if value != -1))
    assert [-1 if number < 0 else int(of[number]) for number in numbers] == values


# Items.


def test_an_item_is_called_what_it_was_called_last(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "one", item_id="boat", item_title="Old <b>name</b>")
    log.write("ben", "two", item_id="boat", item_title="New <b>name</b>")
    log.write("ben", "three", item_id="boat")
    found = prepared(window, log)
    assert found.titles == ("New <b>name</b>",)
    assert window.texts(found.text_ids[found.title].tolist()) == ["New name"]


def test_a_title_that_is_an_events_text_too_shares_its_row(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "tea", item_id="boat", item_title="tea")
    found = prepared(window, log)
    assert (found.text.tolist(), found.title.tolist(), len(found.text_ids)) == ([0], [0], 1)


def test_a_title_with_nothing_left_has_no_row(window: Window) -> None:
    log = MemoryLog()
    log.write("anna", "tea", item_id="boat", item_title="https://a.link/only")
    assert prepared(window, log).title.tolist() == [-1]


def test_the_catalogue_says_what_an_item_is_called_and_whether_it_may_be_recommended(window: Window) -> None:
    log, items = MemoryLog(), MemoryLog("items")
    for item in ("boat", "tea", "old", "unlisted"):
        log.write("anna", f"about {item}", item_id=item, item_title=f"{item}, said a user", timestamp=NOW_MS)
    items.put_item("boat", title="The boat", text="It is <b>red</b>")
    items.put_item("tea", available=False)
    items.put_item("old", expires_at="2020-01-01T00:00:00Z")
    items.put_item("never mentioned")
    found = prepared(window, log, items)
    assert found.titles == ("The boat", "tea", "old", "unlisted, said a user")
    assert found.available.tolist() == [True, False, False, False]
    assert window.texts(found.text_ids[found.title].tolist())[0] == "The boat. It is red"


# The same window, the same arrays; too little.


def test_the_arrays_do_not_depend_on_how_the_log_was_read(tmp_path: Path) -> None:
    found = []
    for cut in (1, 100):
        log = MemoryLog(count=3, cut=cut)
        for number in range(40):
            user = f"user {number * 7 % 5}"
            log.write(
                user,
                f"text {number % 11}",
                partition=number * 5 % 3,
                item_id=f"item {number % 4}",
                item_title=f"title {number % 9}",
                labels=[f"label {number % 3}"],
                lang=f"l{number % 2}",
            )
        log.forget("user 3", partition=1)
        with Window(tmp_path / f"{cut}.sqlite") as window:
            made = prepared(window, log)
            found.append((made, window.texts(made.text_ids.tolist())))
    (one, its_texts), (other, others_texts) = found
    assert its_texts == others_texts
    for name in Prepared.__slots__:
        if name != "text_ids":
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_too_little_says_what_is_missing_and_what_the_limits_are(window: Window) -> None:
    log = MemoryLog()
    for item in ("boat", "tea", "boat"):
        log.write("anna", f"about {item} {len(log.partitions[0])}", item_id=item)
    log.write("ben", "nothing else")
    fill(window, log)
    with pytest.raises(TooLittleData) as told:
        prepare(window, Least(events=5, users=2, users_with_two_items=2))
    assert "4 events, at least 5; 1 users with two or more items, at least 2. Nothing was published" in str(told.value)
    assert told.value.exit_code == 10
    assert prepare(window, Least(4, 2, 1)).users == 2


def test_an_empty_window_is_too_little(window: Window) -> None:
    with pytest.raises(TooLittleData, match="0 events, at least 1000; 0 users, at least 100; 0 users with two"):
        prepare(window)


def test_more_languages_than_anyone_speaks_count_as_none(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.prepare.MAX_LANGUAGES", 3)
    log = MemoryLog()
    for tag in ("en", "zh", "x1", "x2", "zh"):
        log.write("anna", f"in {tag} {len(log.partitions[0])}", lang=tag)
    found = prepared(window, log)
    assert [found.languages[tag] for tag in found.lang] == ["en", "zh", "", "", "zh"]
