"""Texts of made-up users: what they write about can be told from few of a vector's numbers, the rest is noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.fit.texts import Texts

DIMENSION = 48
TOPICS = 4
USERS = 120
HELD_OUT: NDArray[np.bool_] = np.arange(USERS) % 4 == 0


def people(seed: int = 0, *, noise: float = 2.5, labels: bool = True, each: int = 4, several: bool = False) -> Texts:
    """USERS users with `each` texts about the one topic they like, of TOPICS, or four times as many where they have no
    labels. The label is the topic; with `several` also which half of the topics it is in, for every other text."""
    draw = np.random.default_rng(seed)
    topics = TOPICS if labels else 4 * TOPICS
    user = np.repeat(np.arange(USERS, dtype=np.int32), each)
    topic = draw.integers(0, topics, USERS)[user]
    vectors = draw.standard_normal((len(user), DIMENSION)) * np.where(np.arange(DIMENSION) < topics, 0.5, noise)
    vectors[np.arange(len(user)), topic] += 4.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = np.full((len(user), 2), -1, np.int32)
    if labels:
        given[:, 0] = topic
    if several:
        given[::2, 1] = TOPICS + topic[::2] // 2
    count = TOPICS + 2 if several else TOPICS if labels else 0
    return Texts(vectors.astype(np.float16), user, np.arange(len(user), dtype=np.int32), given, count)
