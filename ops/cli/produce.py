"""A file into Kafka, with progress. What a line may be is `ops/cli/lines.py`'s business."""

from __future__ import annotations

import gzip
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ops import broker
from ops.cli.feed import Feed
from ops.cli.lines import PRODUCIBLE, BadLine, parse_mapping, read_lines
from ops.cli.target import Target
from ops.errors import BadInput

REFRESH_LINES: Final = 200
NAMED_BAD_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Source:
    """lines: raw; size: bytes of the file, None when unknown; position: how many of them were read."""

    lines: IO[bytes]
    size: int | None
    position: Callable[[], int]


@contextmanager
def open_source(file: str) -> Iterator[Source]:
    """A path, a path ending in .gz, or - for standard input. Raises BadInput."""
    if file == "-":
        yield Source(sys.stdin.buffer, None, lambda: 0)
        return
    try:
        with Path(file).open("rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            lines: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if file.endswith(".gz") else raw
            yield Source(lines, size, raw.tell if file.endswith(".gz") else lines.tell)
    except (gzip.BadGzipFile, EOFError) as error:
        raise BadInput(f"{file} is not a whole gzip file: {error}.", "Check the file.") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error


def produce_file(
    file: str, target: Target, *, topic: str, fields: Sequence[str], skip_bad: bool, limit: int | None
) -> None:
    """Raises Unreachable, and BadInput at the first bad line unless skip_bad, after all before it was acknowledged."""
    if topic not in PRODUCIBLE:
        raise BadInput(f"--topic {topic} is not one that is produced to.", f"Choose {' or '.join(PRODUCIBLE)}.")
    schema = PRODUCIBLE[topic][0]
    mapping = parse_mapping(fields, schema)
    bad: list[BadLine] = []
    started = time.monotonic()
    with open_source(file) as source, broker.producer(target.kafka) as producer, _progress() as progress:
        task = progress.add_task(Path(file).name, total=source.size, rate="")
        feed = Feed(producer, target.topic(schema))
        lines = read_lines(islice(source.lines, limit), schema, mapping, lambda: int(time.time() * 1000))
        for count, line in enumerate(lines, start=1):
            if isinstance(line, BadLine):
                bad.append(line)
                if not skip_bad:
                    break
                continue
            feed.send(line.key, line.value)
            if count % REFRESH_LINES == 0:
                rate = feed.acknowledged / max(1e-9, time.monotonic() - started)
                progress.update(task, completed=source.position(), rate=f"{feed.acknowledged} sent, {rate:.0f}/s")
        feed.finish()
        progress.update(task, completed=source.size)
    seconds = time.monotonic() - started
    summary = f"{feed.acknowledged} records sent to {target.topic(schema)} in {seconds:.1f} s"
    summary += f" ({feed.acknowledged / max(1e-9, seconds):.0f}/s)"
    if bad and not skip_bad:
        raise BadInput(
            f"Line {bad[0].number} of {file}: {bad[0].why}. Stopped there; {summary}.",
            "Correct the line, or count bad lines instead with --skip-bad.",
        )
    console = Console(stderr=True)
    for line in bad[:NAMED_BAD_LINES]:
        console.print(f"Line {line.number}: {line.why}", highlight=False, markup=False)
    if bad:
        summary += f"; {len(bad)} bad lines skipped"
    sys.stdout.write(f"{summary}.\n")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
