from __future__ import annotations

import math

import numpy as np

from trainer.evaluate.terms import READ_CHARACTERS, counted, terms, unit_rows, weighted


def test_words_and_in_chinese_characters_and_pairs() -> None:
    assert list(terms("Sour BEER, 2 hops!")) == ["sour", "beer", "2", "hops"]
    assert list(terms("我爱啤酒 ipa")) == ["我", "爱", "啤", "酒", "我爱", "爱啤", "啤酒", "ipa"]


def test_no_more_of_a_text_is_read_than_is_bounded() -> None:
    assert len(list(terms("a " * 10 * READ_CHARACTERS))) == READ_CHARACTERS // 2


def test_rarity_is_what_the_known_texts_say() -> None:
    texts = ["beer hops", "beer", "beer beer yeast", "unknown hops"]
    found = weighted(counted(texts), np.array([0, 1, 2]))
    beer, hops, yeast = math.log(4 / 4) + 1, math.log(4 / 2) + 1, math.log(4 / 2) + 1
    first = np.array([beer, hops])
    third = np.array([(1 + math.log(2)) * beer, yeast])
    expected = first[0] * third[0] / np.linalg.norm(first) / np.linalg.norm(third)
    similar = (found @ found.T).toarray()
    np.testing.assert_allclose(similar[0, 2], expected, rtol=1e-5)
    np.testing.assert_allclose(np.diag(similar), 1, rtol=1e-5)
    assert similar[1, 3] == 0


def test_a_text_without_terms_is_a_row_of_zeros() -> None:
    found = unit_rows(counted(["...", "a"]))
    assert found.toarray()[0].sum() == 0
    assert np.isfinite(found.data).all()
    assert counted([]).shape[0] == 0
