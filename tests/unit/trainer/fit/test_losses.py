from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainer.fit.losses import contrast_loss, epoch_order, fit_label_scores, label_loss, title_loss


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5))
def test_every_text_has_one_place_and_a_pair_is_two_neighbours_of_one_user(writers: list[int], epoch: int) -> None:
    user = np.array(writers, np.int32)
    order, pair = epoch_order(user, 0, epoch)
    assert sorted(order) == [*range(len(user))]
    for number in np.unique(pair):
        places = np.flatnonzero(pair == number)
        assert len(places) <= 2
        assert places[-1] - places[0] == len(places) - 1
        assert len(set(user[order[places]])) == 1
    alone = pair[np.flatnonzero(np.bincount(pair)[pair] == 1)]
    assert len(alone) == int((np.bincount(user) % 2).sum()), "only the last of an odd number has no partner"


def test_another_epoch_has_another_order_and_the_same_one_the_same() -> None:
    user = np.repeat(np.arange(50, dtype=np.int32), 4)
    first, second = epoch_order(user, 0, 1)[0], epoch_order(user, 0, 2)[0]
    assert (first == epoch_order(user, 0, 1)[0]).all()
    assert (first != second).any()


def test_one_label_is_plain_cross_entropy_and_several_are_their_mean() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    one = label_loss(logits, torch.tensor([[1, -1], [0, -1], [4, -1]]))
    assert float(one) == pytest.approx(
        float(functional.cross_entropy(logits, torch.tensor([1, 0, 4]), reduction="sum"))
    )
    two = label_loss(logits[:1], torch.tensor([[1, 3]]))
    apart = [float(label_loss(logits[:1], torch.tensor([[label, -1]]))) for label in (1, 3)]
    assert float(two) == pytest.approx(sum(apart) / 2)


def test_a_text_without_labels_brings_nothing() -> None:
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    both = label_loss(logits, torch.tensor([[1], [-1]]))
    assert float(both) == pytest.approx(float(label_loss(logits[:1], torch.tensor([[1]]))))


def test_the_contrast_is_between_the_partner_and_texts_of_others() -> None:
    vectors = functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    user, pair = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([7, 7, 3, 4, 5])
    scores = vectors @ vectors.T / 0.1
    # Texts 0 and 1 are a pair; text 2 is of the same user and takes no part for them.
    expected = sum(float(torch.logsumexp(scores[a, [b, 3, 4]], 0) - scores[a, b]) for a, b in ((0, 1), (1, 0)))
    assert float(contrast_loss(vectors, user, pair, 0.1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [0, 3])
def test_without_a_pair_the_contrast_is_nothing_and_can_be_derived(count: int) -> None:
    vectors = torch.ones(count, 4, requires_grad=True)
    loss = contrast_loss(vectors, torch.arange(count), torch.arange(count), 0.1)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_a_title_is_told_from_those_of_other_users_only() -> None:
    draw = torch.Generator().manual_seed(0)
    texts, named = (functional.normalize(torch.randn(count, 8, generator=draw), dim=1) for count in (4, 3))
    user, title = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 0])
    scores = texts @ named[title].T / 0.1
    # Text 3 has the title of text 0: neither is wrong for the other. Texts 0 and 1 are of one user.
    allowed = {0: [0, 2], 1: [1, 2, 3], 2: [0, 1, 2, 3], 3: [1, 2, 3]}
    expected = sum(float(torch.logsumexp(scores[a, among], 0) - scores[a, a]) for a, among in allowed.items())
    assert float(title_loss(texts, named[title], user, title, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_without_a_title_there_is_no_loss_and_it_can_be_derived() -> None:
    vectors = torch.ones(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = title_loss(vectors, vectors, none, none, 0.1)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0


def test_label_scores_are_those_that_a_prior_leaves() -> None:
    vectors, labels = torch.eye(3).repeat(20, 1), torch.arange(3).repeat(20)[:, None]

    def fitted(prior: float) -> torch.nn.Linear:
        layer = torch.nn.Linear(3, 3)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        fit_label_scores(layer, vectors, labels, prior)
        return layer

    assert (fitted(1.0)(vectors).argmax(dim=1) == labels[:, 0]).all()
    assert float(fitted(100.0).weight.detach().norm()) < 0.2 * float(fitted(0.01).weight.detach().norm())
