"""What is sent for a batch, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from model.index import Index
from model.update import Outcome
from schemas.codec import encode
from schemas.dead_letter import read_dead_letter
from schemas.state import UserState, hash64
from tests.builders import key_of
from worker.batch import Batch
from worker.broker.base import Record
from worker.decode import Entry, decode
from worker.partition import Lease
from worker.publish import Outbox

NOW = 1_780_000_000_000


def entry(offset: int, *, user: str = "anna", at: int = NOW, value: bytes | None = None, **fields: object) -> Entry:
    value = encode({"user_id": user, "text": "by the sea", **fields}) if value is None else value
    return decode(Record("user-text", 0, offset, at, user.encode(), value), key_of)


def batch(*entries: Entry, publish_from: int = 0) -> Batch:
    made = Batch(0.0)
    for one in entries:
        made.add(one, Lease(0, publish_from, publish_from))
    return made


def outbox(*, answer_after_ms: int = 0, max_bytes: int = 100_000) -> Outbox:
    return Outbox("recommendations", "user-text.dlq", "user-interests", "worker-0", max_bytes, answer_after_ms)


def seen(nth: int) -> Outcome:
    return Outcome(nth, True, UserState(np.ones(4, np.float16), count=1, items=(5,), labels={6: 1.0}))


def test_a_question_holds_the_event_and_the_state_it_saw() -> None:
    one = entry(3, event_id="e1")
    outcome = seen(2)
    ((asked, question, state),) = outbox().questions(batch(one), [one], [outcome], NOW + 5)
    assert asked is one
    assert state is outcome.seen
    assert (question.user_id, question.user, question.nth) == ("anna", key_of("anna"), 2)
    assert (question.topic, question.partition, question.offset, question.event_id) == ("user-text", 0, 3, "e1")
    assert (question.items, question.labels, question.created_at) == ((5,), {6: 1.0}, NOW + 5)


@pytest.mark.parametrize("outcome", [Outcome(), Outcome(0, True, UserState(np.ones(4, np.float16)))])
def test_only_newcomers_are_answered(outcome: Outcome) -> None:
    one = entry(3)
    assert outbox().questions(batch(one), [one], [outcome], NOW) == []


def test_what_was_published_before_is_not_asked_again() -> None:
    entries = [entry(3), entry(4)]
    asked = outbox().questions(batch(*entries, publish_from=4), entries, [seen(1), seen(2)], NOW)
    assert [question.offset for _, question, _ in asked] == [4]


def test_events_from_before_the_agreed_time_are_not_asked() -> None:
    entries = [entry(0, at=NOW - 1), entry(1, at=NOW)]
    asked = outbox(answer_after_ms=NOW).questions(batch(*entries), entries, [seen(1), seen(2)], NOW)
    assert [question.offset for _, question, _ in asked] == [1]


def test_answers_go_under_the_users_key_and_dead_letters_after_them() -> None:
    good, bad = entry(0), entry(1, value=b"no json")
    asked = outbox().questions(batch(good, bad), [good], [seen(1)], NOW)
    ((answer, letter),) = outbox().records(batch(good, bad), asked, [{"user_id": "anna"}]).values()
    assert (answer.topic, answer.key, answer.value) == ("recommendations", b"anna", b'{"user_id":"anna"}')
    assert dict(answer.headers)["schema"] == b"recommendations/1"
    assert letter.topic == "user-text.dlq"
    assert read_dead_letter(letter.headers, letter.key, letter.value).offset == 1


def test_a_dead_letter_below_what_was_committed_is_not_sent_again() -> None:
    bad = entry(1, value=b"no json")
    assert outbox().records(batch(bad, publish_from=2), [], []) == {}


def test_a_dead_letter_larger_than_the_broker_takes_goes_without_its_value() -> None:
    bad = entry(1, value=b"x" * 20_000)
    ((letter,),) = outbox(max_bytes=10_000).records(batch(bad), [], []).values()
    assert letter.value is None
    assert "value" in read_dead_letter(letter.headers, letter.key, letter.value).left_out


def test_a_tombstone_ends_the_published_interests_of_its_user() -> None:
    gone = decode(Record("user-text", 0, 1, NOW, b"anna", None), key_of)
    ((end,),) = outbox().records(batch(gone), [], []).values()
    assert (end.topic, end.key, end.value) == ("user-interests", gone.record.key, None)
    assert outbox().records(batch(gone, publish_from=2), [], []) == {}


def test_labels_are_told_until_the_index_knows_their_names() -> None:
    index = Index(4, 1 << 20)
    seen = batch(entry(0, labels=["sea", "wind"]), entry(1, labels=["sea"]))
    assert outbox().labels(seen, index) == [(hash64("sea"), "sea"), (hash64("wind"), "wind")]
    index.learn([], [(hash64("sea"), "sea")])
    assert outbox().labels(seen, index) == [(hash64("wind"), "wind")]


def test_labels_that_redis_may_have_lost_are_told_again() -> None:
    index = Index(4, 1 << 20)
    index.learn([], [(hash64("sea"), "sea")])
    assert outbox().labels(batch(entry(1, labels=["sea"]), publish_from=2), index) == [(hash64("sea"), "sea")]


def test_an_event_asks_with_its_own_item_even_where_the_state_no_longer_has_it() -> None:
    late = entry(0, item_id="boat")
    ((_, question, _),) = outbox().questions(batch(late), [late], [seen(1)], NOW)
    assert question.items == (5, hash64("boat"))
