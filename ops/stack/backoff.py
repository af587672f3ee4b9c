"""How long a process that died waits before its restart. Pure; the clock is the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.25
MAX_SECONDS: Final = 5.0
"""The contract: a process that died is back within five seconds, however often it dies."""

HEALTHY_SECONDS: Final = 30.0
"""A process that ran this long has recovered: its next death counts as the first."""


@dataclass(slots=True)
class Backoff:
    """Consecutive early deaths of one process."""

    deaths: int = 0

    def died(self, ran_seconds: float) -> float:
        """Record a death after so many seconds of life; returns the seconds to wait before the restart."""
        self.deaths = 1 if ran_seconds >= HEALTHY_SECONDS else self.deaths + 1
        return min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(self.deaths - 1, 10))
