from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import pytest

from ops.audit.aggregates import check_items
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, HeldItem
from ops.audit.spill import Spill
from schemas.state import hash64
from tests.unit.ops.audit.stories import event, replayed


class _Items:
    """A Redis that holds one item."""

    def __init__(self, item: HeldItem) -> None:
        self._item = item

    def items(self, _items: Sequence[int]) -> list[HeldItem]:
        return [self._item]

    def item_hashes(self) -> Iterator[list[int]]:
        yield [hash64("i")]


@pytest.mark.parametrize(
    ("title", "kinds"),
    [("first title", set()), ("second title", set()), ("no title of it", {Kind.ITEM_NAME}), (None, {Kind.ITEM_NAME})],
)
def test_any_title_that_an_event_gave_is_right(title: str | None, kinds: set[Kind]) -> None:
    findings = Findings()
    with Spill() as spill:
        replayed(
            spill, event("a", 0, item_id="i", item_title="first title"),
            event("b", 1, item_id="i"), event("c", 2, item_id="i", item_title="second title"),
        )  # fmt: skip
        ((want,),) = spill.items()
        have = HeldItem(want.popularity, 3, "i", title)
        list(check_items(spill, cast(Held, _Items(have)), findings))
        assert set(findings.counts) == kinds


def test_users_whom_redis_dropped_unnoticed_may_still_be_counted() -> None:
    with Spill() as spill:
        replayed(spill, event("a", 0, item_id="i"), event("a", 1, day=40))
        ((want,),) = spill.items()
        have = HeldItem(want.popularity, 0, "i", None)
        for users, found in ((0, 0), (1, 0), (2, 1)):
            findings = Findings()
            list(check_items(spill, cast(Held, _Items(replace(have, users=users))), findings))
            assert findings.counts[Kind.USERS_PER_ITEM] == found
