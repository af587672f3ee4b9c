from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainer.fit.scenes import HELD_OUT, people
from trainer.fit.texts import sides


@given(st.integers(0, 20), st.booleans())
def test_no_user_is_on_both_sides(seed: int, labels: bool) -> None:
    texts = people(labels=labels)
    found = sides(texts, HELD_OUT, seed)
    assert HELD_OUT[texts.user[found.asked]].all()
    assert not HELD_OUT[texts.user[found.train]].any()
    assert not HELD_OUT[texts.user[found.bank]].any()


def test_what_is_asked_and_compared_with_is_bounded_and_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.fit.texts._ASKED", 20)
    monkeypatch.setattr("trainer.fit.texts._BANK", 50)
    first, again, other = (sides(people(), HELD_OUT, seed) for seed in (0, 0, 1))
    assert (len(first.asked), len(first.bank)) == (20, 50)
    assert (first.asked == again.asked).all()
    assert (first.asked != other.asked).any()


def test_who_is_asked_about_without_labels_has_a_partner_among_those_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.fit.texts._ASKED", 20)
    texts = people(labels=False, each=3)
    found = sides(texts, HELD_OUT, 0)
    assert len(found.asked) == 20
    assert np.bincount(texts.user[found.asked])[texts.user[found.asked]].min() >= 2
    assert not found.by_labels


def test_less_is_asked_where_that_is_told() -> None:
    found = sides(people(), HELD_OUT, 0, most=(7, 11))
    assert (len(found.asked), len(found.bank)) == (7, 11)
