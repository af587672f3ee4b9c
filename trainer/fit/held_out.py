"""What vectors are worth for users nobody has seen: labels told by neighbours, or a user's own texts found again.

Plain functions over tensors, in blocks, so that similarities of all with all are never held. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from trainer.fit.losses import NO_LABEL

NEIGHBOURS: Final = 50
"""k of the label prediction."""
FOUND_AMONG: Final = 10
"""Among how many nearest texts another one of the same user counts as found."""

_BLOCK_BYTES: Final = 64 << 20


def neighbour_accuracy(
    bank: Tensor, given: Tensor, queries: Tensor, wanted: Tensor, label_count: int, k: int = NEIGHBOURS
) -> float:
    """Share of queries whose labels are told: see `labels_told`. At least one query."""
    return float(labels_told(bank, given, queries, wanted, label_count, k).double().mean())


def labels_told(
    bank: Tensor, given: Tensor, queries: Tensor, wanted: Tensor, label_count: int, k: int = NEIGHBOURS
) -> Tensor:
    """(Q,) whether a query's first label is wanted: each of the k nearest texts of the bank gives its similarity, where
    positive, to its labels.

    bank: (M, D), queries: (Q, D) unit rows. given: (M, W), wanted: (Q, W) int64 labels, -1 for none.
    """
    right = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    for start, similarities in _similarities(queries, bank):
        values, rows = similarities.topk(min(k, len(bank)), dim=1)
        labels = given[rows]  # (B, k, W)
        weights = values.clamp(min=0)[:, :, None].expand(labels.shape)
        # A column more takes what is given to no label.
        scores = queries.new_zeros((len(rows), label_count + 1))
        scores.scatter_add_(1, labels.where(labels != NO_LABEL, label_count).flatten(1), weights.flatten(1))
        best = scores[:, :label_count].argmax(dim=1)
        block = slice(start, start + len(rows))
        right[block] = (wanted[block] == best[:, None]).any(dim=1)
    return right


def same_user_recall(bank: Tensor, user: Tensor, asked: int, k: int = FOUND_AMONG) -> float:
    """Share of the first `asked` rows of the bank that have another row of their user among the k nearest.

    bank: (M, D) unit rows, two or more. user: (M,) who wrote.
    """
    found = 0
    for start, similarities in _similarities(bank[:asked], bank):
        itself = torch.arange(start, start + len(similarities), device=bank.device)
        similarities.scatter_(1, itself[:, None], -torch.inf)
        nearest = similarities.topk(min(k, len(bank) - 1), dim=1).indices
        found += int((user[nearest] == user[itself][:, None]).any(dim=1).sum())
    return found / asked


def _similarities(queries: Tensor, bank: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(where a block of queries starts, its (B, M) similarities)."""
    block = max(1, _BLOCK_BYTES // (4 * len(bank)))
    for start in range(0, len(queries), block):
        yield start, queries[start : start + block] @ bank.T
