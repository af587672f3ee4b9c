"""Step 1: the window, one SQLite file that holds what the log held between two recorded places.

Records are written in the same transaction as the next offset of their partition: after a kill reading goes on exactly
where it stopped. What is here is a function of the log alone, whatever the order in which partitions were read: repeats
and duplicates are only left out later (trainer/prepare.py), because the one that counts may yet leave the window.

Users stand here under their keyed hash (model/users.py); their texts stand here in clear, so the file is readable by
its owner only and deleted rows are overwritten. Knows no Kafka, no encoder and no clock. `window.sql` has the tables.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from model.clean import clean
from model.users import UserKey
from schemas.item import Item
from schemas.state import hash64
from schemas.topics import ITEMS, USER_TEXT
from schemas.user_text import Event
from trainer.errors import WindowUnusable
from trainer.schedule import Last

FORMAT: Final = 2
"""Of window.sql; a file of another format is emptied, and the log read anew."""
EMPTY: Final = "empty"
ERASED: Final = "erased"
TOMBSTONE: Final = "tombstone"
BAD: Final = "bad."
"""Reasons for which a record became no event: nothing to learn from, its user was erased, it says so, a bad record
(with schemas.errors.Reason behind the dot)."""

LOCK_S: Final = 5.0
"""For so long a lock of another process is waited for; there should be none."""
_CACHE_KIB: Final = 64 * 1024
_READING, _READ, _OVER = "reading", "read", "over"
"""How far a run is: the log is being read, it is learned from, its refit is noted."""
_SCHEMA: Final = files("trainer").joinpath("window.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of one partition: offsets [start, stop) make the window, [start, next) has been read."""

    start: int
    next: int
    stop: int


class Window:
    """An open window. Every call raises WindowUnusable where the file cannot be read or written. One thread."""

    def __init__(self, path: Path) -> None:
        """path: made, with mode 0600, where it is not there; its directory must be."""
        self.path = path
        with self._ours():
            path.touch(mode=0o600)
            path.chmod(0o600)
            self._database = sqlite3.connect(path, LOCK_S, isolation_level=None)
            try:
                self._database.execute("PRAGMA secure_delete = ON")
                self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                ((version,),) = self._database.execute("PRAGMA user_version")
                if version != FORMAT:
                    self.forget_all()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is there afterwards, or, after an error or a kill, none of it."""
        with self._ours():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._database.in_transaction:  # some errors, such as a full disk, have ended it already
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def rows(self, sql: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """What a SELECT finds, row by row."""
        with self._ours():
            yield from self._database.execute(sql, parameters)

    def write(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        """One statement, once for each row of parameters."""
        with self._ours():
            self._database.executemany(sql, parameters)

    def forget_all(self) -> None:
        """An empty window, as if the file had just been made."""
        held = list(
            self.rows("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table') ORDER BY type DESC")
        )
        drops = "".join(f'DROP {kind} "{name}";\n' for kind, name in held)
        with self._ours():
            self._database.executescript(f"BEGIN;\n{drops}{_SCHEMA}PRAGMA user_version = {FORMAT};\nCOMMIT;")

    # The run under way.

    def unfinished(self, identity: Mapping[str, str], since_ms: int) -> bool:
        """Whether a run of this very window was begun and not ended: it was not read to its end, or it was, began after
        since_ms, and no refit of it is noted."""
        if self._meta("identity") != _canonical(identity):
            return False
        run = self._meta("run")
        return run == _READING or (run == _READ and int(self._meta("begun") or 0) > since_ms)

    @property
    def read(self) -> bool:
        """Whether everything up to the recorded end is here."""
        return self._meta("run") != _READING

    def begin(
        self, identity: Mapping[str, str], starts: Mapping[int, int], stops: Mapping[int, int], now_ms: int
    ) -> None:
        """A new run up to stops. What was read of the same log before stays, as far as it lies at or behind starts.

        identity: whatever may not differ between two runs (the log's id among it); where it does, or where the log
        ends before what has been read of it, the window begins anew.
        """
        held = self.stretches()
        if self._meta("identity") != _canonical(identity) or any(held[p].next > stops.get(p, 0) for p in held):
            self.forget_all()
            held = {}
        with self.transaction():
            for partition, stop in stops.items():
                start = next_ = starts[partition]
                if partition in held:
                    start = max(start, held[partition].start)
                    next_ = max(start, held[partition].next)
                self.write("DELETE FROM events WHERE partition = ? AND offset < ?", [(partition, start)])
                self.write(
                    "DELETE FROM left_out WHERE topic = ? AND partition = ? AND offset < ?",
                    [(USER_TEXT.name, partition, start)],
                )
                self._keep_stretch(USER_TEXT.name, partition, Stretch(start, next_, stop))
            self._keep_meta("identity", _canonical(identity))
            self._keep_meta("begun", str(now_ms))
            self._keep_meta("run", _READING)

    def begin_items(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> None:
        """The catalogue is read whole in each run: a compacted log need not tell what was withdrawn meanwhile."""
        with self.transaction():
            self.write("UPDATE listings SET seen = 0", [()])
            self.write("DELETE FROM left_out WHERE topic = ?", [(ITEMS.name,)])
            self.write("DELETE FROM stretches WHERE topic = ?", [(ITEMS.name,)])
            for partition, stop in stops.items():
                start = starts[partition]
                self._keep_stretch(ITEMS.name, partition, Stretch(start, start, stop))

    def finish(self) -> None:
        """Everything up to the recorded end is here."""
        with self.transaction():
            self.write("DELETE FROM listings WHERE seen = 0", [()])
            self._keep_meta("run", _READ)

    def note_refit(self, at_ms: int, *, enough: bool) -> None:
        """A refit of this window ended, and the run with it. enough: the window held enough to learn from."""
        stops = {str(partition): stretch.stop for partition, stretch in self.stretches().items()}
        with self.transaction():
            self._keep_meta("refit", json.dumps({"at_ms": at_ms, "ends": stops, "enough": enough}))
            self._keep_meta("run", _OVER)

    def last_refit(self) -> Last | None:
        """None where there was none since the window began anew."""
        noted = self._meta("refit")
        if noted is None:
            return None
        found = json.loads(noted)
        return Last(found["at_ms"], {int(p): end for p, end in found["ends"].items()}, found["enough"])

    def stretches(self, topic: str = USER_TEXT.name) -> dict[int, Stretch]:
        """Partition → what the window has of it."""
        found = self.rows("SELECT partition, start, next, stop FROM stretches WHERE topic = ? ORDER BY 1", topic)
        return {partition: Stretch(*offsets) for partition, *offsets in found}

    def advance(self, topic: str, reached: Mapping[int, int]) -> None:
        """Partition → the next offset to read; in the transaction of the records before it."""
        self.write(
            "UPDATE stretches SET next = ? WHERE topic = ? AND partition = ?",
            [(offset, topic, partition) for partition, offset in reached.items()],
        )

    # Records, inside a transaction.

    def put_event(self, partition: int, offset: int, timestamp: int, user: UserKey, event: Event) -> None:
        """An event, cleaned. One with no text left and no item, and one of a user who was erased since, is only
        counted."""
        text = clean(event.text)
        if not text and event.item_id is None:
            self.leave_out(USER_TEXT.name, partition, offset, EMPTY)
            return
        if self._is_erased(user, partition, timestamp):
            self.leave_out(USER_TEXT.name, partition, offset, ERASED)
            return
        item = title = None
        if event.item_id is not None:
            item = self._number("items", event.item_id)
            if event.item_title:
                title = self._number("titles", event.item_title, self._text(clean(event.item_title)))
        place = self._database.execute(
            "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                partition,
                offset,
                timestamp,
                event.occurred_ms,
                self._number("users", user),
                self._text(text),
                item,
                title,
                event.weight,
                event.lang or "",
                None if event.event_id is None else hash64(event.event_id) - (1 << 63),  # SQLite's integers are signed
            ),
        ).lastrowid
        labels = enumerate(dict.fromkeys(event.labels))
        self.write(
            "INSERT INTO event_labels VALUES (?, ?, ?)",
            [(place, nth, self._number("labels", label)) for nth, label in labels],
        )

    def erase(self, user: UserKey, partition: int, offset: int, timestamp: int) -> None:
        """A tombstone: of this partition all that stood before it goes; of others what is not newer, read or not yet.

        What is newer is a returning user's. (model/update.py has the same rule.)
        """
        self.leave_out(USER_TEXT.name, partition, offset, TOMBSTONE)
        self.write(
            "INSERT INTO erased VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET timestamp = max(timestamp, excluded.timestamp)",
            [(user, partition, timestamp)],
        )
        gone = list(
            self.rows(
                "SELECT partition, offset FROM events WHERE user = (SELECT id FROM users WHERE name = ?) "
                "AND CASE partition WHEN ? THEN offset < ? ELSE timestamp <= ? END",
                user,
                partition,
                offset,
                timestamp,
            )
        )
        self.write("DELETE FROM events WHERE partition = ? AND offset = ?", gone)
        for its_partition, its_offset in gone:
            self.leave_out(USER_TEXT.name, its_partition, its_offset, ERASED)

    def leave_out(self, topic: str, partition: int, offset: int, reason: str) -> None:
        """A record that becomes no event is only counted."""
        self.write("INSERT INTO left_out VALUES (?, ?, ?, ?)", [(topic, partition, offset, reason)])

    def put_listing(self, item: Item) -> None:
        """An item of the catalogue, with the text by which the worker places it (worker/catalogue.py)."""
        expires = None if item.expires_at is None else int(item.expires_at.timestamp() * 1000)
        text = self._text(clean(f"{item.title}. {item.text or ''}"))
        self.write(
            "INSERT INTO listings VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET title = excluded.title, "
            "text = excluded.text, available = excluded.available, expires = excluded.expires, seen = 1",
            [(item.item_id, item.title, text, item.available, expires)],
        )

    def drop_listing(self, item_id: str) -> None:
        self.write("DELETE FROM listings WHERE item = ?", [(item_id,)])

    # What is told of it.

    def counts(self) -> dict[str, int]:
        """Records of `user-text` between start and next: `read`, of which `events` stand here and the others were left
        out, each counted under its reason; `items.` before reasons of the catalogue's."""
        ((events,),) = self.rows("SELECT count(*) FROM events")
        left: dict[str, int] = {}
        for topic, reason, number in self.rows("SELECT topic, reason, count(*) FROM left_out GROUP BY 1, 2"):
            left[reason if topic == USER_TEXT.name else f"{topic}.{reason}"] = number
        read = events + sum(number for reason, number in left.items() if not reason.startswith(f"{ITEMS.name}."))
        return {"read": read, "events": events, **left}

    def texts(self, ids: Sequence[int]) -> list[str]:
        """The cleaned texts of these ids, in their order; ids may repeat. Raises ValueError for one that is not here
        (any more)."""
        found = dict(self.rows("SELECT id, text FROM texts WHERE id IN (SELECT value FROM json_each(?))", among(ids)))
        try:
            return [found[number] for number in ids]
        except KeyError as error:
            raise ValueError(f"text {error} is not in the window: prepare it again after reading the log") from None

    def _is_erased(self, user: UserKey, partition: int, timestamp: int) -> bool:
        """Whether a tombstone of another partition is not older; one of this partition came before the event."""
        ((newest,),) = self.rows("SELECT max(timestamp) FROM erased WHERE user = ? AND partition != ?", user, partition)
        return newest is not None and timestamp <= newest

    def _text(self, text: str) -> int | None:
        if not text:
            return None
        return self._place("texts", "hash", blake2b(text.encode(), digest_size=16).digest(), text)

    def _number(self, table: str, name: str | bytes, *further: Any) -> int:
        return self._place(table, "name", name, *further)

    def _place(self, table: str, column: str, value: str | bytes, *further: Any) -> int:
        """The id of the row with this value, which is made where there is none."""
        found = self._database.execute(f"SELECT id FROM {table} WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        if found is not None:
            return int(found[0])
        marks = ", ?" * (1 + len(further))
        made = self._database.execute(f"INSERT INTO {table} VALUES (NULL{marks})", (value, *further))  # noqa: S608
        return int(made.lastrowid or 0)

    def _keep_stretch(self, topic: str, partition: int, stretch: Stretch) -> None:
        row = (topic, partition, stretch.start, stretch.next, stretch.stop)
        self.write("INSERT OR REPLACE INTO stretches VALUES (?, ?, ?, ?, ?)", [row])

    def _meta(self, name: str) -> str | None:
        return next((value for (value,) in self.rows("SELECT value FROM meta WHERE name = ?", name)), None)

    def _keep_meta(self, name: str, value: str) -> None:
        self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, value)])

    @contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise WindowUnusable(
                f"the window {self.path} cannot be used ({type(error).__name__}: {error}); free the disk or the file's "
                "lock, or delete the file: the log is read anew then"
            ) from error


def among(values: Iterable[int] | Iterable[str]) -> str:
    """Values as the one parameter of `IN (SELECT value FROM json_each(?))`: SQLite takes no more than 32766."""
    return json.dumps(list(values))


def _canonical(identity: Mapping[str, str]) -> str:
    return json.dumps(dict(identity), sort_keys=True)
