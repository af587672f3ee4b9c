"""A file of events as the one partition of a log, so that the trainer reads it like any other.

The file is read twice, once to be looked over and once for what it says; no more than a piece is held. An event's line
number is known in every error, its text is in none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from model.kafka.base import Bounds, Record
from ops.cli.lines import BadLine, Line, parse_mapping, read_lines
from ops.cli.produce import open_source
from ops.errors import BadInput
from schemas.codec import Tombstone, decode_user_text
from schemas.topics import ITEMS, USER_TEXT
from trainer.read import Piece

NOW_MS: Final = 4_000_000_000_000
"""2096: no event of a file is newer, and schemas believe it still."""
PIECE: Final = 1_000
OnBytes = Callable[[int, int | None], None]
"""Bytes of the file that were read, and of how many."""


class EventsFile:
    """The lines of a file (.gz or not) in their order, each record as old as its event. bad: lines that were passed
    over, in their order."""

    topic = USER_TEXT.name

    def __init__(
        self,
        file: str,
        fields: Sequence[str] = (),
        *,
        skip_bad: bool = False,
        progress: OnBytes = lambda *_: None,
    ) -> None:
        """fields: as `--field` has them. skip_bad: pass bad lines over. Raises BadInput for a file that cannot be read,
        for a bad line, for one that is older than the one before it, and where nothing is left."""
        if file == "-":
            raise BadInput("Standard input cannot be read twice.", "Give a file.")
        self._file = file
        self._mapping = parse_mapping(fields, USER_TEXT)
        self._skip_bad = skip_bad
        self.bad: list[BadLine] = []
        content = blake2b(digest_size=16)
        self._count = self._look_over(content.update, progress)
        self._id = content.hexdigest()

    def _look_over(self, digest: Callable[[bytes], None], progress: OnBytes) -> int:
        count, before, before_at = 0, 0, 0
        for line, at in self._lines(progress, self.bad):
            if at < before_at:
                raise BadInput(
                    f"Line {line.number} of {self._file} is older than line {before}: events must stand in the order "
                    "of time, because each is answered by what stands before it.",
                    "Sort the file by time; jq does it: jq -sc 'sort_by(.ts)[]' FILE, with your field for ts.",
                )
            before, before_at = line.number, at
            count += 1
            digest(line.key + b"\0" + (line.value or b"") + b"\n")
        if not count:
            raise BadInput(f"{self._file} has no event.", "Give JSON lines as `kindred produce` takes them.")
        return count

    def _lines(
        self, progress: OnBytes = lambda *_: None, bad: list[BadLine] | None = None
    ) -> Iterator[tuple[Line, int]]:
        """Good lines, and when each was written, in milliseconds since 1970. bad: where the others go to."""
        with open_source(self._file) as source:
            for read in read_lines(source.lines, USER_TEXT, self._mapping, lambda: NOW_MS):
                if read.number % PIECE == 0:
                    progress(source.position(), source.size)
                line, at = (read, 0) if isinstance(read, BadLine) else _timed(read)
                if isinstance(line, Line):
                    yield line, at
                elif not self._skip_bad:
                    raise BadInput(
                        f"Line {line.number} of {self._file}: {line.why}.",
                        "Correct the line, name another field with --field TARGET=SOURCE, or pass bad lines over with "
                        "--skip-bad.",
                    )
                elif bad is not None:
                    bad.append(line)
            progress(source.size or 0, source.size)

    # As the trainer reads a log.

    def topic_id(self) -> str:
        return self._id

    def bounds(self) -> dict[int, Bounds]:
        return {0: Bounds(0, self._count)}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        older = (at < timestamp_ms for _, at in self._lines())
        return {0: next((offset for offset, is_older in enumerate(older) if not is_older), self._count)}

    def read(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> Iterator[Piece]:
        records: list[Record] = []
        for offset, (line, at) in enumerate(self._lines()):
            if offset >= stops[0]:
                break
            if offset >= starts[0]:
                records.append(Record(USER_TEXT.name, 0, offset, at, line.key, line.value, ()))
            if len(records) == PIECE:
                yield Piece(records, {0: offset + 1})
                records = []
        if records:
            yield Piece(records, {0: stops[0]})


class NoItems:
    """A catalogue that is not there: every item that somebody took may be recommended."""

    topic = ITEMS.name

    def topic_id(self) -> None:
        return None

    def bounds(self) -> dict[int, Bounds]:
        return {}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:  # noqa: ARG002 (as a log)
        return {}

    def read(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> Iterator[Piece]:  # noqa: ARG002
        return iter(())


def _timed(line: Line) -> tuple[Line | BadLine, int]:
    event = decode_user_text(line.value, line.key, NOW_MS)
    if isinstance(event, Tombstone) or event.occurred_ms == NOW_MS:
        why = "occurred_at: is missing; --field occurred_at=SOURCE says which field has the time"
        return BadLine(line.number, why), 0
    return line, event.occurred_ms
