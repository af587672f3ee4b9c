from __future__ import annotations

import pytest

from ops.audit.expected import Version
from ops.audit.findings import Kind
from ops.audit.listings import LATE_MS, Listings, closed
from ops.audit.spill import Spill

T = 1_000_000_000
BEFORE, AFTER = T - 2 * LATE_MS, T + 2 * LATE_MS


def version(timestamp: int, *, listed: bool = True, available: bool = True, expires: int | None = None) -> Version:
    return Version(timestamp, listed, available, expires)


@pytest.mark.parametrize(
    ("versions", "kind"),
    [
        ([version(BEFORE)], None),
        ([version(BEFORE, available=False)], Kind.WITHDRAWN_ITEM),
        ([version(BEFORE), version(BEFORE + 1, available=False)], Kind.WITHDRAWN_ITEM),
        ([version(BEFORE, available=False), version(BEFORE + 1)], None),
        ([version(BEFORE), version(T, available=False)], None),
        ([version(BEFORE, available=False), version(T + 1)], None),
        ([version(BEFORE, available=False), version(AFTER)], Kind.WITHDRAWN_ITEM),
        ([version(AFTER, available=False)], None),
        ([version(BEFORE, expires=T)], Kind.EXPIRED_ITEM),
        ([version(BEFORE, expires=T + 1)], None),
        ([version(BEFORE, listed=False)], Kind.UNLISTED_ITEM),
    ],
    ids=[
        "open", "withdrawn", "withdrawn later", "open again", "withdrawn just now", "perhaps open again",
        "open again too late", "nothing known of that time", "expired", "expires later", "taken out",
    ],
)  # fmt: skip
def test_only_what_surely_was_closed_is_called_closed(versions: list[Version], kind: Kind | None) -> None:
    assert closed(versions, T, decides=True) is kind


def test_an_item_that_was_taken_out_is_as_before_where_the_catalogue_does_not_decide() -> None:
    assert closed([version(BEFORE, listed=False)], T, decides=False) is None


@pytest.mark.parametrize(
    ("since", "intact", "kind"),
    [
        (BEFORE, True, Kind.UNLISTED_ITEM),
        (BEFORE, False, None),
        (T, True, None),
        (None, True, None),
    ],
    ids=["never listed", "compacted", "the catalogue began just now", "no catalogue"],
)
def test_an_item_without_a_record_is_unlisted_only_if_none_can_have_been_lost(
    since: int | None, intact: bool, kind: Kind | None
) -> None:
    with Spill() as spill:
        assert Listings(spill, since, intact=intact).closed(7, T) is kind
