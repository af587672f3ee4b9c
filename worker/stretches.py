"""Stretches of a partition that an operator passes over (`kindred offsets skip`), as a note in Redis tells them."""

from __future__ import annotations

from collections.abc import Iterable

Stretch = tuple[int, int]
"""The first offset, and the one behind the last."""


def skip_note(partition: int) -> str:
    """The note's name."""
    return f"skip:{partition}"


def read_stretches(note: str | None) -> tuple[Stretch, ...]:
    """FROM-TO, separated by commas; None stands for none. Raises ValueError for anything else."""
    return tuple(_stretch(text) for text in (note or "").split(",") if text)


def write_stretches(stretches: Iterable[Stretch]) -> str:
    return ",".join(f"{start}-{stop}" for start, stop in stretches)


def _stretch(text: str) -> Stretch:
    start, _, stop = text.partition("-")
    return int(start), int(stop)
