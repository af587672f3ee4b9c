"""Step 7: what is to be sent for a batch: answers to newcomers and dead letters. Pure; the pipeline sends and waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from model.index import Index
from model.update import Outcome
from schemas.codec import encode
from schemas.dead_letter import dead_letter
from schemas.headers import schema_header, trace_headers
from schemas.state import UserState
from schemas.user_text import default_event_id
from worker.answer import Question
from worker.batch import Batch
from worker.broker.base import OutRecord, Record
from worker.decode import Entry

Asked = tuple[Entry, Question, UserState]
"""The state is as of the question's event."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where things go, and which of them are due.

    recommendations, dead_letters, interests: topics. answer_after_ms: events whose record is older are only learned
    from. max_bytes: of a record that the broker takes.
    """

    recommendations: str
    dead_letters: str
    interests: str
    worker: str
    max_bytes: int
    answer_after_ms: int = 0

    def questions(
        self, batch: Batch, entries: Sequence[Entry], outcomes: Sequence[Outcome], now_ms: int
    ) -> list[Asked]:
        """One for each event that is among its user's first K and not below what was committed before."""
        asked = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            record, event, log, state = entry.record, entry.event, entry.log, outcome.seen
            if not outcome.nth or state is None or event is None or log is None:
                continue
            if record.timestamp < self.answer_after_ms or not due(batch, record):
                continue
            question = Question(
                user_id=event.user_id,
                user=log.user,
                nth=outcome.nth,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                event_id=event.event_id or default_event_id(record.topic, record.partition, record.offset),
                text=entry.text,
                vector=state.vector,
                # A repeated answer is made from today's state, whose latest items may no longer have the event's own.
                items=state.items if log.item is None or log.item in state.items else (*state.items, log.item),
                labels=state.labels,
                created_at=now_ms,
            )
            asked.append((entry, question, state))
        return asked

    def records(
        self, batch: Batch, asked: Sequence[Asked], answers: Sequence[dict[str, object]]
    ) -> dict[int, list[OutRecord]]:
        """The answers, then the dead letters and the ends of erased users' published interests, by the partition of the
        record that asks for them."""
        out: dict[int, list[OutRecord]] = defaultdict(list)
        schema = schema_header("recommendations")
        for (entry, question, _), answer in zip(asked, answers, strict=True):
            headers = [schema, *trace_headers(entry.record.headers)] if entry.record.headers else [schema]
            record = OutRecord(self.recommendations, question.user_id.encode(), encode(answer), headers)
            out[question.partition].append(record)
        for entry in batch.entries:
            if not due(batch, entry.record):
                continue
            if entry.log is not None and entry.log.erases:
                out[entry.record.partition].append(OutRecord(self.interests, entry.record.key, None))
            if entry.dead is not None:
                letter = dead_letter(entry.record, entry.dead.reason, entry.dead.detail, self.worker, self.max_bytes)
                record = OutRecord(self.dead_letters, letter.key, letter.value, letter.headers)
                out[entry.record.partition].append(record)
        return out

    def labels(self, batch: Batch, index: Index) -> list[tuple[int, str]]:
        """(hash, name) of the batch's labels that the index cannot name yet, or that Redis may have lost."""
        new: dict[int, str] = {}
        for entry in batch.entries:
            if entry.event is not None and entry.log is not None and entry.event.labels:
                labels = zip(entry.log.labels, entry.event.labels, strict=True)
                again = heals(batch, entry)
                new.update((label, name) for label, name in labels if again or not index.named_label(label))
        return list(new.items())


def heals(batch: Batch, entry: Entry) -> bool:
    """Whether the entry is replayed for a Redis that has lost something: what the index knows Redis may have to learn
    anew."""
    return entry.record.offset < batch.leases[entry.record.partition].publish_from


def due(batch: Batch, record: Record) -> bool:
    """Whether what this record led to has not been published for certain before."""
    return record.offset >= batch.leases[record.partition].publish_from
