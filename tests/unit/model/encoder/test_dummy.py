"""The dummy: deterministic, quick, free of torch, and with a notion of likeness."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.encoder.base import Vectors
from model.encoder.dummy import MAX_WORDS, DummyEncoder


def _encode(*texts: str) -> Vectors:
    encoder = DummyEncoder()
    return encoder.encode(encoder.tokenise(texts))


@given(st.lists(st.text(max_size=60), max_size=12))
def test_vectors_are_unit_rows_or_zeros_for_texts_without_words(texts: list[str]) -> None:
    encoder = DummyEncoder()
    tokens = encoder.tokenise(texts)
    vectors = encoder.encode(tokens)
    assert vectors.shape == (len(texts), 64)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1)
    assert np.allclose(norms, tokens.lengths() > 0, atol=1e-5)


@given(st.lists(st.text(st.sampled_from("ab cd 好你 é"), max_size=30), min_size=1, max_size=8), st.data())
def test_a_text_has_the_same_bits_in_every_batch(texts: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(texts))
    alone = {text: _encode(text)[0].tobytes() for text in texts}
    assert [row.tobytes() for row in _encode(*shuffled)] == [alone[text] for text in shuffled]


def test_texts_that_share_words_are_alike_in_english_and_in_chinese() -> None:
    bread, loaf, proof = _encode("how do I bake bread at home", "bake bread at home now", "a proof by induction on n")
    assert bread @ loaf > 0.6 > 0.3 > bread @ proof
    baking, oven, film = _encode("在家做面包要多久", "在家做面包的温度", "推荐一部宇宙电影")
    assert baking @ oven > 0.4 > 0.3 > baking @ film


def test_only_the_first_words_count() -> None:
    words = " ".join(f"w{number}" for number in range(MAX_WORDS))
    assert (_encode(words) == _encode(words + " behind")).all()


def test_vectors_are_the_same_in_every_release_of_python_and_numpy() -> None:
    vector = _encode("Hello world")[0]
    assert {int(cell): round(float(vector[cell]), 4) for cell in np.flatnonzero(vector)} == {3: -0.7071, 6: -0.7071}


def test_another_dimension_is_another_space() -> None:
    assert DummyEncoder(64).space == DummyEncoder().space != DummyEncoder(384).space
    assert (DummyEncoder().name, DummyEncoder(384).name) == ("dummy", "dummy-384")


def test_words_that_cancel_each_other_still_have_a_direction() -> None:
    encoder = DummyEncoder(1)
    for text in ("a b c d", "b c d e", "c d e f"):
        assert abs(encoder.encode(encoder.tokenise([text]))).sum() == 1


def test_tokens_are_counted_and_none_is_padding() -> None:
    encoder = DummyEncoder()
    encoder.encode(encoder.tokenise(["one two", "three"]))
    assert (encoder.counters.tokens, encoder.counters.padded_tokens) == (3, 3)


def test_a_worker_with_the_dummy_starts_without_torch() -> None:
    program = (
        "import sys, pathlib\n"
        "from model.encoder.load import load_encoder\n"
        "encoder = load_encoder('dummy', cache=pathlib.Path('nowhere'))\n"
        "encoder.encode(encoder.tokenise(['one']))\n"
        "sys.exit(bool({'torch', 'transformers', 'openvino'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
