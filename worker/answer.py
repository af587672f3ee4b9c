"""Step 7's content: newcomers → recommendations, a batch at a time. Pure: index and clock are given.

Answers are plain dicts in the shape of `schemas.recommendation.Recommendation`, ready for the codec. No name of a donor
gets in: an answer holds counts, the newcomer's own words and public titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.index import Index
from model.nearest import Floats
from model.points import is_chinese, points
from model.signals import DONORS, PARTS, POPULAR, SHARED, TEXT
from model.transfer import confidence, personal_share, transfer
from model.transfer_weights import TransferWeights
from model.users import UserKey
from schemas.recommendation import recommendation_id

LEAST_SHARE: Final = 0.05
"""A part that gave less than this of an item's score is no reason."""
MOSTLY_POPULAR: Final = 0.2
"""Below this share of the personal parts an answer is called popular,"""
MOSTLY_TRANSFER: Final = 0.6
"""and from this share on, transfer."""
TITLE_CHARACTERS: Final = 80
"""Of a title within a reason's sentence; the item itself carries all of it."""

TOPICS: Final = -1
"""In place of the donors' part, where no near donor has the item: its people have the newcomer's labels."""

_SENTENCES: Final = {
    (DONORS, False): (
        "Someone who writes about similar things took part in this",
        "{} people who write about similar things took part in this",
    ),
    (DONORS, True): ("有 1 位写过类似内容的用户参与过", "有 {} 位写过类似内容的用户参与过"),
    (SHARED, False): (
        "Someone who has something in common with you took part in this",
        "{} people who have something in common with you took part in this",
    ),
    (SHARED, True): ("有 1 位与你有共同项目的用户也参与过", "有 {} 位与你有共同项目的用户也参与过"),
    (TOPICS, False): (
        "Someone who takes part in this cares for the same topics as you",
        "{} people who take part in this care for the same topics as you",
    ),
    (TOPICS, True): ("有 1 位参与者与你关注相同的话题", "有 {} 位参与者与你关注相同的话题"),
    (POPULAR, False): ("New or popular now: one person took part", "New or popular now: {} people took part"),
    (POPULAR, True): ("近期新出或热门，有 1 人参与", "近期新出或热门，有 {} 人参与"),
}
"""(one person, several) in English and Chinese."""


@dataclass(frozen=True, slots=True)
class Question:
    """A newcomer's event that is to be answered, with the state as of this event.

    text: cleaned. vector: (D,) the state's mean in the encoder's space, of any length; zeros where there is none.
    items: hashes, oldest first. labels: hash → weight. created_at: milliseconds since 1970, the time of the answer.
    """

    user_id: str
    user: UserKey
    nth: int
    topic: str
    partition: int
    offset: int
    event_id: str
    text: str
    vector: NDArray[np.floating]
    items: tuple[int, ...]
    labels: dict[int, float]
    created_at: int


def answer(
    questions: Sequence[Question], index: Index, weights: TransferWeights, *, release: str, space: str, limit: int = 10
) -> list[dict[str, Any]]:
    """One recommendation a question, in order. Items that expire are judged by the latest created_at of the batch."""
    if not questions:
        return []
    vectors = np.array([question.vector for question in questions], np.float32)
    queries = index.queries(
        [question.user for question in questions],
        vectors,
        [question.items for question in questions],
        [question.labels for question in questions],
    )
    known = index.known(max(question.created_at for question in questions))
    found = transfer(queries, known, weights, limit)
    shares = rounded_shares(found.shares)
    personal = personal_share(found.items, found.shares)
    sure_of = confidence(personal, found.strength, found.counts[:, :, 1])
    users = index.items.users[np.maximum(found.items, 0)].tolist()
    columns = zip(
        questions,
        found.items.tolist(),
        np.round(found.scores, 4).tolist(),
        shares,
        found.counts.tolist(),
        users,
        found.labels.tolist(),
        np.round(found.label_scores, 4).tolist(),
        found.donors.tolist(),
        np.round(found.similarity, 4).tolist(),
        found.sources.tolist(),
        personal.tolist(),
        np.round(sure_of, 3).tolist(),
        strict=True,
    )
    times: dict[int, str] = {}
    ids, titles, names = index.items.ids, index.items.titles, index.label_names
    answers: list[dict[str, Any]] = []
    for (
        question,
        slots,
        scores,
        parts,
        counts,
        held,
        labels,
        label_scores,
        donors,
        similar,
        sources,
        own,
        sure,
    ) in columns:
        chinese = is_chinese(question.text)
        phrases = points(question.text)
        near_text = (phrases[:2], _near_text(phrases[0] if phrases else None, chinese))
        common = _common_title(index, question, sources)
        items = [
            {
                "item_id": ids[slot],
                "title": titles[slot],
                "score": score,
                "reasons": _reasons(share, (count[0], count[1], 0, people), chinese, near_text, common),
            }
            for slot, score, share, count, people in zip(slots, scores, parts, counts, held, strict=True)
            if slot >= 0
        ]
        at = question.created_at
        if at not in times:
            times[at] = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        answers.append(
            {
                "recommendation_id": recommendation_id(
                    question.user_id, question.topic, question.partition, question.offset
                ),
                "user_id": question.user_id,
                "nth": question.nth,
                "trigger": {
                    "topic": question.topic,
                    "partition": question.partition,
                    "offset": question.offset,
                    "event_id": question.event_id,
                },
                "created_at": times[at],
                "release": release,
                "space": space,
                "strategy": "popular" if own < MOSTLY_POPULAR else "transfer" if own >= MOSTLY_TRANSFER else "blend",
                "confidence": sure,
                "interests": [
                    {"label": names[label], "score": score}
                    for label, score in zip(labels, label_scores, strict=True)
                    if label >= 0 and names[label] is not None
                ],
                "points": phrases,
                "items": items,
                "donors": {"count": donors, "mean_similarity": similar},
            }
        )
    return answers


def rounded_shares(shares: Floats) -> list[list[list[float]]]:
    """(B, L, 4) shares → four decimals, without parts below LEAST_SHARE, still adding up to 1 (the largest part takes
    what rounding left); all zeros stay."""
    kept = np.where(shares < LEAST_SHARE, 0, shares).astype(np.float64)
    total = kept.sum(axis=2, keepdims=True)
    whole = np.round(kept / np.maximum(total, 1e-9) * 10_000)
    largest = whole.argmax(axis=2)[:, :, None]
    left = np.where(total > 0, 10_000 - whole.sum(axis=2, keepdims=True), 0)
    np.put_along_axis(whole, largest, np.take_along_axis(whole, largest, axis=2) + left, axis=2)
    rows: list[list[list[float]]] = (whole / 10_000).tolist()
    return rows


def _common_title(index: Index, question: Question, sources: int) -> str | None:
    """Title of the newcomer's item that others have, where there is just one: then the sentence can name it."""
    if sources != 1 or len(question.items) != 1:
        return None
    slot = index.items.find(question.items)[0]
    title = index.items.titles[slot] if slot >= 0 else None
    return title and title[:TITLE_CHARACTERS]


def _reasons(
    shares: list[float],
    counts: tuple[int, int, int, int],
    chinese: bool,
    near_text: tuple[list[str], str],
    common: str | None,
) -> list[dict[str, Any]]:
    """One reason a part that gave a share, in the order of the parts."""
    reasons: list[dict[str, Any]] = []
    for part, share in enumerate(shares):
        if share == 0:
            continue
        name, count = PARTS[part], counts[part]
        if part == TEXT:
            phrases, text = near_text
            reasons.append({"part": name, "share": share, "phrases": phrases, "text": text})
        elif part == SHARED and common is not None:
            text = _near_item(common, count, chinese)
            reasons.append({"part": name, "share": share, "count": count, "phrases": [common], "text": text})
        else:
            if part == DONORS and count == 0:
                count = counts[POPULAR]
                text = _sentence(TOPICS, count, chinese)
            else:
                text = _sentence(part, count, chinese)
            reasons.append({"part": name, "share": share, "count": count, "phrases": [], "text": text})
    return reasons


@lru_cache(4096)
def _sentence(part: int, count: int, chinese: bool) -> str:
    one, many = _SENTENCES[part, chinese]
    return one if count == 1 else many.format(count)


def _near_text(phrase: str | None, chinese: bool) -> str:
    if phrase is None:
        return "内容与你写的相近" if chinese else "Close to what you wrote"
    return f"内容与你写的“{phrase}”等相近" if chinese else f"Close to what you wrote, such as “{phrase}”"


def _near_item(title: str, count: int, chinese: bool) -> str:
    if chinese:
        return f"有 {count} 位同样参与过“{title}”的用户也参与过"
    people = "Someone who" if count == 1 else f"{count} people who also"
    return f"{people} took part in “{title}” took part in this"
