"""The map of interests: where labels and people lie, in the two directions that tell labels apart best. Pure.

The axes are the first two principal components of the labels' centres, each as heavy as its people are many (of the
people, where there are too few labels).
A point is a person's mean interest; whose it is, is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head
from trainer.prepare import NONE, Prepared

PEOPLE: Final = 2_000
"""Drawn at most."""
LABELS: Final = 40
"""Named at most: those of the most people."""
LEAST_PEOPLE: Final = 3
"""Of a label that is named: the name of a label that one person made up may tell who that is."""


@dataclass(frozen=True, slots=True)
class Map:
    """people: (P, 2). label_of: (P,) a row of the labels, -1 for none of them. labels: (L, 2) centres, most people
    first. names: L of them. explained: share of the centres' spread that two directions show."""

    people: NDArray[np.float32]
    label_of: NDArray[np.int32]
    labels: NDArray[np.float32]
    names: tuple[str, ...]
    explained: float


def interest_map(data: Prepared, vectors: NDArray[np.floating], head: Head, seed: int = 0) -> Map | None:
    """None where nobody has written anything that could be drawn. The same window and seed: the same map."""
    means = _means(data, vectors)
    there = np.flatnonzero(means.any(axis=1))
    if len(there) < 2:
        return None
    interests = np.zeros_like(means)
    interests[there] = head(means[there])
    names, centres, people = _centres(data, interests)
    by_label = len(names) >= 3
    axes, middle, explained = _axes(*((centres, people) if by_label else (interests[there], np.ones(len(there)))))
    drawn = np.sort(np.random.default_rng(seed).permutation(there)[:PEOPLE])
    rank = np.full(len(data.label_names) + 1, NONE, np.int32)
    rank[names] = np.arange(len(names), dtype=np.int32)
    return Map(
        people=((interests[drawn] - middle) @ axes).astype(np.float32),
        label_of=rank[_label_of(data)[drawn]],
        labels=((centres - middle) @ axes).astype(np.float32),
        names=tuple(data.label_names[name] for name in names),
        explained=explained,
    )


def _means(data: Prepared, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(U, D) unit mean of each user's texts, zeros without any."""
    rows = np.flatnonzero(data.text >= 0)
    rows = rows[np.argsort(data.user[rows], kind="stable")]
    means = np.zeros((data.users, vectors.shape[1]), np.float32)
    starts = np.searchsorted(data.user[rows], np.arange(data.users + 1))
    for user in np.flatnonzero(np.diff(starts)).tolist():
        own = rows[starts[user] : starts[user + 1]]
        means[user] = np.asarray(vectors[data.text[own]], np.float32).mean(axis=0)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(means, lengths, out=means, where=lengths > 0)
    return units


def _carried(data: Prepared) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Users, labels, and how many events of the user carry the label; each pair once."""
    event, column = np.nonzero(data.labels >= 0)
    width = len(data.label_names) + 1
    pairs, counts = np.unique(
        data.user[event].astype(np.int64) * width + data.labels[event, column], return_counts=True
    )
    return pairs // width, pairs % width, counts


def _label_of(data: Prepared) -> NDArray[np.int32]:
    """(U,) each user's most frequent label, of equals the one that appeared first; -1 for none."""
    user, label, counts = _carried(data)
    found = np.full(data.users, NONE, np.int32)
    order = np.lexsort((-label, counts))  # the last one written stays
    found[user[order]] = label[order]
    return found


def _centres(
    data: Prepared, interests: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Numbers of the labels that are drawn, the mean interests of the users who have each, and how many these are."""
    user, label, _ = _carried(data)
    there = interests[user].any(axis=1)
    user, label = user[there], label[there]
    people = np.bincount(label, minlength=len(data.label_names))
    names = np.argsort(-people, kind="stable")[:LABELS]
    names = names[people[names] >= LEAST_PEOPLE]
    centres = [interests[user[label == name]].mean(axis=0) for name in names]
    return names, np.array(centres, np.float32).reshape(len(names), interests.shape[1]), people[names]


def _axes(
    points: NDArray[np.float32], weight: NDArray[np.number]
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """(D, 2) the first two principal components of weighted points, each with its largest number positive; the middle;
    what they show."""
    share = weight[:, None] / weight.sum()
    middle = (points * share).sum(axis=0).astype(np.float32)
    _, spread, directions = np.linalg.svd((points - middle) * np.sqrt(share), full_matrices=False)
    axes = np.zeros((points.shape[1], 2))
    axes[:, : min(2, len(directions))] = directions[:2].T
    largest = np.abs(axes).argmax(axis=0)
    axes *= np.where(axes[largest, [0, 1]] < 0, -1, 1)
    total = float((spread**2).sum())
    return axes.astype(np.float32), middle, float((spread[:2] ** 2).sum()) / total if total > 0 else 0.0
