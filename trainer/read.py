"""Step 1: the log between its recorded start and end, read into the window. Knows no Kafka and no clock.

A run that was killed is gone on with up to the end that it had recorded, whatever came since: minutes or hours of
fitting may hang on that window. The next one records a new end, reads on from where the last one stopped, and drops
what fell below the new start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from model.clean import CLEANING_VERSION
from model.kafka.base import Bounds, Record
from model.update import DAY_MS
from model.users import user_key
from schemas.codec import ItemTombstone, Tombstone, decode_item, decode_user_text
from schemas.errors import BadRecord
from schemas.topics import ITEMS, USER_TEXT
from trainer.errors import WrongTopic
from trainer.window import BAD, TOMBSTONE, Window

OnProgress = Callable[[int, int], None]
"""Told how many of how many are done."""

_NO_KEY: Final = ""
"""Its hash tells whether the secret of the hashes has changed, and nothing of any user."""


class Piece(NamedTuple):
    """records: in the order of each partition. reached: partition → next offset to read, also past offsets that hold no
    record."""

    records: Sequence[Record]
    reached: Mapping[int, int]


class Log(Protocol):
    """One topic, read without a group. Every call raises BrokerUnavailable and BrokerRefused (model/kafka/base.py)."""

    topic: str

    def topic_id(self) -> str | None:
        """The log's identity: another one means that the topic was made anew. None where there is no such topic."""
        ...

    def bounds(self) -> dict[int, Bounds]:
        """Of each partition; empty where there is no such topic. Nothing behind the end is needed to read up to it."""
        ...

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        """Of each partition the first offset whose record is not older; its end where there is none."""
        ...

    def read(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> Iterator[Piece]:
        """Every record that is still there from a partition's start up to, not including, its stop, in bounded pieces;
        ends when every stop is reached."""
        ...


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a window goes: so many days by the records' timestamps, and at most so many newest records, which
    bounds the disk and memory that a run takes. None: as far as the log goes."""

    days: float | None = None
    newest: int | None = None


def read_window(
    window: Window,
    texts: Log,
    items: Log,
    *,
    secret: bytes,
    reach: Reach,
    now_ms: int,
    resume_ms: int = 0,
    on_progress: OnProgress | None = None,
) -> None:
    """Bring the window up to the end of the logs as they are now, or, after a kill, as they were when the run began.

    resume_ms: how long ago a run may have begun that was killed after all was read. secret: keys the hashes of users.
    The window begins anew where the topic was made anew, or where secret, cleaning or reach are not those that it was
    read with. Raises WrongTopic where there is no `user-text`, WindowUnusable, BrokerUnavailable (call again: nothing
    is read twice) and BrokerRefused.
    """
    topic_id = texts.topic_id()
    if topic_id is None:
        raise WrongTopic(f"the topic {texts.topic} does not exist; create the topics with `kindred topics create`")
    identity = {
        "topic": topic_id,
        "cleaning": str(CLEANING_VERSION),
        "users": user_key(_NO_KEY, secret).hex(),
        "reach": str(reach),
    }
    bounds = texts.bounds()
    held = window.stretches()
    there = all(p in bounds and held[p].stop <= bounds[p].end for p in held)
    if not (there and window.unfinished(identity, now_ms - resume_ms)):
        oldest = {} if reach.days is None else texts.offsets_at(now_ms - int(reach.days * DAY_MS))
        window.begin(identity, starts(bounds, oldest, reach.newest), _ends(bounds), now_ms)
    elif window.read:
        return
    _read_texts(window, texts, secret, on_progress)
    _read_items(window, items)
    window.finish()


def starts(bounds: Mapping[int, Bounds], oldest: Mapping[int, int], newest: int | None) -> dict[int, int]:
    """Partition → where the window begins: where the log does, or at `oldest` (a partition that is not in it has no
    such bound), and so that at most `newest` offsets are left. Each partition gives up the same share: a user stays in
    one partition, so that shares by time would be no fairer."""
    found = {p: min(max(held.begin, oldest.get(p, 0)), held.end) for p, held in bounds.items()}
    sizes = {p: bounds[p].end - start for p, start in found.items()}
    total = sum(sizes.values())
    if newest is None or total <= newest:
        return found
    return {p: bounds[p].end - math.floor(size * newest / total) for p, size in sizes.items()}


def _ends(bounds: Mapping[int, Bounds]) -> dict[int, int]:
    return {p: found.end for p, found in bounds.items()}


def _read_texts(window: Window, texts: Log, secret: bytes, on_progress: OnProgress | None) -> None:
    held = window.stretches()
    nexts = {p: stretch.next for p, stretch in held.items()}
    total = sum(stretch.stop - stretch.start for stretch in held.values())
    for piece in texts.read(nexts, {p: stretch.stop for p, stretch in held.items()}):
        with window.transaction():
            for record in piece.records:
                _take_text(window, record, secret)
            window.advance(USER_TEXT.name, piece.reached)
        nexts |= piece.reached
        if on_progress is not None:
            on_progress(sum(nexts[p] - stretch.start for p, stretch in held.items()), total)


def _take_text(window: Window, record: Record, secret: bytes) -> None:
    at = (record.partition, record.offset)
    try:
        read = decode_user_text(record.value, record.key, record.timestamp, record.headers)
    except BadRecord as bad:
        window.leave_out(USER_TEXT.name, *at, f"{BAD}{bad.reason}")
        return
    user = user_key(read.user_id, secret)
    if isinstance(read, Tombstone):
        window.erase(user, *at, record.timestamp)
    else:
        window.put_event(*at, record.timestamp, user, read)


def _read_items(window: Window, items: Log) -> None:
    bounds = items.bounds()
    begins, ends = {p: found.begin for p, found in bounds.items()}, _ends(bounds)
    window.begin_items(begins, ends)
    for piece in items.read(begins, ends):
        with window.transaction():
            for record in piece.records:
                _take_item(window, record)
            window.advance(ITEMS.name, piece.reached)


def _take_item(window: Window, record: Record) -> None:
    at = (record.partition, record.offset)
    try:
        read = decode_item(record.value, record.key, record.headers)
    except BadRecord as bad:
        window.leave_out(ITEMS.name, *at, f"{BAD}{bad.reason}")
        return
    if isinstance(read, ItemTombstone):
        window.drop_listing(read.item_id)
        window.leave_out(ITEMS.name, *at, TOMBSTONE)
    else:
        window.put_listing(read)
