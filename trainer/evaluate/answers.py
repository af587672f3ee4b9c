"""A stream lived through once: what Kindred and the plain methods would have answered, each question in its moment.

Kindred's answers are those of the functions that a worker calls, on the index as it was then (`trainer/replay.py`).
Whatever is fitted (Kindred's blend, EASE) is fitted at given events, on what was asked and taken before them.
This module does not know what was wanted is worth: it scores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import identity
from model.nearest import MISSING, Rows
from model.transfer import blend
from model.transfer_weights import TransferWeights
from trainer.evaluate.counts import cooccurring, most_frequent, most_popular
from trainer.evaluate.ease import Ease, fit_ease
from trainer.evaluate.neighbours import Asked, ByTerms, ByVectors, Similar, items_of, labels_of, nearest_texts
from trainer.evaluate.terms import counted
from trainer.fit.blend import BlendSettings, fit_blend
from trainer.fit.errors import NothingToFit
from trainer.later import Later
from trainer.prepare import Prepared
from trainer.questions import Questions, stacked
from trainer.replay import Moment, Replay, key_of, told_labels

KINDRED: Final = "kindred"
REFIT: Final = "kindred_refit"
POPULARITY: Final = "popularity"
DECAYED: Final = "decayed_popularity"
COOCCURRENCE: Final = "cooccurrence"
TFIDF: Final = "tfidf_knn"
RAW: Final = "raw_knn"
EASE: Final = "ease"
MOST_FREQUENT: Final = "most_frequent"
OURS: Final = (KINDRED, REFIT)
"""Contestants; all others are baselines."""
SHOWN: Final = 10
"""Items of an answer."""
ASKED_AT: Final = (1, 3)
"""Texts known: a user's first and third text are questions."""

Tell = Callable[[str, int, int], None]
"""What is done, how much of it, of how much."""


@dataclass(frozen=True, slots=True)
class Plan:
    """ask_from: the first event that may be a question. refits: events, ascending, before which a fit may look; none:
    nothing is fitted but EASE, once. user_ttl_ms: as in a worker. blend: how it is fitted."""

    ask_from: int
    refits: tuple[int, ...]
    user_ttl_ms: int
    blend: BlendSettings = field(default_factory=BlendSettings)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Refitted:
    """A fit of the blend. before: the event it saw nothing from. questions: it learned from; 0 where there were too few
    and the weights stayed. epoch: that was kept, 0 is where it began."""

    before: int
    questions: int
    epoch: int
    weights: TransferWeights


@dataclass(frozen=True, slots=True)
class Answers:
    """Q questions in the order of the log. event, user: (Q,). known: (Q,) 1 or 3 texts. wanted: (Q, W) items taken
    later, -1 for none. reachable: (Q,) whether one of them was known. items: contestant → (Q, 10), best first, -1 for
    none. labels: contestant → (Q,) the best label, -1 for none. own_labels: (Q, W) those of the question's text, which
    were hidden, all -1 where it has no text."""

    event: NDArray[np.int64]
    user: NDArray[np.int32]
    known: NDArray[np.int32]
    wanted: Rows
    reachable: NDArray[np.bool_]
    items: dict[str, Rows]
    labels: dict[str, Rows]
    own_labels: Rows
    refits: tuple[Refitted, ...]


def answers(
    data: Prepared,
    vectors: NDArray[np.floating],
    texts: Callable[[], Iterable[str]],
    plan: Plan,
    tell: Tell = lambda *_: None,
) -> Answers:
    """Everybody's answers to the same questions. vectors: (T, D) of the data's texts. texts: the T texts in their
    order."""
    life = Replay(data, vectors, identity, plan.user_ttl_ms)
    kindred = _Kindred(data, life, plan)
    life.run(plan.ask_from, _counted(tell, "living through events", len(data.user)), kindred.hear)
    every = life.questions()
    some = every.where(np.isin(every.known, ASKED_AT))
    items = kindred.items()
    items[POPULARITY], items[DECAYED] = most_popular(data, some.event, SHOWN)
    items[COOCCURRENCE] = cooccurring(data, some.event, SHOWN)
    items[RAW] = some.plain[RAW][:, :SHOWN]
    own_labels = np.where((data.text[some.event] >= 0)[:, None], data.labels[some.event], MISSING)
    labels = {KINDRED: kindred.labels(), MOST_FREQUENT: most_frequent(data, some.event)}
    asked = Asked(some.event, _texts_known(data, some))
    for name, what in ((RAW, "comparing vectors"), (TFIDF, "comparing words")):
        similar: Similar = ByVectors(vectors) if name == RAW else ByTerms(counted(texts()), data.text)
        near = nearest_texts(data, asked, similar, _counted(tell, what, len(some)))
        labels[name] = labels_of(data, *near)
        if name not in items:
            items[name] = items_of(data, asked, *near, SHOWN)
    items[EASE] = ease_answers(data, some.event, (plan.ask_from, *plan.refits))
    tell("learning items", 1, 1)
    return Answers(
        some.event,
        some.user,
        some.known,
        some.wanted,
        some.reachable,
        {name: items[name] for name in (*kindred.names, POPULARITY, DECAYED, COOCCURRENCE, RAW, TFIDF, EASE)},
        {name: labels[name] for name in (KINDRED, RAW, TFIDF, MOST_FREQUENT)},
        own_labels,
        kindred.refits,
    )


class _Kindred:
    """Answers as a worker would, in the moment of the question: with the shipped blend, and with one that is fitted
    again as time goes on."""

    def __init__(self, data: Prepared, life: Replay, plan: Plan) -> None:
        self._data = data
        self._life = life
        self._plan = plan
        self._left = list(plan.refits)
        self._weights = {name: TransferWeights.default() for name in (OURS if plan.refits else OURS[:1])}
        self._items: dict[str, list[Rows]] = {name: [] for name in self._weights}
        self._labels: list[Rows] = []
        self.refits: tuple[Refitted, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._weights)

    def items(self) -> dict[str, Rows]:
        return {name: stacked(rows, SHOWN, MISSING) for name, rows in self._items.items()}

    def labels(self) -> Rows:
        return np.concatenate([np.empty(0, np.int32), *self._labels])

    def hear(self, moment: Moment) -> None:
        while self._left and moment.events[0] >= self._left[0]:
            self._refit(self._left.pop(0))
        mine = np.flatnonzero(np.isin(moment.known, ASKED_AT))
        if not len(mine):
            return
        found = replace(
            moment.found,
            slots=moment.found.slots[mine],
            signals=moment.found.signals[mine],
            tables=moment.found.tables[:, mine],
            counts=moment.found.counts[mine],
        )
        for name, weights in self._weights.items():
            self._items[name].append(blend(found, weights, SHOWN)[0])
        users = [key_of(int(self._data.user[event])) for event in moment.events[mine]]
        seen = [moment.seen[place] for place in mine.tolist()]
        self._labels.append(told_labels(moment.index, users, seen, len(self._data.label_names)))

    def _refit(self, before: int) -> None:
        past = self._life.questions(until=before)
        try:
            fit = fit_blend(past, TransferWeights.default(), self._plan.blend, seed=self._plan.seed)
        except NothingToFit:
            self.refits += (Refitted(before, 0, 0, self._weights[REFIT]),)
            return
        self._weights[REFIT] = fit.weights
        self.refits += (Refitted(before, fit.questions, fit.chosen, fit.weights),)


def ease_answers(data: Prepared, events: NDArray[np.int64], fits: Iterable[int]) -> Rows:
    """(Q, 10) of a model that is fitted before each of `fits`, ascending; none before the first one. events:
    ascending."""
    later = Later(data)
    left = sorted(set(fits))
    model: Ease | None = None
    found = np.full((len(events), SHOWN), MISSING, np.int32)
    for place, event in enumerate(events.tolist()):
        while left and event >= left[0]:
            before = left.pop(0)
            if not (left and event >= left[0]):
                model = fit_ease(data.user[:before], data.item[:before])
        if model is not None:
            found[place] = model.answer(later.taken(event), SHOWN)
    return found


def _texts_known(data: Prepared, asked: Questions) -> list[list[int]]:
    """Of each question, the rows of its user's texts up to its event."""
    own: dict[int, list[tuple[int, int]]] = {}
    for event in range(int(asked.event.max(initial=-1)) + 1):
        if data.text[event] >= 0:
            own.setdefault(int(data.user[event]), []).append((event, int(data.text[event])))
    return [
        [text for at, text in own.get(user, ()) if at <= event]
        for user, event in zip(asked.user.tolist(), asked.event.tolist(), strict=True)
    ]


def _counted(tell: Tell, what: str, of: int) -> Callable[[int], None]:
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        tell(what, done, of)

    return more
