from __future__ import annotations

from typing import Any

import pytest

from model.kafka.abilities import EMBEDDED, WRITE_TXN_MARKERS, abilities
from ops.cli import checks
from ops.cli.checks import FAIL, OK, WARN


class Broker:
    """An admin client that knows one topic's cleanup policy."""

    def __init__(self, policy: str | None) -> None:
        self.policy = policy

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        found = {} if self.policy is None else {"cleanup.policy": {"value": self.policy}}
        return {"topic": {resources[0].name: found}}


@pytest.mark.parametrize(
    ("policy", "status"), [("delete", OK), ("compact", FAIL), ("compact,delete", FAIL), (None, OK)]
)
def test_a_compacted_log_of_texts_must_be_mended(policy: str | None, status: str) -> None:
    check = checks.compaction(Broker(policy), "user-text", {"user-text"})
    assert check.status == status
    assert bool(check.remedy) == (status == FAIL)


def test_a_missing_log_of_texts_names_the_command() -> None:
    assert "topics create" in checks.compaction(Broker(None), "user-text", set()).remedy


@pytest.mark.parametrize(("policy", "status"), [("noeviction", OK), ("allkeys-lru", FAIL), (None, WARN)])
def test_an_evicting_redis_must_be_mended(policy: str | None, status: str) -> None:
    assert checks.eviction(policy).status == status


@pytest.mark.parametrize(("skew", "status"), [(0.2, OK), (-0.9, OK), (5.0, WARN), (-5.0, WARN), (-3600.0, FAIL)])
def test_a_clock_far_off_must_be_mended(skew: float, status: str) -> None:
    assert checks.clock(skew).status == status


def test_the_direction_of_the_skew_is_told() -> None:
    assert "behind" in checks.clock(5.0).text
    assert "ahead" in checks.clock(-5.0).text


def test_an_old_python_must_be_mended() -> None:
    assert checks.python((3, 10)).status == FAIL
    assert checks.python((3, 13)).status == OK


def test_the_embedded_brokers_limits_are_told_with_the_way_out() -> None:
    check = checks.guarantees(abilities(EMBEDDED, {26}), 1, "at_least_once")
    assert check.status == WARN
    assert "forgets everything" in check.text
    assert "kindred up --kafka apache" in check.remedy


def test_exactly_once_on_a_broker_without_transactions_must_be_mended() -> None:
    check = checks.guarantees(abilities(EMBEDDED, {26}), 1, "exactly_once")
    assert check.status == FAIL
    assert "KINDRED_DELIVERY=exactly_once cannot be kept" in check.remedy


def test_a_broker_that_can_keep_all_guarantees_is_said_to() -> None:
    check = checks.guarantees(abilities("a cluster", {WRITE_TXN_MARKERS}), 3, "exactly_once")
    assert (check.status, check.remedy) == (OK, "")
    assert "3 brokers" in check.text
