"""Dead letters against the records that deserve them: one a bad record, with its reason, key and value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.audit.findings import Findings, Kind
from ops.audit.replay import digest
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from ops.audit.window import Bounds, Window, topic_pieces
from ops.cli.target import Target
from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.errors import DeadLetterError
from schemas.topics import DEAD_LETTERS, USER_TEXT
from worker.broker.base import Record


@dataclass(slots=True)
class LetterCounts:
    """read: records of the topic. foreign: those that are no dead letters; some other program wrote them."""

    read: int = 0
    foreign: int = 0
    repeats: int = 0


class Letters:
    def __init__(
        self, target: Target, rules: Rules, windows: Mapping[int, Window], spill: Spill, findings: Findings
    ) -> None:
        self._target = target
        self._topic = target.topic(USER_TEXT)
        self._rules = rules
        self._windows = windows
        self._spill = spill
        self._findings = findings
        self.counts = LetterCounts()

    def check(self, of: Bounds) -> Iterator[int]:
        """The whole topic, then what is missing in it. Yields how many records were read since."""
        for piece in topic_pieces(self._target, DEAD_LETTERS, of):
            for record in piece:
                self._check(record)
            yield len(piece)
        for bad in self._spill.unlettered():
            if of.since_ms is None or bad.timestamp > of.since_ms:
                self._findings.add(Kind.MISSING_LETTER, f"user-text {bad.partition}/{bad.offset}", bad.reason)

    def _check(self, record: Record) -> None:
        self.counts.read += 1
        where = f"{DEAD_LETTERS.name} {record.partition}/{record.offset}"
        try:
            letter = read_dead_letter(record.headers, record.key, record.value)
        except DeadLetterError:
            self.counts.foreign += 1
            return
        window = self._windows.get(letter.partition)
        if letter.topic != self._topic or window is None:
            said = f"it is said to come from {letter.topic}-{letter.partition}"
            self._findings.add(Kind.UNDESERVED_LETTER, where, said)
        elif window.start <= letter.offset < window.stop:
            self._judge(where, letter)

    def _judge(self, where: str, letter: DeadLetter) -> None:
        add, place = self._findings.add, f"{letter.partition}/{letter.offset}"
        bad = self._spill.bad_at(letter.partition, letter.offset)
        if bad is None:
            add(Kind.UNDESERVED_LETTER, where, f"{place} is no bad record")
            return
        self._spill.lettered(letter.partition, letter.offset)
        if bad.found:
            self.counts.repeats += 1
            if self._rules.exactly_once or self._rules.undisturbed:
                add(Kind.DOUBLED_LETTER, where, f"{place} had one before")
        if letter.reason != bad.reason:
            add(Kind.WRONG_REASON, where, f"{letter.reason}, but {place} is {bad.reason}")
        altered = [
            part
            for part, now, then in (("key", letter.key, bad.key), ("value", letter.value, bad.value))
            if part not in letter.left_out and digest(now) != then
        ]
        if altered:
            add(Kind.ALTERED_LETTER, where, f"{' and '.join(altered)} of {place}")
