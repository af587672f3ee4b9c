from __future__ import annotations

from math import inf, log2

import pytest

from ops.audit.expected import Sums, Version
from ops.audit.spill import Spill

HIGH = (1 << 64) - 1
"""A hash that is no signed integer."""


def test_sums_of_pieces_are_sums_of_the_whole() -> None:
    with Spill() as spill:
        for weight in (1.0, 2.0, 5.0):
            spill.add(
                Sums(
                    popularity={HIGH: log2(weight)},
                    users={HIGH: 1, 0: -1},
                    labels={HIGH: weight},
                    label_names={HIGH: "chess"},
                    titles={(HIGH, "i", "a title"), (HIGH, "i", "")},
                )
            )
        (rows,) = spill.items()
        found = {row.item: row for row in rows}
        assert found[HIGH].popularity == pytest.approx(3.0)
        assert (found[HIGH].users, found[0].users, found[0].popularity) == (3, -3, -inf)
        assert list(spill.labels()) == [[(HIGH, 8.0, "chess")]]
        assert spill.titles([HIGH, 1]) == {HIGH: {("i", "a title"), ("i", "")}}
        assert spill.known_items([HIGH, 1]) == {HIGH}


def test_users_who_had_an_item_are_counted_without_the_one_who_asks() -> None:
    with Spill() as spill:
        spill.add(Sums(holders={(HIGH, b"a"), (HIGH, b"b"), (HIGH, b"c"), (1, b"a")}))
        assert spill.holders(HIGH, b"a", 10) == 2
        assert spill.holders(HIGH, b"x", 2) == 2, "no more than are asked for"
        assert spill.holders(1, b"a", 10) == 0


def test_the_catalogue_decides_from_the_first_item_that_stayed_in_it() -> None:
    with Spill() as spill:
        assert spill.catalogue_since() is None
        spill.list_item(HIGH, 0, 0, Version(1000, listed=True, available=True, expires=None))
        spill.list_item(HIGH, 0, 1, Version(2000, listed=False, available=False, expires=None))
        assert spill.catalogue_since() is None, "it was taken out again"
        spill.list_item(2, 0, 2, Version(3000, listed=True, available=False, expires=5))
        assert spill.catalogue_since() == 3000
        assert [version.timestamp for version in spill.versions(HIGH)] == [1000, 2000]
        assert spill.versions(2) == [Version(3000, listed=True, available=False, expires=5)]


def test_interests_are_those_of_a_users_last_record() -> None:
    with Spill() as spill:
        spill.publish_interests(b"a", 0, 1, gone=False)
        spill.publish_interests(b"b", 0, 2, gone=False)
        spill.publish_interests(b"a", 0, 3, gone=True)
        assert list(spill.interests()) == [[(b"b", 0, 2)]]
