"""Dead letters: listed, and sent again.

A redriven record carries the identity of its dead letter in a header. Which ones were sent before is read from the log
itself, so that nothing is sent twice, whoever ran the command and whatever became of Redis; and so does which users
were erased since: what they once wrote is not sent again, it would make them known anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ops import broker
from ops.cli.render import plain_table
from ops.cli.target import Target
from schemas.dead_letter import DeadLetter, read_dead_letter, redriven
from schemas.errors import DeadLetterError
from schemas.headers import last
from schemas.topics import DEAD_LETTERS

REDRIVEN: Final = "kindred-redriven"
"""Header of a record that was sent again: topic-partition-offset of the bad record."""

IN_FLIGHT: Final = 200


@dataclass(frozen=True, slots=True)
class Redriven:
    """sent: now; already: by an earlier run; left_out: cannot be sent, because a part of the record is not there;
    erased: of users who were erased since."""

    sent: int
    already: int
    left_out: int
    erased: int


@dataclass(frozen=True, slots=True)
class Past:
    """Identities of dead letters. redriven: sent again before. erased: their user was erased after the bad record.
    ends: partition → offset up to which that is known."""

    redriven: frozenset[str]
    erased: frozenset[str]
    ends: Mapping[Any, int]


def identity(letter: DeadLetter) -> str:
    return f"{letter.topic}-{letter.partition}-{letter.offset}"


def read(target: Target, reason: str | None = None) -> list[DeadLetter]:
    """One letter an identity (a replay may write the same again), in the order in which they were first written."""
    found: dict[str, DeadLetter] = {}
    for record in broker.read_all(target.kafka, target.topic(DEAD_LETTERS)):
        try:
            letter = read_dead_letter(record.headers, record.key, record.value)
        except DeadLetterError:
            continue  # somebody else's record
        if reason is None or letter.reason == reason:
            found.setdefault(identity(letter), letter)
    return list(found.values())


def past(target: Target, letters: Sequence[DeadLetter], before: Past | None = None) -> Past:
    """What the topics of the letters tell of them; before: only what was written since that was found out.

    A redriven record keeps the bad record's timestamp, so it stands at or after the first offset with such a timestamp;
    so does a tombstone that came after a letter.
    """
    oldest: dict[str, int] = {}
    for letter in letters:
        oldest[letter.topic] = min(letter.timestamp, oldest.get(letter.topic, letter.timestamp))
    users = {letter.key for letter in letters if letter.key}
    redriven: set[str] = set()
    tombstones: dict[bytes, list[Any]] = {}
    ends: dict[Any, int] = {}
    for topic, timestamp in oldest.items():
        with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
            parts = broker.partitions(admin, topic)
            stops = broker.ends(admin, reader, parts)
            starts = broker.at_time(admin, parts, timestamp) if before is None else before.ends
        begins = {part: stops[part] if (start := starts.get(part)) is None else start for part in parts}
        ends.update(stops)
        for record in broker.read_between(target.kafka, begins, stops):
            mark = last(record.headers, REDRIVEN)
            if mark is not None:
                redriven.add(mark.decode(errors="replace"))
            if record.value is None and record.key in users:
                tombstones.setdefault(record.key, []).append(record)
    erased = {
        identity(letter)
        for letter in letters
        if letter.key and any(_after(tombstone, letter) for tombstone in tombstones.get(letter.key, ()))
    }
    return Past(frozenset(redriven), frozenset(erased), ends)


def _after(tombstone: Any, letter: DeadLetter) -> bool:
    if tombstone.topic != letter.topic:
        return False
    if tombstone.partition == letter.partition:
        return bool(tombstone.offset > letter.offset)
    return bool(tombstone.timestamp >= letter.timestamp)  # the number of partitions was changed in between


def redrive(target: Target, reason: str | None, agreed: Callable[[int], bool]) -> Redriven:
    """Send what was not sent before, if `agreed` to their number. Raises Unreachable."""
    letters = read(target, reason)
    told = past(target, letters)
    ready, left_out, erased = [], 0, 0
    for letter in letters:
        if identity(letter) in told.redriven:
            continue
        if identity(letter) in told.erased:
            erased += 1
            continue
        try:
            ready.append((letter, redriven(letter)))
        except DeadLetterError:
            left_out += 1
    already = len(letters) - len(ready) - left_out - erased
    if not ready or not agreed(len(ready)):
        return Redriven(0, already, left_out, erased)
    # Whoever was forgotten while the question stood must not come back.
    gone = past(target, [letter for letter, _ in ready], told).erased
    kept = [(letter, record) for letter, record in ready if identity(letter) not in gone]
    erased, ready = erased + len(ready) - len(kept), kept
    with broker.producer(target.kafka) as producer:
        for start in range(0, len(ready), IN_FLIGHT):
            futures = [
                producer.send(
                    letter.topic,
                    key=record.key,
                    value=record.value,
                    headers=[*record.headers, (REDRIVEN, identity(letter).encode())],
                    partition=_partition(letter),
                    timestamp_ms=letter.timestamp,
                )
                for letter, record in ready[start : start + IN_FLIGHT]
            ]
            for future in futures:
                future.get(timeout=broker.REQUEST_MS / 1000)
    return Redriven(len(ready), already, left_out, erased)


def _partition(letter: DeadLetter) -> int | None:
    """None leaves it to the key. Without a key the record goes back to where it was."""
    return letter.partition if letter.key is None else None


def show(target: Target, reason: str | None, *, as_json: bool) -> None:
    letters = read(target, reason)
    told = past(target, letters)
    if as_json:
        rows = [
            {
                "topic": letter.topic, "partition": letter.partition, "offset": letter.offset, "reason": letter.reason,
                "detail": letter.detail, "timestamp": letter.timestamp, "worker": letter.worker,
                "left_out": dict(letter.left_out), "redriven": identity(letter) in told.redriven,
                "erased": identity(letter) in told.erased,
            }
            for letter in letters
        ]  # fmt: skip
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    table = plain_table("partition/offset", "when", "reason", "detail", "sent again")
    for letter in letters:
        when = datetime.fromtimestamp(letter.timestamp / 1000, UTC).strftime("%m-%d %H:%M")
        again = "yes" if identity(letter) in told.redriven else "user erased" if identity(letter) in told.erased else ""
        table.add_row(f"{letter.partition}/{letter.offset}", when, letter.reason, Text(letter.detail), again)
    console = Console()
    console.print(table if letters else "No dead letters.")
