"""What plain counting answers: the most popular items, what is taken together, the most frequent label.

Counted from the log alone, without the bounds of the index (its most popular items, its latest holders of an item): a
baseline may not be weaker than it is. Every question sees the events before its own; of equals the item or label that
was met first comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.nearest import MISSING, Floats, Rows, top_k
from model.update import LANDMARK_MS, POPULARITY_HALF_LIFE_MS
from trainer.later import Later
from trainer.prepare import Prepared
from trainer.questions import ragged


def most_popular(data: Prepared, events: NDArray[np.int64], limit: int) -> tuple[Rows, Rows]:
    """(Q, limit) each, without what the user has, -1 behind: by the number of users who have an item, and by its events
    that fade with the half-life of the index. events: (Q,) ascending."""
    later = Later(data)
    users = np.zeros(len(data.item_ids), np.float32)
    fading = np.full(len(data.item_ids), -np.inf)
    met: set[tuple[int, int]] = set()
    by_users, by_fading = [], []
    start = 0
    for event in events.tolist():
        for past in range(start, event):
            user, item = int(data.user[past]), int(data.item[past])
            if item < 0:
                continue
            if (user, item) not in met:
                met.add((user, item))
                users[item] += 1
            if data.weight[past] > 0:
                age = (int(data.occurred[past]) - LANDMARK_MS) / POPULARITY_HALF_LIFE_MS
                fading[item] = np.logaddexp2(fading[item], age + np.log2(data.weight[past]))
        start = event
        own = later.taken(event)
        by_users.append(_best(np.where(users > 0, users, -np.inf).astype(np.float32), own, limit))
        # float32 holds the differences: what is more than some hundred half-lives behind the first is last anyway.
        newest = fading.max(initial=-np.inf)
        behind = fading - newest if np.isfinite(newest) else fading
        by_fading.append(_best(behind.astype(np.float32), own, limit))
    return ragged(by_users).reshape(-1, limit), ragged(by_fading).reshape(-1, limit)


def cooccurring(data: Prepared, events: NDArray[np.int64], limit: int) -> Rows:
    """(Q, limit) other items of the users who have an item of the newcomer, those of each item together weighing 1.
    events: (Q,) ascending."""
    later = Later(data)
    together: list[dict[int, int]] = [{} for _ in data.item_ids]
    takers = [0] * len(data.item_ids)
    has: dict[int, set[int]] = {}
    answers = []
    start = 0
    for event in events.tolist():
        for past in range(start, event):
            user, item = int(data.user[past]), int(data.item[past])
            theirs = has.setdefault(user, set())
            if item < 0 or item in theirs:
                continue
            takers[item] += 1
            for other in theirs:
                together[item][other] = together[item].get(other, 0) + 1
                together[other][item] = together[other].get(item, 0) + 1
            theirs.add(item)
        start = event
        own = later.taken(event)
        before = has.get(int(data.user[event]), set())
        scores: dict[int, float] = {}
        for item in own:
            others = takers[item] - (item in before)
            # The newcomer's own pairs are among their own items, which are left out.
            for other, count in together[item].items():
                scores[other] = scores.get(other, 0.0) + count / max(1, others)
        for item in own:
            scores.pop(item, None)
        best = sorted(scores, key=lambda item: (-round(scores[item], 6), item))[:limit]
        answers.append(best + [MISSING] * (limit - len(best)))
    return ragged(answers).reshape(-1, limit)


def most_frequent(data: Prepared, events: NDArray[np.int64]) -> Rows:
    """(Q,) the label that most events before each event have, -1 for none; of equals the one that was met first.
    events: ascending."""
    counts = np.zeros(max(1, len(data.label_names)), np.int64)
    best = np.full(len(events), MISSING, np.int32)
    start = 0
    for place, event in enumerate(events.tolist()):
        labels = data.labels[start:event]
        np.add.at(counts, labels[labels >= 0], 1)
        start = event
        if counts.any():
            best[place] = counts.argmax()
    return best


def _best(scores: Floats, own: list[int], limit: int) -> list[int]:
    """The items with the highest scores, without one's own and without those that have none."""
    scores[own] = -np.inf
    columns, values = top_k(scores[None], limit)
    found: list[int] = np.where(np.isneginf(values[0]), MISSING, columns[0]).tolist()
    return found
