from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.fit.held_out import neighbour_accuracy, same_user_recall


def unit(count: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_neighbours_give_their_similarity_to_their_labels() -> None:
    query = torch.tensor([[1.0, 0.0]])
    bank = torch.tensor([[0.9, 0.0], [0.5, 0.0], [0.5, 0.0], [-1.0, 0.0]])
    given = torch.tensor([[0], [1], [1], [1]])

    def right(label: int, k: int) -> float:
        return neighbour_accuracy(bank, given, query, torch.tensor([[label]]), 3, k)

    assert right(0, 1) == 1
    assert right(1, 3) == 1, "two at .5 outweigh one at .9"
    assert right(1, 4) == 1, "one that is opposite takes nothing away"


def test_any_wanted_label_is_right_and_none_is_wrong() -> None:
    bank, given = torch.eye(2), torch.tensor([[0, 2], [1, -1]])
    wanted = torch.tensor([[1, 0], [-1, -1]])
    assert neighbour_accuracy(bank, given, torch.eye(2), wanted, 3, 1) == 0.5


def test_a_text_of_the_same_user_is_found_and_the_text_itself_does_not_count() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0], [0.1, 0.9]])
    assert same_user_recall(bank, torch.tensor([0, 0, 1, 1, 2]), 4, k=1) == 0.75
    assert same_user_recall(bank, torch.tensor([0, 1, 2, 3, 4]), 5, k=3) == 0


def test_cutting_into_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = unit(300), unit(50, seed=1)
    given, wanted = torch.arange(300)[:, None] % 5, torch.arange(50)[:, None] % 5
    user = torch.arange(300) // 3

    def both() -> tuple[float, float]:
        return neighbour_accuracy(bank, given, queries, wanted, 5), same_user_recall(bank, user, 60)

    whole = both()
    monkeypatch.setattr("trainer.fit.held_out._BLOCK_BYTES", 4 * 300 * 7)
    assert both() == whole
