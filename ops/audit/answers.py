"""The recommendations topic against what must be there: every event that asks for an answer has its own, and no answer
breaks a promise about its items or about other users.

An answer is judged by its trigger: below the log's begin or behind the window nothing is claimed about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from pydantic_core import from_json

from model.users import UserKey, user_key
from ops.audit.expected import Question
from ops.audit.findings import Findings, Kind
from ops.audit.leaks import hashes, suspects
from ops.audit.listings import KEPT, Listings
from ops.audit.replay import CUT, PARTIAL, ROAMS, entangled
from ops.audit.rules import Rules, within
from ops.audit.spill import Spill
from ops.audit.window import Bounds, Window, topic_pieces
from ops.cli.target import Target
from schemas.codec import decode_recommendation
from schemas.errors import BadRecord, Reason
from schemas.recommendation import Recommendation, RecommendedItem, recommendation_id
from schemas.state import hash64
from schemas.topics import RECOMMENDATIONS, USER_TEXT
from worker.broker.base import Record


@dataclass(slots=True)
class AnswerCounts:
    """read: records. judged: those whose trigger is in the window. repeats: of an id that was there before."""

    read: int = 0
    judged: int = 0
    repeats: int = 0


class Answers:
    """donors_known: the log is whole and nothing was under way, so that who had an item is known."""

    def __init__(
        self,
        target: Target,
        rules: Rules,
        windows: Mapping[int, Window],
        spill: Spill,
        listings: Listings,
        findings: Findings,
        *,
        donors_known: bool,
    ) -> None:
        self._target = target
        self._topic = target.topic(USER_TEXT)
        self._rules = rules
        self._windows = windows
        self._spill = spill
        self._listings = listings
        self._findings = findings
        self._donors_known = donors_known
        self._key: Callable[[str], UserKey] = partial(user_key, secret=rules.secret)
        self._named = lru_cache(KEPT)(lambda item: len(spill.known_items([item])))
        self.counts = AnswerCounts()

    def check(self, of: Bounds) -> Iterator[int]:
        """The whole topic, then what is missing in it. Yields how many records were read since."""
        for piece in topic_pieces(self._target, RECOMMENDATIONS, of):
            for record in piece:
                self._check(record)
            yield len(piece)
        self._missing(of)

    def _check(self, record: Record) -> None:
        self.counts.read += 1
        where = f"recommendations {record.partition}/{record.offset}"
        add = partial(self._report, where)
        try:
            said = decode_recommendation(record.value, record.key, record.headers)
        except BadRecord as bad:
            kind = Kind.WRONG_USER if bad.reason is Reason.KEY_MISMATCH else Kind.UNREADABLE_ANSWER
            add(kind, str(bad.detail))
            return
        self._leaks(record, said, add)
        trigger = said.trigger
        window = self._windows.get(trigger.partition)
        if trigger.topic != self._topic or window is None:
            add(Kind.UNASKED_ANSWER, f"its trigger is in {trigger.topic}-{trigger.partition}")
            return
        if not window.start <= trigger.offset < window.stop:
            return
        self.counts.judged += 1
        question = self._spill.question(trigger.partition, trigger.offset)
        seen = frozenset[int]()
        if question is not None:
            self._fits(said, question, add)
            # A repeat is made from a later state, which knows the latest items only, and the event's own.
            seen = frozenset([question.own]) if question.answers else question.seen
        elif not self._may_ask(said):
            add(Kind.UNASKED_ANSWER, f"{trigger.partition}/{trigger.offset} is not one of its user's first events")
        self._items(said, seen, add)

    def _report(self, where: str, kind: Kind, said: str) -> None:
        self._findings.add(kind, where, said)

    def _fits(self, said: Recommendation, question: Question, add: Callable[[Kind, str], None]) -> None:
        place = f"{question.partition}/{question.offset}"
        if self._key(said.user_id) != question.user:
            add(Kind.WRONG_USER, f"{place} was written by another user")
            return
        own = recommendation_id(said.user_id, self._topic, question.partition, question.offset)
        if said.recommendation_id != own:
            add(Kind.OTHER_ID, f"{place} has the id {own}, and was answered as {said.recommendation_id}")
            return
        self._spill.answered([(question.partition, question.offset)])
        if question.answers:
            self.counts.repeats += 1
            if self._rules.exactly_once or self._rules.undisturbed:
                add(Kind.DOUBLED_ANSWER, f"{own} was published before")
        if hash64(said.trigger.event_id) != question.event_id:
            add(Kind.WRONG_TRIGGER, f"{place} has another event id")
        if said.nth != question.nth and not self._could_be(question, said.nth):
            add(Kind.WRONG_NTH, f"{place} is event {question.nth} of its user, answered as {said.nth}")

    def _could_be(self, question: Question, nth: int) -> bool:
        history = self._spill.load([question.user])[question.user]
        loose = history.flags & (ROAMS | PARTIAL | CUT)
        return bool(loose) and (
            question.nth <= nth <= self._rules.newcomer_events or entangled(history, self._rules.user_ttl_ms)
        )

    def _may_ask(self, said: Recommendation) -> bool:
        """Whether the order between partitions could make any event of this user one of his first."""
        trigger = said.trigger
        if within(self._rules.skipped, trigger.partition, trigger.offset):
            return False
        user = self._key(said.user_id)
        history = self._spill.load([user]).get(user)
        return history is not None and entangled(history, self._rules.user_ttl_ms)

    def _items(self, said: Recommendation, seen: frozenset[int], add: Callable[[Kind, str], None]) -> None:
        at_ms = int(said.created_at.timestamp() * 1000)
        before: set[str] = set()
        for item in said.items:
            number = hash64(item.item_id)
            if item.item_id in before:
                add(Kind.REPEATED_ITEM, f"item {item.item_id}")
            before.add(item.item_id)
            if number in seen:
                add(Kind.SEEN_ITEM, f"item {item.item_id}")
            closed = self._listings.closed(number, at_ms)
            if closed is not None:
                add(closed, f"item {item.item_id}")
            if self._donors_known:
                self._donors(said, item, number, add)

    def _donors(
        self, said: Recommendation, item: RecommendedItem, number: int, add: Callable[[Kind, str], None]
    ) -> None:
        least = self._rules.min_donors
        by_text = all(reason.part == "item_text" for reason in item.reasons)
        if by_text and self._listings.ever_listed(number):
            return  # the catalogue may recommend what nobody has
        had = self._spill.holders(number, self._key(said.user_id), least) if least > 1 else self._named(number)
        if had < least:
            add(Kind.TOO_FEW_DONORS, f"item {item.item_id}: {had} others ever had it, min_donors is {least}")

    def _leaks(self, record: Record, said: Recommendation, add: Callable[[Kind, str], None]) -> None:
        raw: Any = from_json(record.value or b"")
        own = self._key(said.user_id)
        named = {self._key(text): "an id" for text in suspects(raw, record.headers)}
        content = b"\n".join([record.value or b"", *(value or b"" for _, value in record.headers)])
        named.update(dict.fromkeys(hashes(content), "a hash"))
        named.pop(own, None)
        for user in self._spill.known(named) if named else ():
            add(Kind.LEAKED_USER, f"{named[user]} of user {user.hex()}")

    def _missing(self, of: Bounds) -> None:
        for question in self._spill.unanswered(ROAMS | PARTIAL | CUT, ended=self._rules.undisturbed):
            if of.since_ms is None or question.timestamp > of.since_ms:
                self._findings.add(
                    Kind.MISSING_ANSWER,
                    f"user-text {question.partition}/{question.offset}",
                    f"event {question.nth} of user {question.user.hex()}",
                )
        if of.since_ms is not None:
            return
        self._spill.index_questions()
        for history, answered in self._spill.answers_of(ROAMS):
            if history.flags & PARTIAL or history.state is None or entangled(history, self._rules.user_ttl_ms):
                continue
            owed = min(self._rules.newcomer_events, history.state.count)
            if answered < owed:
                self._findings.add(
                    Kind.MISSING_ANSWER,
                    f"user {history.user.hex()}",
                    f"{answered} of its first {owed} events, in several partitions, were answered",
                )
