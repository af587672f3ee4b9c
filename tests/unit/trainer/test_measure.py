from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.encoder.dummy import DummyEncoder
from model.head import identity
from model.release import golden
from model.transfer_weights import TransferWeights
from tests.communities import write_community
from tests.windows import MemoryLog, fill
from trainer.measure import (
    NEWCOMERS,
    ROUNDS,
    Answerer,
    latency,
    least_cosine,
    length_error,
    populated,
    shortest,
)
from trainer.prepare import Least, prepare
from trainer.vectors import vectors_of
from trainer.window import Window


class Clock:
    """Goes on only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: Iterator[float]) -> None:
        self.now += next(seconds)


def test_golden_vectors_of_the_same_encoder_are_the_same_and_of_unit_length() -> None:
    found = golden(DummyEncoder())
    assert least_cosine(found, found) == pytest.approx(1, abs=1e-5)
    assert length_error(found) < 1e-5


def test_one_golden_vector_that_is_another_is_seen() -> None:
    found = golden(DummyEncoder())
    turned = found[0].model_copy(update={"vector": tuple(reversed(found[0].vector))})
    assert least_cosine((turned, *found[1:]), found) < 0.9
    nothing = found[0].model_copy(update={"vector": (0.0,) * 64})
    assert least_cosine((nothing, *found[1:]), found) == 0


def test_golden_vectors_that_cannot_be_compared_are_no_number() -> None:
    assert np.isnan(least_cosine(golden(DummyEncoder(8)), golden(DummyEncoder())))
    assert np.isnan(least_cosine(golden(DummyEncoder()), ()))


def test_a_head_whose_interests_have_another_length_is_seen() -> None:
    assert length_error(golden(DummyEncoder(), lambda vectors: vectors * np.float32(1.5))) == pytest.approx(0.5, 1e-3)


def test_the_fastest_of_each_counts_and_what_disturbs_one_of_them_does_not_count() -> None:
    """The machine is busy in most of the rounds, each time with one of them only."""
    clock = Clock()
    busy = [[1.0 if number % 5 == turn else 10.0 + number for number in range(ROUNDS)] for turn in (0, 3)]
    one, other = (iter([share * each for each in load]) for share, load in zip((3.0, 2.0), busy, strict=True))
    assert shortest(lambda: clock.work(one), lambda: clock.work(other), clock) == pytest.approx((3.0, 2.0))


def test_a_slower_head_shows_in_the_latency_and_the_index_holds_the_window(tmp_path: Path) -> None:
    log = MemoryLog(cut=500)
    write_community(log, 60)
    clock, weights = Clock(), TransferWeights.default()
    with Window(tmp_path / "window.sqlite") as window:
        fill(window, log)
        data = prepare(window, Least(1, 1, 1))
        vectors = vectors_of(window, data.text_ids, DummyEncoder(), tmp_path)
    index = populated(data, vectors, identity)
    assert index.donors == data.users
    assert index.items.find(range(len(data.item_ids))).count(-1) == 0

    def head(seconds: float) -> Answerer:
        def turned(
            given: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            clock.work(iter([seconds]))
            return given

        return Answerer(turned, weights)

    seconds, ratio = latency(data, vectors, head(0.3), head(0.1), clock)
    assert ratio == pytest.approx(3)
    assert seconds == pytest.approx(0.3 / NEWCOMERS)
