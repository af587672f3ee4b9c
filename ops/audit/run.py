"""The audit, from outside: what the log asks for, computed serially, against all that the workers have left.

    1 window       what of `user-text` is audited: up to the group's committed offsets
    2 replay       the log, partition after partition, into a file on disk
    3 users        positions, counts, first events, facts, vectors; erased ones in every space
    4 sums         popularity, users of items, label weights, names; users that only Redis knows; the feed
    5 answers      the recommendations topic, with the catalogue as it was then
    6 letters      dead letters
    7 interests    nobody's but known users'

No worker is asked and nothing that one says of itself is believed; settings and the release decide what must be there.
What is legitimately loose (order between partitions, repeats under one id, an erased user's last answer, expiry, a log
that begins later) stands in docs/audit.md. Nothing is written to Kafka or Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from model.encoder.base import Encoder
from ops.audit.aggregates import check_items, check_labels
from ops.audit.answers import Answers
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, spaces
from ops.audit.interests import check_interests
from ops.audit.letters import Letters
from ops.audit.listings import Listings, read_listings
from ops.audit.replay import ERASED, ROAMS, Replay, entangled
from ops.audit.report import Checked, Report
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from ops.audit.users import Frame, UserCounts, check_unknown, check_users
from ops.audit.window import Window, bounds, pieces, windows
from ops.cli import state
from ops.cli.target import Target
from ops.errors import NotFound
from schemas.topics import DEAD_LETTERS, ITEMS, RECOMMENDATIONS, USER_INTERESTS, USER_TEXT
from worker.broker.base import Record


class Progress(Protocol):
    """Told of each step: its name, how much is done of how much; total 0 where nobody knows."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


def silent(step: str, done: int, total: int) -> None:
    """No progress is shown."""


def audit(target: Target, encoder: Encoder, rules: Rules, progress: Progress = silent) -> Report:
    """Raises Unreachable, NoStack, NoAnswer, NotFound (Redis has nothing of the encoder's space)."""
    started = time.monotonic()
    with Spill() as spill:
        return _Audit(target, encoder, rules, progress, spill).run(started)


class _Audit:
    def __init__(self, target: Target, encoder: Encoder, rules: Rules, progress: Progress, spill: Spill) -> None:
        self._target = target
        self._encoder = encoder
        self._rules = rules
        self._progress = progress
        self._spill = spill
        self._findings = Findings()
        self._not_checked: list[str] = []
        self._windows: list[Window] = []

    def run(self, started: float) -> Report:
        self._windows, topic_id = windows(self._target, self._rules)
        whole = all(window.whole for window in self._windows)
        replay = Replay(self._rules, self._encoder, self._spill)
        self._replay(replay)
        users, quiet = self._redis(topic_id, whole=whole)
        answers = self._answers(donors_known=whole and quiet)
        letters = self._letters()
        of = bounds(self._target, USER_INTERESTS)
        self._follow(
            "interests",
            check_interests(self._target, self._rules, of, self._spill, self._findings, whole=whole and quiet),
            of.records,
        )
        self._say_what_was_not(users, whole=whole, quiet=quiet)
        return Report(
            findings=self._findings,
            windows=tuple(self._windows),
            checked=Checked(
                records=replay.counts.records,
                events=replay.counts.events,
                encoded=replay.counts.encoded,
                users=users.compared,
                vectors=users.vectors,
                erased=self._spill.erased(),
                roaming=self._spill.count(ROAMS),
                bad_records=replay.counts.bad,
                answers=answers.counts.judged,
                repeated_answers=answers.counts.repeats,
                dead_letters=letters.counts.read - letters.counts.foreign,
            ),
            not_checked=tuple(self._not_checked),
            seconds=time.monotonic() - started,
        )

    def _replay(self, replay: Replay) -> None:
        self._read("replay", lambda piece, window: replay.take(piece, whole=window.whole))
        with state.client(self._target) as connection:
            filled = len(spaces(connection, self._target.namespace)) > 1
        users = (history for histories in self._spill.users() for history in histories)
        if any(entangled(history, self._rules.user_ttl_ms) or (filled and history.flags & ERASED) for history in users):
            self._read("order", lambda piece, _: replay.loosen(piece, filled=filled))

    def _read(self, step: str, take: Callable[[list[Record], Window], None]) -> None:
        """All windows, one partition after the other."""
        total = sum(window.stop - window.start for window in self._windows)
        done = 0
        for window in self._windows:
            topic = self._target.topic(USER_TEXT)
            for piece in pieces(self._target.kafka, topic, window.partition, window.start, window.stop):
                take(piece, window)
                done += len(piece)
                self._progress(step, done, total)

    def _redis(self, topic_id: str, *, whole: bool) -> tuple[UserCounts, bool]:
        """What Redis holds; and whether nothing was under way."""
        spill, findings = self._spill, self._findings
        with state.client(self._target) as connection:
            try:
                held = Held(connection, self._target.namespace, self._encoder.space)
            except LookupError as error:
                raise NotFound(
                    f"Redis has {error} in the namespace {self._target.namespace!r}.",
                    "Is it the workers' Redis (KINDRED_REDIS_URL), and the release that they serve (KINDRED_RELEASES, "
                    "KINDRED_ENCODER)? Once Redis was emptied, a worker must heal it first.",
                ) from error
            if held.topic_id != topic_id:
                findings.add(Kind.OTHER_LOG, "redis", f"of topic id {held.topic_id}, the log's is {topic_id}")
            before = held.watermarks()
            self._watermarks(before)
            frame = Frame(
                self._rules,
                {window.partition: window.stop for window in self._windows},
                exact=self._encoder.backend == "dummy",
            )
            aside, users = Findings(), UserCounts()
            total = spill.count()
            for users in check_users(spill, held, frame, findings, aside):
                self._progress("users", users.compared + users.moved + users.expired, total)
            if whole:
                self._follow("sums", check_items(spill, held, aside), 0)
                self._follow("sums", check_labels(spill, held, aside), 0)
                self._follow("keys", check_unknown(spill, held, aside), 0)
            after = held.watermarks()
        quiet = before == after and all(
            shard.get(window.partition, 0) <= window.stop for shard in after for window in self._windows
        )
        if quiet:
            findings.merge(aside)
        return users, quiet

    def _watermarks(self, marks: Iterable[dict[int, int]]) -> None:
        for number, shard in enumerate(marks):
            for window in self._windows:
                mark = shard.get(window.partition, 0)
                if mark < window.stop and window.start < window.stop:
                    self._findings.add(
                        Kind.WATERMARK,
                        f"shard {number}",
                        f"has seen partition {window.partition} up to {mark}, the group has committed {window.stop}",
                    )

    def _answers(self, *, donors_known: bool) -> Answers:
        of = bounds(self._target, ITEMS)
        read = self._follow("catalogue", read_listings(self._target, of, self._spill), of.records)
        listings = Listings(self._spill, self._spill.catalogue_since(), intact=read == sum(of.ends.values()))
        answers = Answers(
            self._target,
            self._rules,
            {window.partition: window for window in self._windows},
            self._spill,
            listings,
            self._findings,
            donors_known=donors_known,
        )
        found = bounds(self._target, RECOMMENDATIONS)
        self._follow("answers", answers.check(found), found.records)
        if found.since_ms is not None:
            self._not_checked.append("answers to events older than what recommendations still holds")
        return answers

    def _letters(self) -> Letters:
        windows_ = {window.partition: window for window in self._windows}
        letters = Letters(self._target, self._rules, windows_, self._spill, self._findings)
        of = bounds(self._target, DEAD_LETTERS)
        self._follow("letters", letters.check(of), of.records)
        if of.since_ms is not None:
            self._not_checked.append("dead letters of records older than what user-text.dlq still holds")
        return letters

    def _follow(self, step: str, done: Iterator[int], total: int) -> int:
        count = 0
        self._progress(step, 0, total)
        for more in done:
            count += more
            self._progress(step, count, total)
        return count

    def _say_what_was_not(self, users: UserCounts, *, whole: bool, quiet: bool) -> None:
        say = self._not_checked.append
        behind = sum(window.end - window.stop for window in self._windows)
        if behind:
            say(f"{behind} records behind the committed offsets")
        if not quiet:
            say(
                f"sums over users, names, and {users.moved} users whose later events are under way: audit a quiet stack"
            )
        if not whole:
            say("sums over users, and the beginnings of users' histories: the log no longer has all that was applied")
        if loose := self._spill.loose_count():
            say(f"sums of {loose} items and labels that the order between partitions decides")
        if users.expired:
            say(f"{users.expired} users whose time to live is over")
        if self._rules.sample > 1:
            say(f"vectors of all but one user in {self._rules.sample}")
