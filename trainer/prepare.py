"""Step 2: the window as numpy arrays, in the order in which its events became known, without repeats and duplicates.

Nothing here depends on the order in which the log was read: the same window gives the same arrays. Texts stay in the
window; about 120 bytes an event are held in memory while its arrays are made. Knows no vectors and no folds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TooLittleData
from trainer.folds import reserved_users
from trainer.window import Window, among

NONE: Final = -1
"""Stands in every array of numbers for "there is none"."""
MAX_LANGUAGES: Final = 1_000
"""An event in a language that comes after so many others counts as one without: tags may be anything."""

_EVENT: Final = np.dtype(
    [
        ("id", np.int64),
        ("partition", np.int32),
        ("offset", np.int64),
        ("timestamp", np.int64),
        ("occurred", np.int64),
        ("user", np.int64),
        ("text", np.int64),
        ("item", np.int64),
        ("title", np.int64),
        ("weight", np.float32),
        ("has_id", np.bool_),
        ("event_id", np.int64),
        ("lang", np.int32),
    ]
)

Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Least:
    """What a window must hold to be learned from. users_with_two_items: only they tell what a first text leads to."""

    events: int = 1_000
    users: int = 100
    users_with_two_items: int = 50


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """E events of `users` users on I items, in the order in which they became known: partitions merged by the records'
    timestamps, no partition's own order broken. Users, items, labels, languages and texts are numbered from 0 in the
    order of their first appearance; -1 is none.

    user, text, item: (E,) int32. text: a row of the T texts, none where nothing was left of it. labels: (E, W) int32,
    an event's labels first, W at least 1. weight: (E,) float32. occurred, timestamp: (E,) int64, milliseconds since
    1970. partition: (E,) int32. offset: (E,) int64. lang: (E,) int16, of languages; "" is an event's that names none.

    title: (I,) int32, the row of the text by which a worker places the item, behind the rows of events where no event
    has the same text: its newest title, cleaned, or what the catalogue says of it. available: (I,) bool, whether it
    might be recommended when the newest event became known. titles: (I,) as people read them, "" where none is known.

    reserved: (U,) bool, users who teach no head and no encoder that is served (folds.py).

    text_ids: (T,) int64, the texts in the window (Window.texts, vectors.py). counts: Window.counts, and `repeats`
    (a producer's, by event_id), `duplicates` (same user, text, item and labels), and `kept` (E).
    """

    user: NDArray[np.int32]
    text: NDArray[np.int32]
    item: NDArray[np.int32]
    labels: NDArray[np.int32]
    weight: NDArray[np.float32]
    occurred: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    lang: NDArray[np.int16]
    title: NDArray[np.int32]
    available: NDArray[np.bool_]
    users: int
    reserved: NDArray[np.bool_]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    label_names: tuple[str, ...]
    languages: tuple[str, ...]
    text_ids: NDArray[np.int64]
    counts: dict[str, int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Items:
    """What is known of I items. text: (I,) int64, ids of texts in the window."""

    names: tuple[str, ...]
    titles: tuple[str, ...]
    text: NDArray[np.int64]
    available: NDArray[np.bool_]


def prepare(window: Window, least: Least | None = None) -> Prepared:
    """Raises TooLittleData, saying what is missing, and WindowUnusable."""
    events, languages = _load(window)
    labels = _labels(window, events["id"])
    order = known_order(events["partition"], events["offset"], events["timestamp"], events["occurred"])
    events, labels = events[order], labels[order]

    repeated = np.zeros(len(events), np.bool_)
    named = np.flatnonzero(events["has_id"])
    repeated[named] = seen_before(events["user"][named], events["event_id"][named])
    events, labels = events[~repeated], labels[~repeated]
    doubled = seen_before(events["user"], events["text"], events["item"], *np.sort(labels, axis=1).T)
    events, labels = events[~doubled], labels[~doubled]

    user, user_ids = by_appearance(events["user"])
    item, item_ids = by_appearance(events["item"])
    label, label_ids = by_appearance(labels.ravel())
    lang, tags = by_appearance(events["lang"])
    _check(least or Least(), user, item)
    items = _items(window, events, item, item_ids)
    text, text_ids = by_appearance(np.concatenate([events["text"], items.text]))
    return Prepared(
        user=user,
        text=text[: len(events)],
        item=item,
        labels=label.reshape(labels.shape),
        weight=events["weight"].copy(),
        occurred=events["occurred"].copy(),
        timestamp=events["timestamp"].copy(),
        partition=events["partition"].copy(),
        offset=events["offset"].copy(),
        lang=lang.astype(np.int16),
        title=text[len(events) :],
        available=items.available,
        users=len(user_ids),
        reserved=reserved_users(_names(window, "users", user_ids)),
        item_ids=items.names,
        titles=items.titles,
        label_names=_names(window, "labels", label_ids),
        languages=tuple(languages[tag] for tag in tags),
        text_ids=text_ids,
        counts={
            **window.counts(),
            "repeats": int(repeated.sum()),
            "duplicates": int(doubled.sum()),
            "kept": len(events),
        },
    )


def known_order(partition: Ints, offset: Ints, timestamp: Ints, occurred: Ints) -> NDArray[np.int64]:
    """(E,) which event comes first, second, …: by (timestamp, occurred), of which an event has at least as much as any
    earlier one of its partition; then by partition and offset. Given in the order of (partition, offset)."""
    pairs = np.lexsort((occurred, timestamp))
    rises = (np.diff(timestamp[pairs]) != 0) | (np.diff(occurred[pairs]) != 0)
    rank = np.empty(len(pairs), np.int64)
    rank[pairs] = np.concatenate([np.zeros(min(1, len(pairs)), np.int64), np.cumsum(rises)])
    # One running maximum for all partitions: each one's ranks are lifted above those of the one before.
    _, number = np.unique(partition, return_inverse=True)
    lift = number * len(pairs)
    rank = np.maximum.accumulate(rank + lift) - lift
    found: NDArray[np.int64] = np.lexsort((offset, partition, rank))
    return found


def seen_before(*columns: Ints) -> NDArray[np.bool_]:
    """(N,) whether an earlier row is the same in every column of shape (N,)."""
    order = np.lexsort(columns[::-1])  # stable: of equal rows the first one stays first
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for column in columns:
        same &= np.diff(column[order]) == 0
    found = np.zeros(len(order), np.bool_)
    found[order[1:]] = same
    return found


def by_appearance(values: Ints) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(N,) values, -1 for none → (N,) numbers from 0 in the order of first appearance, -1 for none, and the value of
    each number."""
    there = values[values != NONE]
    distinct, first, inverse = np.unique(there, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    numbers = np.full(len(values), NONE, np.int32)
    numbers[values != NONE] = rank[inverse]
    return numbers, distinct[order].astype(np.int64)


def _load(window: Window) -> tuple[NDArray[np.void], list[str]]:
    """Every event of the window in the order of (partition, offset), and its languages."""
    languages: dict[str, int] = {"": 0}

    def numbered(tag: str) -> int:
        return languages.setdefault(tag, len(languages)) if len(languages) < MAX_LANGUAGES else languages.get(tag, 0)

    found = window.rows(
        "SELECT id, partition, offset, timestamp, occurred, user, coalesce(text, -1), coalesce(item, -1), "
        "coalesce(title, -1), weight, event_id IS NOT NULL, coalesce(event_id, 0), lang "
        "FROM events ORDER BY partition, offset"
    )
    events = np.fromiter(((*row[:-1], numbered(row[-1])) for row in found), _EVENT)
    return events, list(languages)


def _labels(window: Window, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E, W) ids of the labels of the events with these ids."""
    ((most,),) = window.rows("SELECT coalesce(max(nth), 0) + 1 FROM event_labels")
    found = np.full((len(ids), most), NONE, np.int64)
    row_of = np.argsort(ids)
    triples = np.fromiter(window.rows("SELECT event, nth, label FROM event_labels"), np.dtype((np.int64, 3)))
    found[row_of[np.searchsorted(ids, triples[:, 0], sorter=row_of)], triples[:, 1]] = triples[:, 2]
    return found


def _items(window: Window, events: NDArray[Any], item: NDArray[np.int32], ids: NDArray[np.int64]) -> _Items:
    newest = np.full(len(ids), NONE, np.int64)
    called = np.flatnonzero(events["title"] != NONE)
    newest[item[called]] = events["title"][called]  # in order: the last one stays
    names = _names(window, "items", ids)
    told = {number: (name, text) for number, name, text in _of(window, "SELECT id, name, text FROM titles", newest)}
    listed = {
        number: row
        for number, *row in _of(
            window,
            "SELECT items.id AS id, title, text, available, coalesce(expires, 1 << 62) "
            "FROM items JOIN listings ON listings.item = items.name",
            ids,
        )
    }
    ((catalogue,),) = window.rows("SELECT EXISTS (SELECT 1 FROM listings)")
    now = int(events["timestamp"].max(initial=0))
    titles, texts, available = [], [], []
    for number, title_id in zip(ids.tolist(), newest.tolist(), strict=True):
        title, text = told.get(title_id, ("", None))
        free = not catalogue
        if number in listed:
            title, text, allowed, expires = listed[number]
            free = bool(allowed) and expires > now
        titles.append(title)
        texts.append(NONE if text is None else text)
        available.append(free)
    return _Items(names, tuple(titles), np.array(texts, np.int64), np.array(available, np.bool_))


def _of(window: Window, select: str, ids: NDArray[np.int64]) -> list[tuple[Any, ...]]:
    """The rows of a SELECT whose id is among these."""
    sql = f"SELECT * FROM ({select}) WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
    return list(window.rows(sql, among(ids.tolist())))


def _names(window: Window, table: str, ids: NDArray[np.int64]) -> tuple[Any, ...]:
    found = dict(_of(window, f"SELECT id, name FROM {table}", ids))  # noqa: S608
    return tuple(found[number] for number in ids.tolist())


def _check(least: Least, user: NDArray[np.int32], item: NDArray[np.int32]) -> None:
    """Raises TooLittleData."""
    pairs = np.unique(np.stack([user[item != NONE], item[item != NONE]]), axis=1)
    found = {
        "events": (len(user), least.events),
        "users": (int(user.max(initial=NONE)) + 1, least.users),
        "users with two or more items": (int((np.bincount(pairs[0]) >= 2).sum()), least.users_with_two_items),
    }
    missing = [f"{has} {what}, at least {limit}" for what, (has, limit) in found.items() if has < limit]
    if missing:
        raise TooLittleData(
            f"the window holds too little to learn from: {'; '.join(missing)}. Nothing was published. Wait for more "
            "events, let the window reach further back, or lower the limit"
        )
