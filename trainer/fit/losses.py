"""The losses of texts with labels and of texts with a user, and the order that brings two of a user into one batch.

Sums over texts, not means over those that count: divided by the batch, each loss weighs what the data can carry. Knows
nothing of what made the vectors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

NO_LABEL: Final = -1


def epoch_order(user: NDArray[np.int32], seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) texts in this epoch's random order, two of a user side by side where there are two; (N,) number of the pair.

    Who wrote much has many pairs, each at a place of its own.
    """
    draw = np.random.default_rng([seed, epoch])
    shuffled = draw.permutation(len(user))
    order = shuffled[np.argsort(user[shuffled], kind="stable")]
    _, first, count = np.unique(user[order], return_index=True, return_counts=True)
    place = np.arange(len(user)) - np.repeat(first, count)
    pair = draw.permutation(len(user))[np.cumsum(place % 2 == 0) - 1]
    by_pair = np.argsort(pair, kind="stable")
    return order[by_pair], pair[by_pair]


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy, a mean over a text's labels, summed over texts; a text without labels brings nothing.

    One loss for one label and for several (targets of 1/k: Mahajan et al., "Exploring the Limits of Weakly Supervised
    Pretraining", ECCV 2018, who found it better than a logistic loss a label): it ranks labels, which is what they are
    for, also where there are hundreds and each is rare. logits: (B, L). labels: (B, W), -1 for none.
    """
    given = labels != NO_LABEL
    likely = functional.log_softmax(logits, dim=1).gather(1, labels.clamp(min=0))
    return -((likely * given).sum(dim=1) / given.sum(dim=1).clamp(min=1)).sum()


def contrast_loss(interest: Tensor, user: Tensor, pair: Tensor, temperature: float) -> Tensor:
    """InfoNCE summed over texts (van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    2018): a text is to find the other one of its pair among all texts of other users in the batch. A text without a
    partner brings nothing; other texts of the same user are neither right nor wrong.

    interest: (B, D) unit rows. user, pair: (B,), the two of a pair have the same number.
    """
    itself = torch.eye(len(user), dtype=torch.bool, device=user.device)
    partner = (pair[:, None] == pair) & ~itself
    other = user[:, None] != user
    scores = (interest @ interest.T / temperature).masked_fill(~(partner | other), -torch.inf)
    asked, right = partner.nonzero(as_tuple=True)
    return functional.cross_entropy(scores[asked], right, reduction="sum")


def title_loss(texts: Tensor, titles: Tensor, user: Tensor, title: Tensor, temperature: float) -> Tensor:
    """InfoNCE summed over texts: a text is to find the title of its item among titles that other users' texts have.
    Titles that the same user's texts have are neither right nor wrong, as with `contrast_loss`.

    texts: (B, D) unit rows. titles: (B, D), of each text's item. user, title: (B,) who wrote, and which title.
    """
    itself = torch.eye(len(user), dtype=torch.bool, device=user.device)
    other = (user[:, None] != user) & (title[:, None] != title)
    scores = (texts @ titles.T / temperature).masked_fill(~(itself | other), -torch.inf)
    return functional.cross_entropy(scores, torch.arange(len(user), device=user.device), reduction="sum")


def fit_label_scores(layer: torch.nn.Linear, vectors: Tensor, labels: Tensor, prior: float) -> None:
    """Softmax regression of labels on vectors that stay as they are; the layer begins at zero. prior: L2 of its
    weights. vectors: (B, D). labels: (B, W), -1 for none."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = (label_loss(layer(vectors), labels) + prior / 2 * layer.weight.square().sum()) / len(vectors)
        torch.autograd.backward(found)
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
