from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.audit import answers
from ops.audit.answers import Answers
from ops.audit.findings import Findings, Kind
from ops.audit.listings import Listings
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from ops.audit.window import Bounds, Window
from ops.cli.target import Target
from schemas.access import KafkaAccess
from schemas.settings import ReleasePlace
from tests.unit.ops.audit.stories import RULES, START_MS, answer, event, replayed, tombstone
from worker.broker.base import Record

TARGET = Target(KafkaAccess("nowhere:1"), "redis://nowhere", "group", "", ReleasePlace(Path()))
WINDOWS = {number: Window(number, 0, 100, 100, whole=True) for number in range(2)}


@pytest.fixture
def spill() -> Iterator[Spill]:
    with Spill() as made:
        yield made


@pytest.fixture
def judged(spill: Spill, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: what is found in these answers to the log in the spill."""

    def judge(*published: Record, rules: Rules = RULES, since_ms: int | None = None) -> dict[Kind, int]:
        monkeypatch.setattr(answers, "topic_pieces", lambda *_: iter([list(published)]))
        findings = Findings()
        listings = Listings(spill, None, intact=True)
        made = Answers(TARGET, rules, WINDOWS, spill, listings, findings, donors_known=True)
        list(made.check(Bounds({}, {}, since_ms)))
        return dict(findings.counts)

    return judge


def recommended(*items: str, part: str = "donors") -> list[dict[str, Any]]:
    reason = {"part": part, "share": 1.0, "count": 1, "text": "because"}
    return [{"item_id": item, "score": 1.0, "reasons": [reason]} for item in items]


def test_one_answer_to_each_of_the_first_events_is_right(spill: Spill, judged: Any) -> None:
    replayed(spill, *(event("a", offset) for offset in range(5)))
    assert judged(*(answer("a", offset, nth=offset + 1) for offset in range(3))) == {}


def test_a_missing_one_is_missed_unless_kafka_may_have_dropped_it(spill: Spill, judged: Any) -> None:
    replayed(spill, event("a", 0), event("a", 1, day=2))
    assert judged(answer("a", 0)) == {Kind.MISSING_ANSWER: 1}


def test_what_kafka_no_longer_keeps_is_not_missed(spill: Spill, judged: Any) -> None:
    replayed(spill, event("a", 0), event("a", 1, day=2))
    assert judged(since_ms=START_MS + 1000) == {Kind.MISSING_ANSWER: 1}


def test_records_outside_of_the_window_are_not_judged(spill: Spill, judged: Any) -> None:
    replayed(spill)
    assert judged(answer("a", 100, nth=7)) == {}


def test_a_user_of_two_partitions_may_have_been_counted_in_either_order(spill: Spill, judged: Any) -> None:
    replayed(spill, event("a", 0), event("a", 1), event("a", 9, partition=1))
    fits = answer("a", 0, nth=2), answer("a", 1, nth=3), answer("a", 9, partition=1, nth=1)
    assert judged(*fits) == {}


@pytest.mark.parametrize(("offset", "nth"), [(1, 1), (1, 4)], ids=["before its elder", "beyond K"])
def test_but_no_order_gives_any_number(spill: Spill, judged: Any, offset: int, nth: int) -> None:
    replayed(spill, event("a", 0), event("a", 1), event("a", 9, partition=1))
    published = answer("a", 0), answer("a", 9, partition=1), answer("a", offset, nth=nth)
    assert judged(*published) == {Kind.WRONG_NTH: 1}


def test_a_user_of_two_partitions_is_owed_as_many_answers_as_anybody(spill: Spill, judged: Any) -> None:
    replayed(spill, *(event("a", n) for n in range(3)), *(event("a", n, partition=1) for n in range(3)))
    assert judged(answer("a", 0), answer("a", 0, partition=1, nth=2)) == {Kind.MISSING_ANSWER: 1}


def test_where_a_tombstone_and_partitions_cross_any_event_may_be_a_first_one(spill: Spill, judged: Any) -> None:
    replayed(spill, *(event("a", n) for n in range(6)), tombstone("a", 0, partition=1))
    assert judged(answer("a", 5, nth=2)) == {}


def test_an_item_that_too_few_others_had_is_found(spill: Spill, judged: Any) -> None:
    rules = replace(RULES, min_donors=2)
    replayed(
        spill,
        event("a", 0),
        event("b", 1, item_id="rare"),
        event("c", 2, item_id="common"),
        event("d", 3, item_id="common"),
        rules=rules,
    )
    others = answer("b", 1), answer("c", 2), answer("d", 3)
    good = answer("a", 0, items=recommended("common"))
    assert judged(good, answer("a", 0, items=recommended("rare", "common")), *others, rules=rules) == {
        Kind.TOO_FEW_DONORS: 1
    }


def test_the_asker_is_none_of_the_others_who_had_an_item(spill: Spill, judged: Any) -> None:
    rules = replace(RULES, min_donors=2)
    replayed(spill, event("a", 0), event("a", 1, item_id="i"), event("b", 2, item_id="i"), rules=rules)
    published = answer("a", 0, items=recommended("i")), answer("a", 1, nth=2), answer("b", 2)
    assert judged(*published, rules=rules) == {Kind.TOO_FEW_DONORS: 1}
