from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from model.encoder.base import Tokens
from model.encoder.dummy import DummyEncoder
from tests.windows import MemoryLog, Stop, fill
from trainer.prepare import Least, Prepared, prepare
from trainer.vectors import keep_spaces, vectors_of
from trainer.window import Window


class Counting(DummyEncoder):
    """stop_after: calls after which it raises Stop."""

    def __init__(self, dimension: int = 64, stop_after: int = 1 << 30) -> None:
        super().__init__(dimension)
        self.texts: list[str] = []
        self.stop_after = stop_after

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        if self.stop_after == 0:
            raise Stop
        self.stop_after -= 1
        self.texts += texts
        return super().tokenise(texts)


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    with Window(tmp_path / "window.sqlite") as made:
        yield made


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    for number in range(10):
        made.write(f"user {number % 3}", f"text number{number}", item_id=f"item {number}", item_title="one title")
    return made


def read(window: Window, log: MemoryLog) -> Prepared:
    fill(window, log)
    return prepare(window, Least(0, 0, 0))


def test_each_row_is_the_vector_of_its_text(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    data = read(window, log)
    encoder = DummyEncoder()
    found = vectors_of(window, data.text_ids, encoder, tmp_path)
    expected = encoder.encode(encoder.tokenise(window.texts(data.text_ids.tolist())))
    assert (found.dtype.name, found.shape, found.flags.writeable) == ("float16", (11, 64), True)
    assert np.array_equal(found, expected.astype(np.float16))


def test_a_text_is_encoded_once_a_space(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    data, encoder, other = read(window, log), Counting(), Counting(32)
    first = vectors_of(window, data.text_ids, encoder, tmp_path)
    log.write("anna", "a new one")
    data = read(window, log)
    again = vectors_of(window, data.text_ids, encoder, tmp_path)
    assert len(encoder.texts) == len(set(encoder.texts)) == 12
    rows = {number: row for row, number in enumerate(data.text_ids.tolist())}
    assert all(np.array_equal(first[0], again[rows[number]]) for number in data.text_ids[:1].tolist())
    vectors_of(window, data.text_ids, other, tmp_path)
    assert len(other.texts) == 12


def test_a_run_that_was_killed_encodes_only_what_it_had_not_kept(
    window: Window, log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.vectors.PIECE", 4)
    data, killed, other = read(window, log), Counting(stop_after=2), Counting()
    told: list[tuple[int, int]] = []
    with pytest.raises(Stop):
        vectors_of(window, data.text_ids, killed, tmp_path)
    vectors_of(window, data.text_ids, other, tmp_path, lambda done, of: told.append((done, of)))
    assert (len(killed.texts), len(other.texts)) == (8, 3)
    assert told == [(4, 11), (8, 11), (11, 11)]


def test_the_vectors_of_an_erased_user_go_too(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    data = read(window, log)
    vectors_of(window, data.text_ids, DummyEncoder(), tmp_path)
    log.forget("user 0")
    data = read(window, log)
    ((count,),) = window.rows("SELECT count(*) FROM vectors")
    assert count == len(data.text_ids) == 7


def test_the_array_leaves_no_file_behind(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    data = read(window, log)
    before = os.listdir(tmp_path)
    found = vectors_of(window, data.text_ids, DummyEncoder(), tmp_path)
    assert os.listdir(tmp_path) == before
    assert found.any()


def test_no_texts_have_no_vectors(window: Window, tmp_path: Path) -> None:
    assert vectors_of(window, np.empty(0, np.int64), DummyEncoder(), tmp_path).shape == (0, 64)


def test_ids_may_repeat(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    ids = read(window, log).text_ids[[1, 0, 1]]
    encoder = Counting()
    found = vectors_of(window, ids, encoder, tmp_path)
    assert np.array_equal(found[0], found[2])
    assert len(encoder.texts) == 2


def test_an_id_that_is_not_in_the_window_is_an_error(window: Window, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text 5 is not in the window"):
        vectors_of(window, np.array([5]), DummyEncoder(), tmp_path)


def test_spaces_that_nobody_needs_are_forgotten(window: Window, log: MemoryLog, tmp_path: Path) -> None:
    data, encoder, other = read(window, log), DummyEncoder(), DummyEncoder(32)
    vectors_of(window, data.text_ids, encoder, tmp_path)
    vectors_of(window, data.text_ids, other, tmp_path)
    keep_spaces(window, {other.space})
    assert list(window.rows("SELECT DISTINCT space FROM vectors")) == [(other.space,)]
