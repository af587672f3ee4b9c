from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.head import identity
from tests.refits import HOSTILE, window
from trainer.interests import LEAST_PEOPLE, interest_map
from trainer.prepare import Prepared

World = tuple[Prepared, NDArray[np.float16]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return window(tmp_path_factory.mktemp("window"))


def test_people_lie_nearest_to_the_centre_of_what_they_write_about(world: World) -> None:
    found = interest_map(*world, identity)
    assert found is not None
    assert set(found.names) == set(HOSTILE)
    assert len(found.people) == world[0].users
    distances = np.linalg.norm(found.people[:, None] - found.labels[None], axis=2)
    assert (distances.argmin(axis=1) == found.label_of).mean() > 0.6, "by chance it would be a fifth"
    for label in range(len(found.names)):
        assert np.allclose(found.people[found.label_of == label].mean(axis=0), found.labels[label], atol=1e-3)


def test_the_map_is_of_interests_and_not_of_texts(world: World) -> None:
    plain, turned = interest_map(*world, identity), interest_map(*world, lambda rows: np.abs(rows))
    assert plain is not None
    assert turned is not None
    assert not np.allclose(plain.labels, turned.labels)


def test_the_same_window_gives_the_same_map(world: World) -> None:
    one, two = interest_map(*world, identity), interest_map(*world, identity)
    assert one is not None
    assert two is not None
    assert np.array_equal(one.people, two.people)
    assert np.array_equal(one.labels, two.labels)


def test_a_label_of_too_few_people_is_not_named(world: World) -> None:
    """It might be somebody's name."""
    data, vectors = world
    labels = data.labels.copy()
    few = np.unique(data.user)[: LEAST_PEOPLE - 1]
    labels[np.isin(data.user, few)] = len(HOSTILE)
    found = interest_map(replace(data, labels=labels, label_names=(*HOSTILE, "Jane Doe")), vectors, identity)
    assert found is not None
    assert "Jane Doe" not in found.names
    assert (found.label_of == -1).sum() == len(few)


def test_without_texts_there_is_no_map(world: World) -> None:
    data, vectors = world
    assert interest_map(replace(data, text=data.text * 0 - 1), vectors, identity) is None


def test_texts_that_are_all_the_same_give_a_map_of_one_point(world: World, tmp_path: Path) -> None:
    data, vectors = world
    found = interest_map(data, np.ones_like(vectors), identity)
    assert found is not None
    assert np.allclose(found.people, found.people[0], atol=1e-3)
