"""An erased user is gone from every place that workers keep or read, and nothing of the past brings them back."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from model.encoder.dummy import DummyEncoder
from ops.cli.dead_letters import past, read, redrive
from schemas.headers import SCHEMA
from schemas.topics import DEAD_LETTERS, RECOMMENDATIONS, USER_INTERESTS, USER_TEXT
from tests.fault.comparison import KEY, assert_equals_reference, known, target
from tests.fault.conftest import MakeStack
from tests.fault.harness import Stack
from tests.fault.load import START_MS, Sending
from tests.fault.processes import wait_for
from worker.broker.base import Record
from worker.store.save import DAY_MS

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]

BOOK: Final = "book-of-hops"
HOLDERS: Final = [f"holder-{n:08x}" for n in range(0x51A0, 0x51A4)]
TEXT: Final = "which hops give beer a citrus aroma"


class Clock:
    """Timestamps of records, a second apart."""

    now = START_MS

    def sending(self, user: str, value: dict[str, Any] | None, **more: Any) -> Sending:
        self.now += 1000
        body = None if value is None else json.dumps({"user_id": user, **value}).encode()
        return Sending(sum(user.encode()) % 4, user.encode(), body, self.now, **more)

    def event(self, user: str, text: str = TEXT, item: str | None = None, **more: Any) -> Sending:
        value = {"text": text} | ({} if item is None else {"item_id": item, "item_title": "The book of hops"})
        return self.sending(user, value, **more)

    def tombstone(self, user: str) -> Sending:
        return self.sending(user, None)


def answers(stack: Stack, user: str) -> list[dict[str, Any]]:
    """To this user, in order, repeats left out."""
    found = [json.loads(record.value or b"") for record in stack.records(RECOMMENDATIONS)]
    return list({each["recommendation_id"]: each for each in found if each["user_id"] == user}.values())


def holders(stack: Stack, item_id: str) -> int:
    """Users who have the item among their recent ones, as Redis counts them."""
    store = stack.store(DummyEncoder().space)
    try:
        rows = [row for piece in store.snapshot() for row in piece.items if row.item_id == item_id]
        return max((row.users for row in rows), default=0)
    finally:
        store.close()


def test_erased_users_are_gone_from_state_counts_index_and_interests(stack: Stack) -> None:
    clock = Clock()
    workers = [stack.worker(), stack.worker()]
    stack.produce([clock.event(user, item=BOOK) for user in HOLDERS])
    stack.wait_done()
    wait_for(
        lambda: all(worker.metric("kindred_donors") == 4 for worker in workers), "both workers know the donors", 60
    )
    stack.produce([clock.event("before-any-erasure")])
    stack.wait_done()
    (before,) = answers(stack, "before-any-erasure")
    assert [item["item_id"] for item in before["items"]] == [BOOK]
    assert before["donors"]["count"] == 4
    assert holders(stack, BOOK) == 4

    stack.produce([clock.tombstone(user) for user in HOLDERS])
    stack.wait_done()
    assert not [user for user in HOLDERS if known(stack, user)]
    assert holders(stack, BOOK) == 0
    wait_for(
        lambda: all(worker.metric("kindred_donors") == 1 for worker in workers), "no worker has them as donors", 60
    )
    ended = {(record.key, record.value) for record in stack.records(USER_INTERESTS)}
    assert ended == {(user.encode(), None) for user in HOLDERS}
    with stack.redis_client() as client:
        for user in HOLDERS:
            (key,) = client.keys(f"*:u:{KEY(user).hex()}")
            assert set(client.hgetall(key)) == {b"p"}, "more than the marker is left"
            assert 0 < client.pttl(key) <= 7 * DAY_MS

    stack.produce([clock.event("after-the-erasure")])
    stack.wait_done()
    (after,) = answers(stack, "after-the-erasure")
    parts = {reason["part"] for item in after["items"] for reason in item["reasons"]}
    assert not parts & {"donors", "shared_items"}
    assert after["donors"]["count"] <= 1  # the user of before
    assert_equals_reference(stack)


def test_a_late_event_after_the_tombstone_starts_a_new_user(stack: Stack) -> None:
    clock = Clock()
    stack.worker()
    texts = [clock.event("ann-7c31", f"{TEXT} {n}", item=f"item-{n}") for n in range(5)]
    late = clock.event("ann-7c31", "knots for a harbour", item="item-late", headers=[])
    stack.produce([*texts, clock.tombstone("ann-7c31"), late])
    stack.wait_done()
    assert [answer["nth"] for answer in answers(stack, "ann-7c31")] == [1, 2, 3, 1]
    store = stack.store(DummyEncoder().space)
    state = store.load([KEY("ann-7c31")])[0].state
    store.close()
    assert state is not None
    assert (state.count, len(state.items)) == (1, 1)
    assert_equals_reference(stack)


def test_a_redrive_brings_no_erased_user_back(stack: Stack) -> None:
    clock = Clock()
    worker = stack.worker()
    newer = [(SCHEMA, b"user-text/9")]  # what an upgraded worker would read
    stack.produce([clock.event("gone-55aa", headers=newer), clock.event("here-66bb", headers=newer)])
    stack.produce([clock.tombstone("gone-55aa"), clock.event("gone-77cc", headers=newer)])
    stack.produce([clock.tombstone("before-88dd"), clock.event("before-88dd", headers=newer)])
    stack.wait_done()
    wait_for(lambda: len(stack.records(DEAD_LETTERS)) == 4, "four dead letters", 60)
    place = target(stack)
    erased = past(place, read(place)).erased
    assert len(erased) == 1

    def agreed(count: int) -> bool:
        assert count == 3
        stack.produce([clock.tombstone("gone-77cc")])  # while the operator makes up his mind
        return True

    done = redrive(place, None, agreed)
    assert (done.sent, done.erased) == (2, 2)
    again = [
        record.key
        for record in stack.records(USER_TEXT)
        if record.headers and record.headers[-1][0] == "kindred-redriven"
    ]
    assert sorted(filter(None, again)) == [b"before-88dd", b"here-66bb"]
    assert worker.serves


def test_a_user_who_writes_nothing_for_long_is_forgotten(make_stack: MakeStack) -> None:
    stack = make_stack(settings={"KINDRED_USER_TTL_DAYS": "30"})
    clock = Clock()
    stack.worker()
    stack.produce([clock.event("quiet-91ee", item=BOOK), clock.event("quiet-91ee")])
    clock.now += 29 * DAY_MS
    stack.produce([clock.event("quiet-91ee")])
    clock.now += 31 * DAY_MS
    stack.produce([clock.event("quiet-91ee")])
    stack.wait_done()
    assert [answer["nth"] for answer in answers(stack, "quiet-91ee")] == [1, 2, 3, 1]
    assert holders(stack, BOOK) == 0
    with stack.redis_client() as client:
        (key,) = client.keys(f"*:u:{KEY('quiet-91ee').hex()}")
        assert 30 * DAY_MS < client.pttl(key) <= 37 * DAY_MS


def test_no_item_is_recommended_on_account_of_fewer_than_min_donors_and_no_donor_is_named(
    make_stack: MakeStack,
) -> None:
    stack = make_stack(settings={"KINDRED_MIN_DONORS": "3"})
    clock = Clock()
    stack.worker()
    users = [f"person-{n * 7919:012x}" for n in range(1, 41)]
    # Item k is held by the users whose number it divides: some by many, some by one or two.
    events = [
        clock.event(user, f"{TEXT} {number % 5}", item=f"item-{k}")
        for number, user in enumerate(users, 1)
        for k in range(1, 41)
        if number % k == 0
    ]
    stack.produce(events)
    stack.wait_done()
    told: list[Record] = []

    def something_is_recommended() -> bool:
        """To one of twenty newcomers more; the index follows the last events within a second."""
        first = len(told)
        stack.produce([clock.event(f"newcomer-{first + n:06x}", f"{TEXT} {n}") for n in range(20)])
        stack.wait_done()
        told[:] = stack.records(RECOMMENDATIONS)
        return any(json.loads(record.value or b"")["items"] for record in told)

    wait_for(something_is_recommended, "an item that enough users have is recommended")
    rare = {f"item-{k}" for k in range(14, 41)}  # at most two of the forty
    for record in told:
        body = record.value or b""
        answer = json.loads(body)
        personal = {
            item["item_id"]
            for item in answer["items"]
            for reason in item["reasons"]
            if reason["part"] in ("donors", "shared_items", "popularity")
        }
        assert not personal & rare
        assert not [user for user in users if user != answer["user_id"] and user.encode() in body]
    assert_equals_reference(stack, min_donors=3)
