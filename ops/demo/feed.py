"""The demo's posts into Kafka, and the answers they bring.

At most OUTSTANDING newcomers' posts wait for their answer: partitions then advance together, so that nobody is
recommended what was written much later in another partition. When REFIT_AFTER of the posts are sent the trainer begins,
and posts flow slowly until it ends, so that the release it makes has newcomers to answer.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ops import broker
from ops.cli.answers import Answers, new_answers
from ops.cli.feed import Feed
from ops.cli.lines import Line, read_lines
from ops.cli.target import Target
from ops.cli.watch import progress as group_progress
from ops.demo.prequential import Post
from ops.demo.refit import STEPS, Refit
from schemas.recommendation import Recommendation
from schemas.topics import USER_TEXT

FILE: Final = "stackexchange.jsonl.gz"
OUTSTANDING: Final = 32
"""Less than a hundred posts in all. More would fill the workers' batches better, and every answer would come later than
what it is judged by."""

SEND_PIECE: Final = 16
REFIT_AFTER: Final = 0.5
"""Share of the posts: enough to learn from, and enough left to be answered by what was learned."""
REFIT_PAUSE: Final = 1.0
"""Seconds between two pieces while the trainer works."""
GRACE_SECONDS: Final = 20.0
"""For the answers that are under way when the last post was sent."""


@dataclass(slots=True)
class Fed:
    """posts: those that were sent, in order. answers: (user_id, n) → the answer to the user's n-th post; sent_by: how
    many posts had been sent when it was there. seconds: from the first post to the last one's commit."""

    posts: list[Post] = field(default_factory=list)
    answers: dict[tuple[str, int], Recommendation] = field(default_factory=dict)
    sent_by: dict[tuple[str, int], int] = field(default_factory=dict)
    asked: int = 0
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        return self.asked - len(self.answers)


def load_posts(limit: int | None) -> list[tuple[Post, Line]]:
    """The shipped posts, oldest first, as records of `user-text`; occurred_at is when they were written."""
    with files("ops.demo").joinpath(FILE).open("rb") as packed, gzip.open(packed) as lines:
        raw = list(islice(lines, limit))
    records = read_lines(raw, USER_TEXT, {"occurred_at": "ts"}, lambda: int(time.time() * 1000))
    posts: list[tuple[Post, Line]] = []
    for text, record in zip(raw, records, strict=True):
        if isinstance(record, Line):
            body = json.loads(text)
            posts.append((Post(body["user_id"], body.get("item_id")), record))
    return posts


def feed_posts(
    target: Target, posts: Sequence[tuple[Post, Line]], first_k: int, seconds: float, refit: Refit, console: Console
) -> Fed:
    """Send all posts, or those that the time allows, and collect the answers; begin the refit on the way."""
    fed = Fed()
    events: Counter[str] = Counter()
    with new_answers(target) as answers, broker.producer(target.kafka) as producer, _bars(console) as bars:
        shown = _Shown(bars, fed, refit, len(posts))
        sender = Feed(producer, target.topic(USER_TEXT))
        started = time.monotonic()

        def in_time() -> bool:
            return time.monotonic() - started - refit.seconds < seconds

        for start in range(0, len(posts), SEND_PIECE):
            if not refit.began and start >= len(posts) * REFIT_AFTER:
                refit.start()
            rested = time.monotonic() + REFIT_PAUSE
            while in_time() and (fed.missing > OUTSTANDING or (refit.awaited and time.monotonic() < rested)):
                _collect(answers, fed, 100)
                shown.advance()
            if not in_time():
                break
            for post, record in posts[start : start + SEND_PIECE]:
                sender.send(record.key, record.value)
                fed.posts.append(post)
                events[post.user_id] += 1
                fed.asked += events[post.user_id] <= first_k
            _collect(answers, fed, 0)
            shown.advance()
        sender.finish()
        while refit.awaited:
            _collect(answers, fed, 100)
            shown.advance()
        deadline = time.monotonic() + GRACE_SECONDS
        with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
            while time.monotonic() < deadline:
                _collect(answers, fed, 100)
                shown.advance()
                if not fed.missing and group_progress(target, admin, reader).lag == 0:
                    break
        fed.seconds = time.monotonic() - started
    return fed


def _collect(answers: Answers, fed: Fed, milliseconds: int) -> None:
    for answer in answers.poll(milliseconds):
        # setdefault: a replay publishes the same answer again
        fed.answers.setdefault((answer.user_id, answer.nth), answer)
        fed.sent_by.setdefault((answer.user_id, answer.nth), len(fed.posts))


class _Shown:
    """The bars on the screen."""

    def __init__(self, bars: Progress, fed: Fed, refit: Refit, posts: int) -> None:
        self._bars, self._fed, self._refit = bars, fed, refit
        self._sent = bars.add_task("posts", total=posts)
        self._answered = bars.add_task("answers", total=None)
        self._steps = bars.add_task("refit", total=STEPS, start=False)

    def advance(self) -> None:
        self._bars.update(self._sent, completed=len(self._fed.posts))
        self._bars.update(self._answered, completed=len(self._fed.answers), total=self._fed.asked)
        if self._refit.began:
            self._bars.start_task(self._steps)
            self._bars.update(self._steps, completed=self._refit.done)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
