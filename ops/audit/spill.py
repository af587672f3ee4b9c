"""What must come out of the log, on disk: one SQLite file in a temporary directory, so that memory does not grow with
the log. The only file that knows SQL.

It is written once, front to back, and thrown away: no journal, no sync, one transaction. Hashes are unsigned 64 bits
and SQLite's integers signed, so they are shifted on the way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final

from model.users import UserKey
from ops.audit.expected import Bad, History, ItemSum, Question, Sums, Version
from schemas.state import pack_state, unpack_state
from worker.store.popularity import log2_add

CACHE_KB: Final = 32 * 1024
PIECE: Final = 1000
"""Rows read or asked for at once."""
_SHIFT: Final = 1 << 63

_TABLES: Final = """
CREATE TABLE users(user BLOB PRIMARY KEY, position BLOB, state BLOB, flags INT, life INT, partition INT, ordinal INT,
    events INT, ids INT, mass REAL, oldest INT, newest INT);
CREATE TABLE questions(partition INT, offset INT, user BLOB, life INT, nth INT, event_id INT, timestamp INT, seen BLOB,
    own INT, needed INT, answers INT DEFAULT 0, PRIMARY KEY(partition, offset)) WITHOUT ROWID;
CREATE TABLE letters(partition INT, offset INT, reason TEXT, timestamp INT, key BLOB, value BLOB, needed INT,
    found INT DEFAULT 0, PRIMARY KEY(partition, offset)) WITHOUT ROWID;
CREATE TABLE items(item INTEGER PRIMARY KEY, popularity REAL, users INT, spare INT);
CREATE TABLE titles(item INT, item_id TEXT, title TEXT, PRIMARY KEY(item, item_id, title)) WITHOUT ROWID;
CREATE TABLE labels(label INTEGER PRIMARY KEY, weight REAL, name TEXT);
CREATE TABLE holders(item INT, user BLOB, PRIMARY KEY(item, user)) WITHOUT ROWID;
CREATE TABLE listings(item INT, partition INT, offset INT, timestamp INT, listed INT, available INT, expires INT,
    PRIMARY KEY(item, partition, offset)) WITHOUT ROWID;
CREATE TABLE loose(hash INTEGER PRIMARY KEY);
CREATE TABLE erasable(hash INTEGER PRIMARY KEY, popularity REAL, weight REAL);
CREATE TABLE interests(user BLOB PRIMARY KEY, partition INT, offset INT) WITHOUT ROWID;
"""


class Spill:
    """A context manager: the file is gone at its end."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="kindred-audit-")
        self._db = sqlite3.connect(Path(self._directory.name) / "log.db", isolation_level=None)
        self._db.create_function("log2_add", 2, log2_add, deterministic=True)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KB}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._directory.cleanup()

    # Users.

    def load(self, users: Iterable[UserKey]) -> dict[UserKey, History]:
        """Histories of the users that are known."""
        return {row[0]: _history(row) for row in self._among("SELECT * FROM users WHERE user IN", list(users))}

    def save(self, histories: Iterable[History]) -> None:
        rows = (
            (
                h.user, h.position, None if h.state is None else pack_state(h.state), h.flags, h.life, h.partition,
                h.ordinal, h.events, h.ids, h.mass, h.oldest, h.newest,
            )
            for h in histories
        )  # fmt: skip
        self._db.executemany("INSERT OR REPLACE INTO users VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def users(self) -> Iterator[list[History]]:
        for rows in self._pieces("SELECT * FROM users"):
            yield [_history(row) for row in rows]

    def known(self, users: Iterable[UserKey]) -> set[UserKey]:
        """Those of the users that the log has, erased ones too."""
        return {row[0] for row in self._among("SELECT user FROM users WHERE user IN", list(users))}

    def alive(self, users: Iterable[UserKey]) -> set[UserKey]:
        query = "SELECT user FROM users WHERE state IS NOT NULL AND user IN"
        return {row[0] for row in self._among(query, list(users))}

    def count(self, flag: int = 0) -> int:
        """Users that have all of these flags."""
        return self._one("SELECT COUNT(*) FROM users WHERE flags & ? = ?", flag, flag)

    def erased(self) -> int:
        return self._one("SELECT COUNT(*) FROM users WHERE state IS NULL")

    # Questions and dead letters.

    def ask(self, questions: Iterable[Question]) -> None:
        rows = (
            (
                *(q.partition, q.offset, q.user, q.life, q.nth, q.event_id - _SHIFT, q.timestamp),
                *(_packed(q.seen), q.own - _SHIFT, q.needed),
            )
            for q in questions
        )
        self._db.executemany(
            "INSERT INTO questions(partition, offset, user, life, nth, event_id, timestamp, seen, own, needed) "
            "VALUES(?,?,?,?,?,?,?,?,?,?)",
            rows,
        )

    def question(self, partition: int, offset: int) -> Question | None:
        row = self._db.execute(
            "SELECT * FROM questions WHERE partition=? AND offset=?", (partition, offset)
        ).fetchone()  # fmt: skip
        return None if row is None else _question(row)

    def answered(self, places: Iterable[tuple[int, int]]) -> None:
        """One more answer to each (partition, offset)."""
        self._db.executemany("UPDATE questions SET answers = answers + 1 WHERE partition=? AND offset=?", places)

    def unanswered(self, but: int, *, ended: bool) -> Iterator[Question]:
        """Needed and without an answer, of users that have none of the flags `but`; of lives that have ended only where
        that is asked for."""
        query = (
            "SELECT questions.* FROM questions JOIN users USING(user) WHERE answers = 0 AND needed AND NOT flags & ? "
            "AND (? OR users.state IS NOT NULL AND users.life = questions.life)"
        )
        for rows in self._pieces(query, but, ended):
            yield from map(_question, rows)

    def answers_of(self, flag: int) -> Iterator[tuple[History, int]]:
        """Users with the flag, and how many of their questions were answered or need not be."""
        found = self._pieces(
            "SELECT users.*, (SELECT COUNT(*) FROM questions WHERE questions.user = users.user AND "
            "(answers > 0 OR NOT needed)) FROM users WHERE flags & ?",
            flag,
        )
        for rows in found:
            yield from ((_history(row[:-1]), row[-1]) for row in rows)

    def index_questions(self) -> None:
        """Once all are there: what `answers_of` looks them up by."""
        self._db.execute("CREATE INDEX asked ON questions(user)")

    def bad(self, records: Iterable[Bad]) -> None:
        rows = ((b.partition, b.offset, b.reason, b.timestamp, b.key, b.value, b.needed) for b in records)
        self._db.executemany(
            "INSERT INTO letters(partition, offset, reason, timestamp, key, value, needed) VALUES(?,?,?,?,?,?,?)", rows
        )

    def bad_at(self, partition: int, offset: int) -> Bad | None:
        row = self._db.execute("SELECT * FROM letters WHERE partition=? AND offset=?", (partition, offset)).fetchone()
        return None if row is None else Bad(*row)

    def lettered(self, partition: int, offset: int) -> None:
        self._db.execute("UPDATE letters SET found = found + 1 WHERE partition=? AND offset=?", (partition, offset))

    def unlettered(self) -> Iterator[Bad]:
        for rows in self._pieces("SELECT * FROM letters WHERE found = 0 AND needed"):
            yield from (Bad(*row) for row in rows)

    # Aggregates and names.

    def add(self, sums: Sums) -> None:
        touched = sums.popularity.keys() | sums.users.keys() | sums.spare.keys() | {item for item, _, _ in sums.titles}
        self._db.executemany(
            "INSERT INTO items VALUES(?,?,?,?) ON CONFLICT(item) DO UPDATE SET "
            "popularity = log2_add(popularity, excluded.popularity), users = users + excluded.users, "
            "spare = spare + excluded.spare",
            (
                (item - _SHIFT, sums.popularity.get(item, -inf), sums.users.get(item, 0), sums.spare.get(item, 0))
                for item in touched
            ),
        )
        self._db.executemany(
            "INSERT INTO labels VALUES(?,?,?) ON CONFLICT(label) DO UPDATE SET weight = weight + excluded.weight",
            ((label - _SHIFT, sums.labels.get(label, 0.0), name) for label, name in sums.label_names.items()),
        )
        titles = ((item - _SHIFT, item_id, title) for item, item_id, title in sums.titles)
        self._db.executemany("INSERT OR IGNORE INTO titles VALUES(?,?,?)", titles)
        holders = ((item - _SHIFT, user) for item, user in sums.holders)
        self._db.executemany("INSERT OR IGNORE INTO holders VALUES(?,?)", holders)

    def items(self) -> Iterator[list[ItemSum]]:
        for rows in self._pieces("SELECT * FROM items"):
            yield [ItemSum(item + _SHIFT, *rest) for item, *rest in rows]

    def known_items(self, items: Iterable[int]) -> set[int]:
        asked = [item - _SHIFT for item in items]
        return {item + _SHIFT for (item,) in self._among("SELECT item FROM items WHERE item IN", asked)}

    def titles(self, items: Iterable[int]) -> dict[int, set[tuple[str, str]]]:
        """Item → all (id, title) that events gave; "" for no title."""
        found: dict[int, set[tuple[str, str]]] = {}
        for item, item_id, title in self._among(
            "SELECT * FROM titles WHERE item IN", [item - _SHIFT for item in items]
        ):
            found.setdefault(item + _SHIFT, set()).add((item_id, title))
        return found

    def labels(self) -> Iterator[list[tuple[int, float, str]]]:
        for rows in self._pieces("SELECT * FROM labels"):
            yield [(label + _SHIFT, weight, name) for label, weight, name in rows]

    def label_names(self, labels: Iterable[int]) -> dict[int, str]:
        asked = [label - _SHIFT for label in labels]
        return {label + _SHIFT: name for label, _, name in self._among("SELECT * FROM labels WHERE label IN", asked)}

    def label_count(self) -> int:
        return self._one("SELECT COUNT(*) FROM labels")

    def loosen(self, hashes: Iterable[int]) -> None:
        """Items and labels whose sums the order between partitions decides."""
        self._db.executemany("INSERT OR IGNORE INTO loose VALUES(?)", ((each - _SHIFT,) for each in hashes))

    def loose(self, hashes: Iterable[int]) -> set[int]:
        asked = [each - _SHIFT for each in hashes]
        return {each + _SHIFT for (each,) in self._among("SELECT hash FROM loose WHERE hash IN", asked)}

    def erasable(self, popularity: dict[int, float], labels: dict[int, float]) -> None:
        """What events of users who were erased have added to items (log2) and labels."""
        self._db.executemany(
            "INSERT INTO erasable VALUES(?,?,?) ON CONFLICT(hash) DO UPDATE SET "
            "popularity = log2_add(popularity, excluded.popularity), weight = weight + excluded.weight",
            (
                (each - _SHIFT, popularity.get(each, -inf), labels.get(each, 0.0))
                for each in popularity.keys() | labels.keys()
            ),
        )

    def erasable_of(self, hashes: Iterable[int]) -> dict[int, tuple[float, float]]:
        """(log2 of popularity, weight) of those of the items and labels that have any."""
        asked = [each - _SHIFT for each in hashes]
        found = self._among("SELECT * FROM erasable WHERE hash IN", asked)
        return {each + _SHIFT: (popularity, weight) for each, popularity, weight in found}

    def erasable_count(self) -> int:
        return self._one("SELECT COUNT(*) FROM erasable")

    def loose_count(self) -> int:
        return self._one("SELECT COUNT(*) FROM loose")

    def holders(self, item: int, but: UserKey, most: int) -> int:
        """How many users other than this one ever had the item, at most so many."""
        return self._one(
            "SELECT COUNT(*) FROM (SELECT 1 FROM holders WHERE item=? AND user<>? LIMIT ?)", item - _SHIFT, but, most
        )

    # The catalogue's log, and published interests.

    def list_item(self, item: int, partition: int, offset: int, version: Version) -> None:
        row = (item - _SHIFT, partition, offset, version.timestamp, version.listed, version.available, version.expires)
        self._db.execute("INSERT INTO listings VALUES(?,?,?,?,?,?,?)", row)

    def versions(self, item: int) -> list[Version]:
        """In the order of the log."""
        rows = self._db.execute(
            "SELECT timestamp, listed, available, expires FROM listings WHERE item=? ORDER BY partition, offset",
            (item - _SHIFT,),
        )
        return [Version(timestamp, bool(listed), bool(open_), expires) for timestamp, listed, open_, expires in rows]

    def catalogue_since(self) -> int | None:
        """From when on some item was listed for good; None where there is none."""
        (found,) = self._db.execute(
            "SELECT MIN(since) FROM (SELECT MIN(timestamp) since FROM listings GROUP BY item HAVING MIN(listed) = 1)"
        ).fetchone()
        return None if found is None else int(found)

    def publish_interests(self, user: UserKey, partition: int, offset: int, *, gone: bool) -> None:
        """The latest record of a user."""
        if gone:
            self._db.execute("DELETE FROM interests WHERE user=?", (user,))
        else:
            self._db.execute("INSERT OR REPLACE INTO interests VALUES(?,?,?)", (user, partition, offset))

    def interests(self) -> Iterator[list[tuple[UserKey, int, int]]]:
        yield from self._pieces("SELECT * FROM interests")

    def _one(self, query: str, *values: object) -> int:
        (found,) = self._db.execute(query, values).fetchone()
        return int(found)

    def _pieces(self, query: str, *values: object) -> Iterator[list[Any]]:
        cursor = self._db.execute(query, values)
        while rows := cursor.fetchmany(PIECE):
            yield rows

    def _among(self, query: str, values: Sequence[object]) -> Iterator[Any]:
        """The query ends with IN."""
        for start in range(0, len(values), PIECE):
            some = values[start : start + PIECE]
            yield from self._db.execute(f"{query} ({','.join('?' * len(some))})", some)


def _history(row: Sequence[Any]) -> History:
    user, position, state, *rest = row
    return History(user, position, None if state is None else unpack_state(state), *rest)


def _question(row: Sequence[Any]) -> Question:
    partition, offset, user, life, nth, event_id, timestamp, seen, own, needed, answers = row
    items = frozenset(int.from_bytes(seen[at : at + 8], "little") for at in range(0, len(seen), 8))
    event_id, own = event_id + _SHIFT, own + _SHIFT
    return Question(partition, offset, user, life, nth, event_id, timestamp, items, own, bool(needed), answers)


def _packed(items: Iterable[int]) -> bytes:
    return b"".join(item.to_bytes(8, "little") for item in items)
