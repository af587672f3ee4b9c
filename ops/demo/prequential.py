"""hit@k of answers, judged by what the same newcomers did later, beside running popularity. Pure.

Prequential: an answer is judged only by posts that were sent after it was there, and popularity knows only the posts
before that. Posts are sent far faster than they were written: by its own post an answer may know others of the same
batch. A question counts when the user later touched an item that was new to them; both answers are judged on the same
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
class Given:
    """An answer. sent: how many posts had been sent when it was there. items: best first."""

    sent: int
    items: Sequence[str]


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


def judge(posts: Sequence[Post], answers: Mapping[tuple[str, int], Given], k: int = 10) -> Score:
    """posts in the order in which they were sent; answers: (user_id, n) → the answer to the user's n-th post."""
    ahead: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for post in posts:
        if post.item_id is not None:
            ahead[post.user_id][post.item_id] += 1
    came: defaultdict[int, list[tuple[str, Sequence[str]]]] = defaultdict(list)
    for (user, _), given in answers.items():
        came[given.sent].append((user, given.items))
    popularity: Counter[str] = Counter()
    seen: defaultdict[str, set[str]] = defaultdict(set)
    questions = hits = popular_hits = 0
    for number, post in enumerate(posts):
        for user, items in came[number]:
            later = {item for item, count in ahead[user].items() if count} - seen[user]
            if later:
                questions += 1
                hits += not later.isdisjoint(items[:k])
                popular_hits += not later.isdisjoint(most_popular(popularity, seen[user], k))
        if post.item_id is not None:
            popularity[post.item_id] += 1
            ahead[post.user_id][post.item_id] -= 1
            seen[post.user_id].add(post.item_id)
    return Score(questions, hits, popular_hits)


def most_popular(popularity: Counter[str], seen: set[str], k: int) -> list[str]:
    """The k items with most events that the user has not seen; ties go to the one that came first."""
    return [item for item, _ in popularity.most_common(k + len(seen)) if item not in seen][:k]
