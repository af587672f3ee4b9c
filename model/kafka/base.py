"""What a log holds and how asking for it fails, for whoever reads or writes one. Knows no client of Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from schemas.headers import Headers


class Record(NamedTuple):
    """One record of a topic, as the log has it. timestamp: milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """begin: first offset the log still has; end: the offset after the last one, aborted transactions included."""

    begin: int
    end: int


class BrokerUnavailable(Exception):
    """The broker did not answer, or refused for now: the same call may be repeated."""


class BrokerRefused(Exception):
    """The login or a right is missing: the same call will be refused again until an operator has acted."""


class SlotTaken(Exception):
    """Another worker has joined the group as the same static member: this one is out for good."""
