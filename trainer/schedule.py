"""When the next refit is due. Pure: knows no clock and no Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Last:
    """The last refit of this directory. at_ms: when it ended. ends: partition → the offset behind what it saw.
    enough: False where it found too little data to fit anything."""

    at_ms: int
    ends: Mapping[int, int]
    enough: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """hours: between two refits. events: new ones that make a refit due before that, None for none. least_events: new
    ones after which it is tried again where there was too little data."""

    hours: float
    events: int | None
    least_events: int


def new_events(last: Last | None, ends: Mapping[int, int]) -> int:
    """Offsets behind what the last refit saw. ends: of the log now; where they lie before it, the log was made anew and
    all of it is new."""
    if last is None or any(ends.get(partition, 0) < seen for partition, seen in last.ends.items()):
        return sum(ends.values())
    return sum(end - last.ends.get(partition, 0) for partition, end in ends.items())


def due(schedule: Schedule, last: Last | None, ends: Mapping[int, int], now_ms: int) -> str | None:
    """Why a refit is due, in words; None where it is not. Without a new event it never is."""
    if last is None:
        return "there was none yet"
    new = new_events(last, ends)
    if not new:
        return None
    if not last.enough and new >= schedule.least_events:
        return f"{new} events came since there was too little data"
    if schedule.events is not None and new >= schedule.events:
        return f"{new} events came since the last one"
    hours = (now_ms - last.at_ms) / 3_600_000
    if hours >= schedule.hours:
        return f"{hours:.1f} h have passed and {new} events came since the last one"
    return None
