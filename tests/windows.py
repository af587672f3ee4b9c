"""Logs in lists, as the trainer reads them, and what a window must hold after reading them, in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from model.clean import clean
from model.kafka.base import Bounds, Record
from model.users import user_key
from schemas.codec import encode
from trainer.read import OnProgress, Piece, Reach, read_window
from trainer.window import Window

SECRET: Final = b"secret"
NOW_MS: Final = 1_750_000_000_000
key_of = partial(user_key, secret=SECRET)
Place = tuple[int, int]
"""Partition and offset."""


class Stop(Exception):
    """What a test raises in the middle of reading."""


@dataclass(slots=True)
class MemoryLog:
    """One topic. partitions: offset → record; an offset without one is a transaction's marker. cut: records a piece.
    stop_after: pieces after which reading raises Stop."""

    topic: str = "user-text"
    count: int = 1
    id: str | None = "first"
    cut: int = 3
    stop_after: int | None = None
    partitions: list[list[Record | None]] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.partitions = [[] for _ in range(self.count)]
        self.begins = [0] * self.count

    # Writing.

    def write(
        self, user: str, text: str = "a walk", *, partition: int = 0, timestamp: int | None = None, **fields: Any
    ) -> Record:
        value = encode({"user_id": user, "text": text, **fields})
        return self.append(user.encode(), value, partition=partition, timestamp=timestamp)

    def forget(self, user: str, *, partition: int = 0, timestamp: int | None = None) -> Record:
        return self.append(user.encode(), None, partition=partition, timestamp=timestamp)

    def put_item(self, item_id: str, **fields: Any) -> None:
        self.append(item_id.encode(), encode({"item_id": item_id, "title": item_id, **fields}))

    def append(self, key: bytes, value: bytes | None, *, partition: int = 0, timestamp: int | None = None) -> Record:
        records = self.partitions[partition]
        at = NOW_MS + sum(map(len, self.partitions)) if timestamp is None else timestamp
        records.append(Record(self.topic, partition, len(records), at, key, value))
        return records[-1]  # type: ignore[return-value]

    def mark(self, partition: int = 0) -> None:
        """An offset without a record."""
        self.partitions[partition].append(None)

    # Reading.

    def topic_id(self) -> str | None:
        return self.id

    def bounds(self) -> dict[int, Bounds]:
        if self.id is None:
            return {}
        return {p: Bounds(self.begins[p], len(records)) for p, records in enumerate(self.partitions)}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        return {
            p: next((r.offset for r in records if r is not None and r.timestamp >= timestamp_ms), len(records))
            for p, records in enumerate(self.partitions)
        }

    def read(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> Iterator[Piece]:
        """Partition by partition in turn, so that pieces of different ones mix."""
        at, pieces = dict(starts), 0
        while unread := [p for p in stops if at[p] < stops[p]]:
            for p in unread:
                if pieces == self.stop_after:
                    raise Stop
                pieces += 1
                end = min(at[p] + self.cut, stops[p])
                begin, at[p] = max(at[p], self.begins[p]), end
                yield Piece([record for record in self.partitions[p][begin:end] if record is not None], {p: end})


def fill(
    window: Window,
    texts: MemoryLog,
    items: MemoryLog | None = None,
    *,
    reach: Reach | None = None,
    now_ms: int = NOW_MS,
    resume_ms: int = 0,
    secret: bytes = SECRET,
    on_progress: OnProgress | None = None,
) -> None:
    """Step 1, with no catalogue if none is given."""
    read_window(
        window,
        texts,
        items or MemoryLog("items", 0, id=None),
        secret=secret,
        reach=reach or Reach(),
        now_ms=now_ms,
        resume_ms=resume_ms,
        on_progress=on_progress,
    )


def held_events(window: Window) -> dict[Place, tuple[bytes, str | None]]:
    """Where each event stood → its user and its text."""
    found = window.rows(
        "SELECT partition, offset, users.name, texts.text FROM events JOIN users ON users.id = events.user "
        "LEFT JOIN texts ON texts.id = events.text"
    )
    return {(partition, offset): (user, text) for partition, offset, user, text in found}


def expected_events(
    log: MemoryLog, read: set[Place], window: set[Place]
) -> tuple[dict[Place, tuple[bytes, str | None]], int]:
    """Of a log without bad records: the events that stand in the window when so much has been read, and how many are
    erased. (No event of these logs has an item and no text.)"""
    records = [r for records in log.partitions for r in records if r is not None and (r.partition, r.offset) in read]
    tombstones = [r for r in records if r.value is None]
    alive: dict[Place, tuple[bytes, str | None]] = {}
    erased = 0
    for record in records:
        place = (record.partition, record.offset)
        if record.value is None or place not in window or record.key is None:
            continue
        text = clean(json.loads(record.value)["text"])
        if not text:
            continue
        if any(
            gone.key == record.key
            and (
                record.offset < gone.offset
                if gone.partition == record.partition
                else record.timestamp <= gone.timestamp
            )
            for gone in tombstones
        ):
            erased += 1
        else:
            alive[place] = (key_of(record.key.decode()), text)
    return alive, erased
