from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from model.update import DAY_MS
from model.users import UserKey
from ops.audit.expected import History
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, HeldUser
from ops.audit.replay import PARTIAL, ROAMS
from ops.audit.spill import Spill
from ops.audit.users import COSINE_GAP, Frame, check_users, differences
from schemas.state import UserState, unpack_position
from tests.unit.ops.audit.stories import RULES, event, history, replayed, tombstone
from worker.store.save import MARKER_MS

EXACT = Frame(RULES, {0: 100, 1: 100}, exact=True)


@pytest.fixture
def spill() -> Iterator[Spill]:
    with Spill() as made:
        yield made


def told(spill: Spill, *records: Any, whole: bool = True) -> History:
    replayed(spill, *records, whole=whole)
    return history(spill, "a")


def held(want: History, **changes: Any) -> HeldUser:
    """Redis as the log has it, but for these facts."""
    position = changes.pop("position", unpack_position(want.position))
    assert want.state is not None
    return HeldUser(position, replace(want.state, **changes))


def kinds(want: History, have: HeldUser, frame: Frame = EXACT) -> set[Kind]:
    return {kind for kind, _ in differences(want, have, frame)}


def test_what_the_log_has_is_no_difference(spill: Spill) -> None:
    want = told(spill, event("a", 0, item_id="i", labels=["x"]), event("a", 1))
    assert kinds(want, held(want)) == set()


def test_several_differences_are_all_named(spill: Spill) -> None:
    want = told(spill, event("a", 0, item_id="i", labels=["x"]), event("a", 1))
    have = held(want, count=3, first=(), items=(), position={0: 0})
    assert kinds(want, have) == {Kind.COUNT, Kind.FIRST_EVENTS, Kind.FACTS, Kind.POSITION}


def test_vectors_of_a_real_encoder_may_be_off_by_its_cosine(spill: Spill) -> None:
    want = told(spill, event("a", 0))
    real = replace(EXACT, exact=False)

    def off(half: float) -> HeldUser:
        assert want.state is not None
        moved = want.state.vector.astype(np.float32).copy()
        moved[int(np.abs(moved).argmin())] += np.sqrt(2 * half)
        return held(want, vector=moved.astype(np.float16))

    assert kinds(want, off(COSINE_GAP / 2), real) == set()
    assert kinds(want, off(COSINE_GAP * 2), real) == {Kind.VECTOR}
    assert kinds(want, off(COSINE_GAP / 2), EXACT) == {Kind.VECTOR}


def test_a_vector_of_nan_or_of_another_length_is_found(spill: Spill) -> None:
    want = told(spill, event("a", 0))
    assert want.state is not None
    broken = want.state.vector.copy()
    broken[3] = np.nan
    for vector in (broken, want.state.vector[:10]):
        assert kinds(want, held(want, vector=vector)) == {Kind.VECTOR}


def test_outside_of_the_sample_all_but_vector_and_weight_is_compared(spill: Spill) -> None:
    want = told(spill, event("a", 0))
    some = replace(EXACT, rules=replace(RULES, sample=1 << 60))
    assert kinds(want, held(want, vector=np.ones(3, np.float16), weight=7.0), some) == set()
    assert kinds(want, held(want, count=2), some) == {Kind.COUNT}


def test_a_user_of_two_partitions_may_have_been_read_in_either_order(spill: Spill) -> None:
    want = told(spill, event("a", 0, item_id="i"), event("a", 5, partition=1, item_id="j"))
    assert want.flags & ROAMS
    assert want.state is not None
    other = held(want, first=((1, 5), (0, 0)), items=want.state.items[::-1])
    assert kinds(want, other) == set()
    assert kinds(want, held(want, first=((0, 0),))) == {Kind.FIRST_EVENTS}
    assert kinds(want, held(want, first=((0, 3), (0, 0)))) == {Kind.FIRST_EVENTS}
    assert kinds(want, held(want, count=3, items=())) == {Kind.COUNT, Kind.FIRST_EVENTS, Kind.FACTS}


def test_where_order_decides_only_position_and_an_upper_bound_are_compared(spill: Spill) -> None:
    later = [event("a", offset, partition=1, day=1) for offset in (5, 6)]
    want = told(spill, event("a", 0), tombstone("a", 1), *later)
    assert kinds(want, held(want, count=1)) == set()
    assert kinds(want, HeldUser(unpack_position(want.position), None)) == set(), "the tombstone may have come last"
    assert kinds(want, held(want, position={1: 6})) == set(), "the marker may have expired in between"
    assert kinds(want, held(want, position={0: 0, 1: 6})) == {Kind.POSITION}
    assert kinds(want, held(want, count=4)) == {Kind.COUNT}


@pytest.mark.parametrize("first", [0, 1])
def test_who_was_erased_after_all_else_is_gone_whatever_the_order(spill: Spill, first: int) -> None:
    gone = tombstone("a", 5, partition=1 - first)
    want = told(spill, event("a", 0, partition=first, day=-1), gone)
    marker = HeldUser(unpack_position(want.position), None)
    assert want.state is None
    assert kinds(want, marker) == set()
    assert kinds(want, replace(marker, state=UserState(np.zeros(3, np.float16), count=1))) == {Kind.NOT_ERASED}


def test_of_a_history_without_its_beginning_only_its_end_is_compared(spill: Spill) -> None:
    want = told(spill, event("a", 50), whole=False)
    assert want.flags & PARTIAL
    assert kinds(want, held(want, count=20, items=(1, 2), first=((0, 1),), position={0: 50, 7: 3})) == set()
    assert kinds(want, held(want, position={0: 49})) == {Kind.POSITION}
    assert kinds(want, held(want, seen_at=1)) == {Kind.FACTS}
    assert kinds(want, HeldUser()) == {Kind.LOST_USER}


def test_a_newest_event_that_may_repeat_one_from_before_the_log_may_have_been_skipped(spill: Spill) -> None:
    want = told(spill, event("a", 50, event_id="x"), whole=False)
    assert kinds(want, held(want, seen_at=1)) == set()


def test_an_erased_user_must_be_gone_everywhere_and_leave_a_marker(spill: Spill) -> None:
    want = told(spill, event("a", 0), tombstone("a", 1))
    marker = HeldUser({0: 1}, None, age_ms=1000, in_feed=True)
    assert kinds(want, marker) == set()
    assert kinds(want, replace(marker, in_feed=False)) == {Kind.FEED}
    assert kinds(want, replace(marker, in_feed=False, age_ms=2 * 3_600_000)) == set(), "the feed forgets after an hour"
    assert kinds(want, replace(marker, in_feed=False, age_ms=None)) == set()
    assert kinds(want, replace(marker, elsewhere=True)) == {Kind.NOT_ERASED}
    assert kinds(want, replace(marker, state=UserState(np.zeros(64, np.float16), count=1))) == {Kind.NOT_ERASED}
    assert kinds(want, HeldUser()) == {Kind.LOST_MARKER}


class _OneUser:
    """A Redis that holds the same of every user."""

    def __init__(self, user: HeldUser) -> None:
        self._user = user

    def users(self, users: Sequence[UserKey], _marker_ms: int) -> list[HeldUser]:
        return [self._user] * len(users)


def checked(spill: Spill, have: HeldUser, frame: Frame = EXACT) -> tuple[Any, Findings, Findings]:
    findings, aside = Findings(), Findings()
    (*_, counts) = check_users(spill, cast(Held, _OneUser(have)), frame, findings, aside)
    return counts, findings, aside


def test_a_user_who_is_ahead_of_the_window_is_wrong_only_if_nothing_was_under_way(spill: Spill) -> None:
    want = told(spill, event("a", 0))
    counts, findings, aside = checked(spill, held(want, position={0: 100}, count=9))
    assert (counts.moved, counts.compared, dict(findings.counts)) == (1, 0, {})
    assert dict(aside.counts) == {Kind.POSITION: 1}


@pytest.mark.parametrize(
    ("days", "erased", "expired"),
    [(3, False, 0), (36, False, 0), (38, False, 1), (6, True, 0), (8, True, 1)],
)
def test_what_redis_may_have_let_expire_is_not_missed(spill: Spill, days: int, erased: bool, expired: int) -> None:
    replayed(spill, event("a", 0), *([tombstone("a", 1)] if erased else []))
    later = replace(EXACT, rules=replace(RULES, now_ms=RULES.now_ms + days * DAY_MS))
    counts, findings, _ = checked(spill, HeldUser(), later)
    assert counts.expired == expired
    assert sum(findings.counts.values()) == 1 - expired
    assert MARKER_MS == 7 * DAY_MS
