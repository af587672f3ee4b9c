"""Online truth: did what newcomers were recommended come true in what they did afterwards? Pure.

**Question.** Each user asks once: with the event whose answer is numbered 1. The answer's ten best items, and the ten
most popular ones at the moment of that event (but for its own item), are judged by the items that the user takes after
it: the first LATER that are new to them, within the horizon. Who takes none counts as a newcomer and is no question. So
users are independent of each other, and every release is asked the same: what to give to a first event.

**When it is settled.** Once the horizon has passed since the event, and no sooner: hit or miss, of a quick user or a
slow one, of today's release or last week's. A hit that counted at once would favour the younger release, whose misses
are still to come; a question that counted with the next item taken would judge it by its quickest users. The price: a
figure is as old as the horizon.

**What it does not see.** Users who never come back because of what they were given (`newcomers` beside `questions`
tells); users or items that change at the same time as the release (popularity's hits on the same questions tell);
items that were withdrawn (popularity may name them).

Time is the log's: whoever calls does so in the order of time (`trainer/in_time.py`), and then the same records give the
same figures, in whatever pieces and order they were read. A repeat of an answer changes nothing: the first one stands,
and none brings back a question that is settled. An answer that comes later than `wait` after its event is not judged,
nor is one that was told so much before it. A tombstone ends the user's question.

Bounded: ROOM open events and questions (beyond it users are not asked until others are settled, which depends on no
answer), ROOM answers whose event is still to come, LATER items a user, RELEASES releases, the days of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from model.update import DAY_MS
from model.users import UserKey
from trainer.compare import Tally
from trainer.popular import Popular

TOP: Final = 10
LATER: Final = 32
ROOM: Final = 50_000
"""About 80 MB when full."""
RELEASES: Final = 32
"""Those that answered last."""
LONGEST_WAIT_MS: Final = 3_600_000
"""For an answer after its event: a newcomer who was answered later than an hour has long gone on without."""

Place = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """A user's event. item: its hash, if any. weight, occurred: what it adds to the item's popularity, and when."""

    place: Place
    user: UserKey
    item: int | None
    weight: float
    occurred: int


@dataclass(frozen=True, slots=True)
class Erased:
    """A tombstone."""

    user: UserKey


@dataclass(frozen=True, slots=True)
class Answer:
    """What a newcomer's event `trigger` was answered. nth: 1 for the user's first event. items: hashes, best first."""

    trigger: Place
    user: UserKey
    nth: int
    release: str
    items: tuple[int, ...]


Said = Event | Erased | Answer


@dataclass(slots=True)
class _Open:
    """An event that may be a newcomer's first, and what its user takes after it. answer: None while there is none."""

    user: UserKey
    trigger: Place
    at: int
    own: int | None
    popular: Sequence[int]
    later: list[int] = field(default_factory=list)
    answer: Answer | None = None


class Online:
    """horizon_ms: in which an answer can come true. window_ms: events that are older count no more, by whole days."""

    def __init__(self, horizon_ms: int, window_ms: int, room: int = ROOM) -> None:
        self._horizon = horizon_ms
        self._wait = min(horizon_ms, LONGEST_WAIT_MS)
        self._window = window_ms
        self._room = room
        self._now = 0
        self._popular = Popular()
        self._open: dict[UserKey, _Open] = {}
        self._unanswered: deque[_Open] = deque()
        self._asked: deque[_Open] = deque()
        self._early: dict[Place, Answer] = {}
        self._early_since: deque[tuple[int, Place]] = deque()
        self._settled: dict[tuple[str, int], Tally] = {}
        self._answered: dict[str, int] = {}

    def take(self, at: int, said: Said) -> None:
        """at: the timestamp of the record that said it, which time is measured by."""
        self.passed(at)
        match said:
            case Event():
                self._happened(said)
            case Erased():
                self._open.pop(said.user, None)
            case Answer():
                self._was_answered(said)

    def passed(self, now: int) -> None:
        """Everything before `now` has been told. Time never goes back: what is older counts as of the latest time."""
        self._now = now = max(self._now, now)
        while self._unanswered and self._unanswered[0].at + self._wait <= now:
            held = self._unanswered.popleft()
            if self._open.get(held.user) is not held:
                continue
            if held.answer is None:
                del self._open[held.user]
            else:
                self._asked.append(held)
        while self._asked and self._asked[0].at + self._horizon <= now:
            held = self._asked.popleft()
            if self._open.get(held.user) is held:
                del self._open[held.user]
                self._settle(held)
        while self._early_since and self._early_since[0][0] + self._wait <= now:
            self._early.pop(self._early_since.popleft()[1], None)

    def tallies(self) -> dict[str, Tally]:
        """Release → what is settled of the window's events, the release that answered last first."""
        oldest = self._now - self._window
        self._answered = {release: at for release, at in self._answered.items() if at >= oldest}
        self._settled = {key: tally for key, tally in self._settled.items() if self._counts(*key)}
        found = {release: Tally() for release in reversed(self._answered)}
        for (release, _), tally in self._settled.items():
            found[release] += tally
        return found

    @property
    def held(self) -> int:
        """Events and questions that are open, those of users who were erased meanwhile included."""
        return len(self._unanswered) + len(self._asked)

    def _happened(self, event: Event) -> None:
        item = event.item
        if item is not None:
            self._popular.add(item, event.weight, event.occurred)
        answer = self._early.pop(event.place, None)
        held = self._open.get(event.user)
        if held is not None:
            if item is not None and item != held.own and item not in held.later and len(held.later) < LATER:
                held.later.append(item)
        elif self.held < self._room:
            held = _Open(event.user, event.place, self._now, item, self._popular.best(), answer=answer)
            self._open[event.user] = held
            self._unanswered.append(held)

    def _was_answered(self, answer: Answer) -> None:
        self._note(answer.release)
        if answer.nth != 1:
            return
        held = self._open.get(answer.user)
        if held is not None and held.trigger == answer.trigger:
            held.answer = held.answer or answer
        elif answer.trigger not in self._early and len(self._early_since) < self._room:
            self._early[answer.trigger] = answer
            self._early_since.append((self._now, answer.trigger))

    def _note(self, release: str) -> None:
        """This release answered last; the one whose last answer is oldest is forgotten when there are too many."""
        self._answered.pop(release, None)
        self._answered[release] = self._now
        while len(self._answered) > RELEASES:
            del self._answered[next(iter(self._answered))]

    def _counts(self, release: str, day: int) -> bool:
        return release in self._answered and day >= (self._now - self._window) // DAY_MS

    def _settle(self, held: _Open) -> None:
        answer = held.answer
        if answer is None:
            return
        later = set(held.later)
        popular = [item for item in held.popular if item != held.own][:TOP]
        hit, popular_hit = (not later.isdisjoint(items) for items in (answer.items[:TOP], popular))
        one = Tally(newcomers=1, questions=bool(later), hits=hit, popular_hits=popular_hit)
        key = (answer.release, held.at // DAY_MS)
        self._settled[key] = self._settled.get(key, Tally()) + one
