from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import pytest

from ops.audit.aggregates import check_items, check_labels
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, HeldItem
from ops.audit.spill import Spill
from schemas.state import hash64
from tests.unit.ops.audit.stories import event, replayed, tombstone


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


@pytest.mark.parametrize(("elsewhere", "found"), [(0, 1), (1, 0)], ids=["one partition", "order unknown"])
def test_a_sum_that_the_order_between_partitions_decides_is_left_out(elsewhere: int, found: int) -> None:
    findings = Findings()
    with Spill() as spill:
        replayed(spill, event("a", 0, item_id="i"), tombstone("a", 1, partition=elsewhere))
        ((want,),) = spill.items()
        assert want.users == 0
        # As if the tombstone had been read first.
        list(check_items(spill, cast(Held, _Items(HeldItem(want.popularity, 1, "i", None))), findings))
    assert findings.counts[Kind.USERS_PER_ITEM] == found


def test_a_name_is_compared_also_where_a_sum_is_left_out() -> None:
    findings = Findings()
    with Spill() as spill:
        replayed(spill, event("a", 0, item_id="i"), tombstone("a", 0, partition=1))
        list(check_items(spill, cast(Held, _Items(HeldItem(0.0, 0, "j", None))), findings))
    assert set(findings.counts) == {Kind.ITEM_NAME}


class _Labels:
    """A Redis that holds one label."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def labels(self, _labels: Sequence[int]) -> list[tuple[float, str]]:
        return [(self._weight, "bread")]

    def label_hashes(self) -> Iterator[list[int]]:
        yield [hash64("bread")]


@pytest.mark.parametrize(("elsewhere", "found"), [(0, 1), (1, 0)], ids=["one partition", "order unknown"])
def test_so_is_a_weight_of_a_label(elsewhere: int, found: int) -> None:
    findings = Findings()
    with Spill() as spill:
        replayed(spill, event("a", 0, labels=["bread"], event_id="e"), event("a", 1, elsewhere, event_id="e"))
        (((_, weight, _),),) = spill.labels()
        list(check_labels(spill, cast(Held, _Labels(weight + 1)), findings))
    assert findings.counts[Kind.LABEL_WEIGHT] == found


def popularity_found(filled: bool, missing: str) -> int:
    """Findings where Redis lacks the events of one of two users who had the item; user a was erased later."""
    findings = Findings()
    with Spill() as spill:
        replayed(spill, event("bo" if missing == "a" else "a", 0, item_id="i", weight=2))
        ((have,),) = spill.items()
    with Spill() as spill:
        events = event("a", 0, item_id="i", weight=2), event("bo", 1, item_id="i", weight=2)
        replayed(spill, *events, tombstone("a", 2), filled=filled)
        held = HeldItem(have.popularity, 1, "i", None)
        list(check_items(spill, cast(Held, _Items(held)), findings))
    return findings.counts[Kind.POPULARITY]


@pytest.mark.parametrize(("filled", "missing", "found"), [(True, "a", 0), (False, "a", 1)])
def test_a_space_that_was_filled_may_lack_what_users_wrote_who_are_erased(
    filled: bool, missing: str, found: int
) -> None:
    assert popularity_found(filled, missing) == found


@pytest.mark.parametrize(("weight", "found"), [(1.0, 0), (2.5, 0), (3.0, 0), (0.9, 1), (3.1, 1)])
def test_what_others_wrote_must_be_in_the_sums_of_a_space_that_was_filled(weight: float, found: int) -> None:
    findings = Findings()
    with Spill() as spill:
        events = event("a", 0, labels=["bread"], weight=2), event("bo", 1, labels=["bread"])
        replayed(spill, *events, tombstone("a", 2), filled=True)
        list(check_labels(spill, cast(Held, _Labels(weight)), findings))
    assert findings.counts[Kind.LABEL_WEIGHT] == found
