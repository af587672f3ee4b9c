"""Slots of items: who makes room for whom."""

from __future__ import annotations

from model.nearest import NumpyNearest
from worker.item_table import ItemTable, Listing


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
