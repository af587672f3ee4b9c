"""What users take after an event: what a question about items wants. Knows nothing of who answers."""

from __future__ import annotations

import numpy as np

from trainer.prepare import Prepared


class Later:
    """Of all events of the data that take an item."""

    def __init__(self, data: Prepared) -> None:
        taken = np.flatnonzero(data.item >= 0)
        order = np.lexsort((taken, data.user[taken]))
        self._user = data.user
        self._events = taken[order]
        self._items = data.item[self._events]
        self._starts = np.searchsorted(data.user[self._events], np.arange(data.users + 1))

    def wanted(self, event: int, until: int | None = None) -> list[int]:
        """Items that the event's user takes after it and has not taken up to it, each once, first ones first. until:
        and before that event; None: at any time."""
        start, now, stop = self._places(event)
        before = set(self._items[start:now].tolist())
        if until is not None:
            stop = start + int(np.searchsorted(self._events[start:stop], until))
        return [item for item in dict.fromkeys(self._items[now:stop].tolist()) if item not in before]

    def taken(self, event: int) -> list[int]:
        """Items that the event's user has taken up to it, the event's own among them, each once, first ones first."""
        start, now, _ = self._places(event)
        return list(dict.fromkeys(self._items[start:now].tolist()))

    def taken_before(self, user: int, event: int) -> list[int]:
        """Items that a user has taken before an event of the data, each once, first ones first."""
        start, stop = self._starts[user], self._starts[user + 1]
        now = start + np.searchsorted(self._events[start:stop], event)
        return list(dict.fromkeys(self._items[start:now].tolist()))

    def _places(self, event: int) -> tuple[int, int, int]:
        """Where the user's items begin, those after the event begin, and end."""
        start, stop = self._starts[self._user[event]], self._starts[self._user[event] + 1]
        return int(start), int(start + np.searchsorted(self._events[start:stop], event, side="right")), int(stop)
