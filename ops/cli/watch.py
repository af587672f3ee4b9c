"""`kindred watch`: a live table on a terminal, lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ops import broker
from ops.cli import render
from ops.cli.answers import last_answers, new_answers
from ops.cli.offsets import ask_standings
from ops.cli.target import Target
from schemas.recommendation import Recommendation

LAG_SECONDS: Final = 1.0
RATE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the workers' group on `user-text`. written: ends of the log added up; lag: records not committed yet."""

    written: int
    lag: int


def progress(target: Target, admin: Any, reader: Any) -> Progress:
    """By an admin client and a reader for nothing else. Raises NoStack where the topic is missing."""
    found = ask_standings(target, admin, reader)
    return Progress(written=sum(standing.end for standing in found), lag=sum(standing.lag for standing in found))


class Rate:
    """Per second over the last RATE_SECONDS, from a number that only grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, total: int) -> float:
        self._seen.append((now, total))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        first_at, first = self._seen[0]
        return 0.0 if now <= first_at else (total - first) / (now - first_at)


def watch_answers(target: Target, *, limit: int | None, once: bool, rows: int, as_json: bool) -> None:
    console = Console()
    if once:
        answers = last_answers(target, rows)
        with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
            now = progress(target, admin, reader)
        if as_json or not console.is_terminal:
            _write(answers, as_json)
        else:
            console.print(_screen(answers, now, 0.0, 0.0))
        return
    if as_json or not console.is_terminal:
        _follow(target, limit, as_json)
    else:
        _live(console, target, limit, rows)


def _follow(target: Target, limit: int | None, as_json: bool) -> None:
    shown = 0
    with new_answers(target) as source:
        while limit is None or shown < limit:
            answers = source.poll(500)[: None if limit is None else limit - shown]
            _write(answers, as_json)
            shown += len(answers)


def _live(console: Console, target: Target, limit: int | None, rows: int) -> None:
    table: deque[Recommendation] = deque(maxlen=rows)
    written, answered = Rate(), Rate()
    shown, next_lag = 0, 0.0
    with (
        new_answers(target) as source,
        broker.admin(target.kafka) as admin,
        broker.reader(target.kafka) as reader,
        Live(console=console, auto_refresh=False, transient=limit is None) as live,
    ):
        now = progress(target, admin, reader)
        while limit is None or shown < limit:
            answers = source.poll(250)
            table.extendleft(answers)
            shown += len(answers)
            clock = time.monotonic()
            if clock >= next_lag:
                now, next_lag = progress(target, admin, reader), clock + LAG_SECONDS
            live.update(_screen(table, now, written.add(clock, now.written), answered.add(clock, shown)), refresh=True)


def _screen(answers: Iterable[Recommendation], now: Progress, events: float, answered: float) -> RenderableType:
    head = Text.assemble(
        ("events ", "bold"), f"{events:.0f}/s   ",
        ("answers ", "bold"), f"{answered:.1f}/s   ",
        ("lag ", "bold"), (str(now.lag), "green" if now.lag < 1_000 else "yellow"), "   ",
        ("in the log ", "bold"), str(now.written),
    )  # fmt: skip
    rows = list(answers)
    return Group(head, render.newcomers(rows) if rows else Text("Waiting for a newcomer …", style="dim"))


def _write(answers: Iterable[Recommendation], as_json: bool) -> None:
    for answer in answers:
        sys.stdout.write((answer.model_dump_json() if as_json else render.line(answer)) + "\n")
    sys.stdout.flush()
