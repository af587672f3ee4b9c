"""Slots of items: who makes room for whom."""

from __future__ import annotations

from model.item_table import ItemEntry, ItemRow, ItemTable, Listing
from model.nearest import NumpyNearest


def test_items_of_the_catalogue_go_last_when_room_is_made() -> None:
    table = ItemTable(NumpyNearest(4, 64), lambda _: None)
    for item in range(10):
        table.put(Listing(item, f"listed {item}"))
    table.put(Listing(10, "withdrawn", available=False))
    for junk in range(1000, 1200):
        table.slots([junk])
    assert table.listed_count == 11
    assert -1 not in table.find(range(11))
    opened = table.open(now_ms=0)
    assert not opened[table.find([10])[0]]
    assert opened[table.find([0])[0]]


def test_an_item_that_only_the_catalogue_names_is_still_to_be_named_for_redis() -> None:
    table = ItemTable(NumpyNearest(4, 64), lambda _: None)
    table.put(Listing(1, "a", "From the catalogue"))
    assert not table.named(1, with_title=False)
    table.learn([ItemEntry(1, "a", None)])
    assert table.named(1, with_title=False)
    assert not table.named(1, with_title=True)
    table.learn([ItemEntry(1, "a", "From an event")])
    assert table.named(1, with_title=True)
    assert table.titles == ["From the catalogue"]


def test_an_item_of_the_catalogue_has_the_popularity_that_redis_tells() -> None:
    table = ItemTable(NumpyNearest(4, 64), lambda _: None)
    table.put(Listing(1, "a", "From the catalogue"))
    table.learn([ItemRow(1, "a", None, 2.5, 7, b"")])
    slot = table.find([1])[0]
    assert (table.popularity[slot], table.users[slot]) == (2.5, 7)
