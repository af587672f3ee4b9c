"""The stack of docker-compose.yml through an operator's day: fed, scaled, watched, its parts killed; nothing is lost.

The tests share one stack and go on from each other's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from ops.cli.state import read_user
from ops.grafana.dashboard import PANELS
from schemas.announcement import CURRENT, ReleaseAnnouncement
from schemas.codec import encode
from schemas.topics import ITEMS, MODEL_RELEASES, USER_TEXT
from tests.builders import eventually
from tests.compose.stack import Stack, running
from tests.metric_names import series

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1_800), pytest.mark.usefixtures("image")]

ALERT_S = 60.0
"""From a fault to its alert: two seconds of patience, the workers' own time-outs, and a busy machine."""

NOT_THERE = ReleaseAnnouncement(
    release="not-there",
    uri="/var/lib/kindred/releases/not-there",
    sha256="0" * 64,
    space="0" * 64,
    verdict="accept",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def stack(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("compose"), encoder="dummy") as found:
        yield found


@pytest.fixture(scope="module")
def began(stack: Stack) -> float:
    return time.time()


def everything_was_answered_once(stack: Stack) -> None:
    """Every first event by one recommendation, however often it was published; every user's events counted once."""
    stack.wait_until_read()
    answers = stack.answers()
    ids = defaultdict(set)
    for answer in answers:
        ids[answer["user_id"], answer["nth"], answer["trigger"]["event_id"]].add(answer["recommendation_id"])
    assert set(ids) == stack.due()
    assert {len(names) for names in ids.values()} == {1}
    events = [user for user, _ in stack.sent]
    counted = {user: read_user(stack.target, user, b"").events for user in set(events)}
    assert counted == {user: events.count(user) for user in set(events)}


def an_audit_finds_nothing(stack: Stack) -> None:
    found = stack.audit()
    assert found["ok"], found["findings"]
    assert found["checked"]["events"] == len(stack.sent)


def test_newcomers_are_answered(stack: Stack, began: float) -> None:
    stack.feed(1_000)
    everything_was_answered_once(stack)


def test_workers_are_found_by_prometheus_as_they_are_scaled(stack: Stack) -> None:
    stack.scale(3)
    stack.feed(1_000)
    stack.wait_until_read()
    busy = "count(kindred_partitions{state='running'} > 0)"
    eventually(lambda: stack.prometheus.value(busy) == 3, "every worker has partitions", ALERT_S)


def test_a_service_runs_without_root_and_cannot_write_its_own_files(stack: Stack) -> None:
    told = stack.compose("exec", "-T", "worker", "sh", "-c", "id -u; touch /opt/kindred/x 2>/dev/null || echo refused")
    assert told.split() == ["10001", "refused"]
    assert stack.compose("exec", "-T", "redis", "sh", "-c", "touch /usr/x 2>/dev/null || echo refused").strip()
    assert stack.compose("exec", "-T", "kafka", "id", "-u").strip() != "0"


def test_killed_workers_lose_nothing(stack: Stack) -> None:
    for _ in range(2):
        stack.feed_during("kill", "worker")
        assert stack.lag() > 0
        stack.compose("start", "worker")
        stack.wait_for_workers(3)
    everything_was_answered_once(stack)
    an_audit_finds_nothing(stack)


def test_a_frozen_worker_fires_an_alert_until_it_goes_on(stack: Stack) -> None:
    stack.compose("pause", "worker")
    eventually(lambda: "KindredWorkerDown" in stack.prometheus.firing(), "KindredWorkerDown fires", ALERT_S)
    stack.compose("unpause", "worker")
    eventually(lambda: "KindredWorkerDown" not in stack.prometheus.firing(), "KindredWorkerDown ends", ALERT_S)
    stack.feed(500)
    everything_was_answered_once(stack)


def test_stopped_workers_fire_an_alert(stack: Stack) -> None:
    stack.compose("stop", "worker")
    eventually(lambda: "KindredNoWorker" in stack.prometheus.firing(), "KindredNoWorker fires", ALERT_S)
    stack.compose("start", "worker")
    stack.wait_for_workers(3)


def test_a_killed_redis_fires_an_alert_and_loses_nothing(stack: Stack) -> None:
    stack.compose("kill", "redis")
    stack.feed(500)
    eventually(lambda: "KindredServiceAway" in stack.prometheus.firing(), "KindredServiceAway fires", ALERT_S)
    stack.compose("start", "redis")
    eventually(lambda: "KindredServiceAway" not in stack.prometheus.firing(), "KindredServiceAway ends", ALERT_S)
    everything_was_answered_once(stack)


def test_an_emptied_redis_is_healed_from_kafka(stack: Stack) -> None:
    read = "sum(kindred_events_in_total)"
    before = stack.prometheus.value(read) or 0
    with redis.Redis.from_url(stack.target.redis_url) as client:
        client.flushall()
    stack.feed(500)
    whole = before + len(stack.sent)
    eventually(lambda: (stack.prometheus.value(read) or 0) >= whole, "the whole log is read again", ALERT_S)
    eventually(lambda: stack.prometheus.value("sum(kindred_healing_remaining)") == 0, "healing ends", ALERT_S)
    everything_was_answered_once(stack)


def test_an_audit_finds_nothing(stack: Stack) -> None:
    an_audit_finds_nothing(stack)


def test_every_metric_of_a_worker_is_scraped(stack: Stack) -> None:
    user = stack.sent[0][0].encode()
    stack.send(stack.target.topic(USER_TEXT), b"broken", b"not json")
    stack.send(stack.target.topic(ITEMS), b"broken", b"not json")
    repeat = b'{"user_id": "twice", "text": "the same again", "event_id": "one"}'
    for _ in range(2):
        stack.send(stack.target.topic(USER_TEXT), b"twice", repeat)
    stack.send(stack.target.topic(USER_TEXT), user, None)
    stack.send(stack.target.topic(MODEL_RELEASES), CURRENT.encode(), b"not json")
    stack.send(stack.target.topic(MODEL_RELEASES), CURRENT.encode(), encode(NOT_THERE))
    stack.wait_until_read()
    eventually(lambda: series() <= stack.prometheus.names(), "every declared metric is there", ALERT_S)


def test_every_rule_can_be_evaluated(stack: Stack) -> None:
    rules = stack.prometheus.rules()
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert {"KindredNoWorker", "kindred:lag"} <= {rule["name"] for rule in rules}


@pytest.mark.parametrize(
    "query", [query for panel in PANELS for query, _ in panel.queries], ids=lambda query: f"{query[:60]}"
)
def test_a_panel_of_the_dashboard_has_data(stack: Stack, began: float, query: str) -> None:
    eventually(lambda: stack.prometheus.samples(query, began, time.time()) > 0, "the query gives data", ALERT_S)
