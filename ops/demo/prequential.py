"""hit@k of answers, judged by what the same newcomers did later, beside running popularity. Pure.

Prequential: an answer is judged only by events after the one it answers, and popularity knows only the events before
it. A question counts when the user later touched an item that was new to them; both answers are judged on the same
questions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Post:
    user_id: str
    item_id: str | None


@dataclass(frozen=True, slots=True)
class Score:
    """questions: how many answers could be judged; hits, popular_hits: how many of them had a right item."""

    questions: int = 0
    hits: int = 0
    popular_hits: int = 0

    @property
    def hit_rate(self) -> float:
        return self.hits / self.questions if self.questions else 0.0

    @property
    def popular_rate(self) -> float:
        return self.popular_hits / self.questions if self.questions else 0.0


def judge(posts: Sequence[Post], answers: Mapping[tuple[str, int], Sequence[str]], k: int = 10) -> Score:
    """posts in the order in which they were fed; answers: (user_id, n) → item ids, best first, for the n-th event."""
    ahead: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for post in posts:
        if post.item_id is not None:
            ahead[post.user_id][post.item_id] += 1
    popularity: Counter[str] = Counter()
    seen: defaultdict[str, set[str]] = defaultdict(set)
    events: Counter[str] = Counter()
    questions = hits = popular_hits = 0
    for post in posts:
        events[post.user_id] += 1
        known = seen[post.user_id]
        if post.item_id is not None:
            popularity[post.item_id] += 1
            ahead[post.user_id][post.item_id] -= 1
            known.add(post.item_id)
        given = answers.get((post.user_id, events[post.user_id]))
        if given is None:
            continue
        later = {item for item, count in ahead[post.user_id].items() if count} - known
        if not later:
            continue
        questions += 1
        hits += not later.isdisjoint(given[:k])
        popular_hits += not later.isdisjoint(most_popular(popularity, known, k))
    return Score(questions, hits, popular_hits)


def most_popular(popularity: Counter[str], seen: set[str], k: int) -> list[str]:
    """The k items with most events that the user has not seen; ties go to the one that came first."""
    return [item for item, _ in popularity.most_common(k + len(seen)) if item not in seen][:k]
