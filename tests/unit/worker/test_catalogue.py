"""The items topic, followed by a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from model.encoder.dummy import DummyEncoder
from model.index import Index
from schemas.codec import encode
from schemas.state import hash64
from tests.builders import World, eventually
from worker.broker.base import BrokerUnavailable, Record
from worker.catalogue import Catalogue


class Items:
    """An items topic in a list. fail_with: what the next polls raise."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self.fail_with: Exception | None = None
        self.closed = False
        self._read = 0
        self._end: int | None = None

    def put(self, item_id: str, **fields: Any) -> None:
        value = encode({"item_id": item_id, "title": item_id, **fields})
        self.log.append(Record("items", 0, len(self.log), 0, item_id.encode(), value))

    def withdraw(self, item_id: str) -> None:
        self.log.append(Record("items", 0, len(self.log), 0, item_id.encode(), None))

    def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        if self.fail_with is not None:
            raise self.fail_with
        if self._end is None:
            self._end = len(self.log)
        taken = self.log[self._read : self._read + max_records]
        self._read += len(taken)
        if not taken:
            threading.Event().wait(0.002)
        return taken

    def at_end(self) -> bool:
        return self._end is not None and self._read >= self._end

    def close(self) -> None:
        self.closed = True


class Shop:
    def __init__(self) -> None:
        self.items = Items()
        self.bad: list[str] = []
        self.index = Index(64, 4 << 20)
        self.catalogue = Catalogue(self.items, DummyEncoder(), threading.Lock(), self.bad.append)

    def start(self) -> None:
        self.catalogue.start()
        assert self.catalogue.complete.wait(10)
        self.catalogue.take_over(self.index)

    def follow(self, what: str, wanted: int) -> None:
        def listed() -> bool:
            self.catalogue.take_over(self.index)
            return self.index.items.listed_count == wanted

        eventually(listed, what)


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.catalogue.stop()
    assert made.items.closed


def test_what_stands_in_the_topic_is_known_before_the_worker_joins(shop: Shop) -> None:
    shop.items.put("boat", title="The little boat")
    shop.items.put("tea")
    shop.start()
    slot, _ = shop.index.items.find([hash64("boat"), hash64("tea")])
    assert shop.index.items.titles[slot] == "The little boat"
    assert shop.index.items.listed_count == 2


def test_the_latest_record_of_an_item_counts_and_a_null_takes_it_away(shop: Shop) -> None:
    shop.items.put("boat", title="old")
    shop.items.put("boat", title="new")
    shop.start()
    assert shop.index.items.titles[shop.index.items.find([hash64("boat")])[0]] == "new"
    shop.items.put("tea")
    shop.follow("the new item is listed", 2)
    shop.items.withdraw("boat")
    shop.follow("the withdrawn one is not", 1)


def test_a_record_that_cannot_be_read_is_reported_and_left_out(shop: Shop) -> None:
    shop.items.log.append(Record("items", 0, 0, 0, b"x", b"no json"))
    shop.items.put("tea")
    shop.start()
    assert shop.bad == ["not_json"]
    assert shop.index.items.listed_count == 1


def test_a_topic_that_cannot_be_read_for_a_while_is_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.reading._AGAIN", 0.01)
    shop.items.put("tea")
    shop.items.fail_with = BrokerUnavailable("no leader")
    shop.catalogue.start()
    assert not shop.catalogue.complete.wait(0.05)
    shop.items.fail_with = None
    shop.follow("the item is listed", 1)


def test_an_error_that_no_retry_mends_comes_to_the_owner_of_the_index(shop: Shop) -> None:
    shop.items.fail_with = RuntimeError("broken")
    shop.catalogue.start()
    assert shop.catalogue.complete.wait(10)
    with pytest.raises(RuntimeError, match="broken"):
        shop.catalogue.take_over(shop.index)


def test_a_fresh_index_is_filled_with_everything(shop: Shop) -> None:
    shop.items.put("boat")
    shop.items.put("tea")
    shop.start()
    fresh = Index(64, 4 << 20)
    shop.catalogue.take_over_all(fresh)
    assert fresh.items.listed_count == 2


def test_only_items_of_the_catalogue_that_are_available_are_recommended() -> None:
    world, items = World(), Items()
    items.put("boat", title="The little boat")
    items.put("ship", title="The big ship", available=False)
    for item in ("boat", "ship", "raft"):
        for user in ("bo", "cy"):
            world.write(user, "a walk by the sea", item_id=item, item_title=item)
    world.write("anna", "a walk by the sea")
    world.work(batch_max_events=1, catalogue=partial(_catalogue, items))
    answer = world.recommendations()[-1]
    assert [(item.item_id, item.title) for item in answer.items] == [("boat", "The little boat")]


def test_a_catalogue_that_fails_stops_the_worker() -> None:
    world, items = World(), Items()
    with world.worker(catalogue=partial(_catalogue, items)) as made:
        items.fail_with = RuntimeError("broken")
        assert str(made.await_error()) == "broken"


def _catalogue(items: Items, lock: threading.Lock) -> Catalogue:
    return Catalogue(items, DummyEncoder(), lock, lambda _: None)


def test_a_catalogue_that_was_never_started_can_be_stopped() -> None:
    shop = Shop()
    shop.catalogue.stop()
    assert shop.items.closed
