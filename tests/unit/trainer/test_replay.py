from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.encoder.dummy import DummyEncoder
from model.head import identity
from model.nearest import MISSING
from model.update import DAY_MS
from tests.communities import write_community
from tests.windows import MemoryLog, fill
from trainer.prepare import Least, Prepared, prepare
from trainer.questions import Labelled, Questions
from trainer.replay import KNOWN, replay
from trainer.vectors import vectors_of
from trainer.window import Window

USERS = 60
TTL_MS = 365 * DAY_MS
World = tuple[Prepared, NDArray[np.float16]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("window")
    log = MemoryLog(cut=500)
    write_community(log, USERS)
    with Window(directory / "window.sqlite") as window:
        fill(window, log)
        data = prepare(window, Least(1, 1, 1))
        yield data, vectors_of(window, data.text_ids, DummyEncoder(), directory)


def ask(world: World, *, held_out: NDArray[np.bool_] | None = None, ask_from: int = 0) -> tuple[Questions, Labelled]:
    return replay(*world, identity, user_ttl_ms=TTL_MS, ask_from=ask_from, held_out=held_out)


def until(world: World, stop: int) -> World:
    """The same log, cut after so many events."""
    data, vectors = world
    cut = {name: getattr(data, name)[:stop] for name in ("user", "text", "item", "labels", "weight", "lang")}
    cut |= {name: getattr(data, name)[:stop] for name in ("occurred", "timestamp", "partition", "offset")}
    return replace(data, **cut), vectors


def test_every_newcomer_is_asked_after_with_one_two_and_three_texts(world: World) -> None:
    asked, _ = ask(world)
    assert len(asked) == USERS * len(KNOWN)
    for user in range(USERS):
        mine = asked.user == user
        assert asked.known[mine].tolist() == [1, 2, 3]
        assert asked.event[mine].tolist() == np.flatnonzero(world[0].user == user)[:3].tolist()


def test_what_is_wanted_is_taken_later_and_was_not_taken_before(world: World) -> None:
    data, _ = world
    asked, _ = ask(world)
    for user, event, wanted in zip(asked.user, asked.event, asked.wanted, strict=True):
        mine = data.user == user
        before = set(data.item[: event + 1][mine[: event + 1]].tolist())
        later = set(data.item[event + 1 :][mine[event + 1 :]].tolist())
        assert set(wanted[wanted != MISSING].tolist()) == later - before


@pytest.mark.parametrize("stop", [80, 150, 237])
def test_no_question_sees_the_future(world: World, stop: int) -> None:
    """Whatever comes after an event, what could be said at it is the same: a log that ends there gives the same."""
    asked, _ = ask(world)
    earlier, _ = ask(until(world, stop))
    now = asked.where(asked.event < stop)
    assert now.event.tolist() == earlier.event.tolist()
    width = min(now.items.shape[1], earlier.items.shape[1])
    np.testing.assert_array_equal(now.items[:, :width], earlier.items[:, :width])
    np.testing.assert_array_equal(now.signals[:, :width], earlier.signals[:, :width])
    assert (now.items[:, width:] == MISSING).all()
    for name, answer in now.plain.items():
        np.testing.assert_array_equal(answer, earlier.plain[name])


def test_a_leak_that_is_planted_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that enter the index before the question is asked change what is said."""
    asked, _ = ask(world)
    monkeypatch.setattr("trainer.replay._cuts", lambda user, _: [0, len(user)])
    delayed, _ = ask(world)
    assert not np.array_equal(asked.reachable, delayed.reachable)


def test_a_candidate_is_no_item_that_nobody_has_taken_yet(world: World) -> None:
    data, _ = world
    asked, _ = ask(world)
    first = {item: int(np.flatnonzero(data.item == item)[0]) for item in range(len(data.item_ids))}
    for event, items in zip(asked.event, asked.items, strict=True):
        assert all(first[item] < event for item in items[items != MISSING].tolist())


def test_held_out_users_teach_nothing(world: World) -> None:
    """Without their events the others are answered the same, whatever they write and take."""
    data, vectors = world
    held_out = np.arange(USERS) % 3 == 0
    others = ~held_out[data.user]
    asked, _ = ask(world, held_out=held_out)
    item, text = np.where(others, data.item, 0).astype(np.int32), np.where(others, data.text, 0).astype(np.int32)
    again, _ = ask((replace(data, item=item, text=text), vectors), held_out=held_out)
    mine, theirs = asked.where(~held_out[asked.user]), again.where(~held_out[again.user])
    width = min(mine.items.shape[1], theirs.items.shape[1])
    np.testing.assert_array_equal(mine.items[:, :width], theirs.items[:, :width])
    np.testing.assert_array_equal(mine.signals[:, :width], theirs.signals[:, :width])


def test_only_held_out_users_are_asked_for_labels_and_their_own_are_hidden(world: World) -> None:
    data, vectors = world
    held_out = np.arange(USERS) % 3 == 0
    _, labelled = ask(world, held_out=held_out)
    assert held_out[labelled.user].all()
    assert len(labelled.user) == held_out.sum() * len(KNOWN)
    shifted = data.labels.copy()
    mine = held_out[data.user]
    shifted[mine] = (shifted[mine] + 1) % len(data.label_names)
    _, again = ask((replace(data, labels=shifted), vectors), held_out=held_out)
    np.testing.assert_array_equal(labelled.best, again.best)
    right = (labelled.best[:, None] == labelled.wanted).any(axis=1)
    assert right.mean() > 0.8, "people who write about the same have the same label"


def test_nobody_is_asked_after_before_there_is_something_to_know(world: World) -> None:
    asked, _ = ask(world, ask_from=100)
    assert asked.event.min() >= 100
    whole, _ = ask(world)
    late = whole.where(whole.event >= 100)
    assert late.event.tolist() == asked.event.tolist()
    np.testing.assert_array_equal(late.wanted, asked.wanted)
    np.testing.assert_array_equal(late.reachable, asked.reachable)
