"""The whole way through `kindred up`: real broker, Redis and workers as processes, every command from outside."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kafka
import pytest
import redis

from ops import broker
from ops.cli.state import read_user
from ops.cli.target import find
from ops.stack import ports, processes
from schemas.access import KafkaAccess
from schemas.headers import last
from tests.broker_servers import KIND
from tests.e2e.stack import FIRST_K, POSTS, Stack, posts, running, wait_until

pytestmark = [pytest.mark.embedded, getattr(pytest.mark, KIND), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One worker with the encoder that the service ships with, and the first posts in it."""
    with running(tmp_path_factory.mktemp("real") / "data", encoder="minilm", workers=1) as stack:
        stack.kindred("produce", str(POSTS), "--field", "occurred_at=ts", "--limit", "200")
        wait_until(lambda: stack.lag() == 0, "all posts applied")
        yield stack


@pytest.mark.encoder
def test_every_newcomers_first_posts_are_answered_once_each(real: Stack) -> None:
    events = Counter(post["user_id"] for post in posts(200))
    wanted = {(user, n) for user, count in events.items() for n in range(1, min(FIRST_K, count) + 1)}
    found = [(answer.user_id, answer.nth) for answer in real.recommendations() if answer.user_id in events]
    assert sorted(found) == sorted(wanted)


@pytest.mark.encoder
def test_a_sentence_is_answered_with_items_and_reasons(real: Stack) -> None:
    found = real.json("ask", "Which hops give beer a citrus aroma?")
    answer = found["recommendation"]
    assert answer["nth"] == 1
    assert answer["interests"]
    assert 0 < len(answer["items"]) <= 10
    for item in answer["items"]:
        assert item["reasons"]
        assert sum(reason["share"] for reason in item["reasons"]) == pytest.approx(1.0, abs=0.01)
    assert found["latency_ms"] < 5_000  # under a second where nothing else runs; docs/benchmarks.md has the figure


@pytest.mark.encoder
def test_a_user_can_be_shown_and_forgotten(real: Stack) -> None:
    real.kindred("ask", "How is lambic brewed?", "--user", "to be forgotten", "--item", "beer:1")
    shown = real.json("user", "show", "to be forgotten")
    assert set(shown) == {"user_id", "events", "position", "labels", "points", "space"}
    assert (shown["user_id"], shown["events"]) == ("to be forgotten", 1)
    real.kindred("user", "forget", "to be forgotten", "--yes")
    wait_until(lambda: real.lag() == 0, "tombstone applied")
    assert "Nothing is known" in real.kindred("user", "show", "to be forgotten", code=1)


@pytest.mark.encoder
def test_watch_model_and_doctor_have_something_to_say(real: Stack) -> None:
    assert len(real.kindred("watch", "--once", "--rows", "3").splitlines()) == 3
    assert (builtin := real.json("model", "list")[0])["encoder"]["name"] == "minilm"
    assert real.json("model", "show", builtin["name"]) == builtin
    checks = real.json("doctor")
    assert {check["status"] for check in checks} <= {"ok", "warn"}


@pytest.mark.encoder
def test_an_audit_of_the_running_stack_finds_nothing(real: Stack) -> None:
    wait_until(lambda: real.lag() == 0, "all applied")
    report = real.json("audit")
    assert (report["ok"], report["not_checked"]) == (True, [])
    assert report["checked"]["records"] >= 200
    assert report["checked"]["vectors"] == report["checked"]["users"] - report["checked"]["erased"] > 0


@pytest.mark.encoder
def test_an_audit_that_finds_damage_ends_with_1(real: Stack) -> None:
    with redis.Redis.from_url(real.endpoints().redis) as client:
        key = next(client.scan_iter("*:u:*", count=1000))
        value = client.dump(key)
        client.delete(key)
        real.kindred("audit", code=1)
        client.restore(key, 0, value)
    assert real.json("audit")["ok"]


@pytest.fixture(scope="module")
def dummy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("dummy") / "data", encoder="dummy", workers=2) as stack:
        yield stack


def test_killing_every_worker_while_events_arrive_loses_nothing_and_doubles_nothing(dummy: Stack) -> None:
    pieces = [posts(1500)[start : start + 250] for start in range(0, 1500, 250)]
    events: Counter[str] = Counter()
    for number, piece in enumerate(pieces):
        dummy.produce(piece)
        events.update(post["user_id"] for post in piece)
        if number in (1, 3):
            for name, pid in dummy.endpoints().pids.items():
                if name.startswith("worker-"):
                    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: dummy.lag() == 0, "all events applied")
    wanted = {(user, n) for user, count in events.items() for n in range(1, min(FIRST_K, count) + 1)}
    found = [(answer.user_id, answer.nth) for answer in dummy.recommendations()]
    assert sorted(found) == sorted(wanted)
    target = find(dummy.data_dir)
    assert {user: read_user(target, user, b"").events for user in events} == events


def test_a_worker_killed_while_nothing_arrives_comes_back(dummy: Stack) -> None:
    old = dummy.endpoints().pids["worker-0"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: dummy.endpoints().pids.get("worker-0", old) != old, "worker-0 restarted")
    # With both workers answering, every partition has been checked against the log and is read again.
    wait_until(lambda: all(_ready(url) for url in dummy.endpoints().metrics), "both workers ready", seconds=60.0)
    assert len(dummy.endpoints().metrics) == 2
    assert dummy.json("ask", "Are they all back?", "--timeout", "60")["recommendation"]["nth"] == 1


def _ready(metrics_url: str) -> bool:
    try:
        with urllib.request.urlopen(metrics_url.replace("/metrics", "/readyz"), timeout=2):  # noqa: S310 (http, local)
            return True
    except OSError:
        return False


def test_a_dead_letter_is_listed_and_redriven_once(dummy: Stack) -> None:
    with broker.producer(KafkaAccess(dummy.endpoints().kafka)) as producer:
        sent = producer.send("user-text", key=b"bad", value=b'{"user_id": "bad"', headers=[("mine", b"1")]).get(10)
    wait_until(lambda: dummy.json("dlq", "list"), "dead letter written")
    (letter,) = dummy.json("dlq", "list")
    assert (letter["partition"], letter["offset"]) == (sent.partition, sent.offset)
    assert (letter["reason"], letter["redriven"]) == ("not_json", False)
    assert "1 sent again, 0 had been before" in dummy.kindred("dlq", "redrive", "--yes")
    again = [
        record for record in broker.read_all(KafkaAccess(dummy.endpoints().kafka), "user-text") if record.key == b"bad"
    ]
    assert [last(record.headers, "mine") for record in again] == [b"1", b"1"]
    identity = f"user-text-{sent.partition}-{sent.offset}".encode()
    assert [last(record.headers, "kindred-redriven") for record in again] == [None, identity]
    # The record is still bad, so it has a dead letter of its own by now or soon: only that one is left to be sent.
    wait_until(lambda: len(dummy.json("dlq", "list")) == 2, "dead letter of the redriven record")
    assert [row["redriven"] for row in dummy.json("dlq", "list")] == [True, False]
    assert "1 sent again, 1 had been before" in dummy.kindred("dlq", "redrive", "--yes")


def test_the_ends_of_a_log_are_its_true_ends(dummy: Stack) -> None:
    kafka_address = dummy.endpoints().kafka
    with broker.producer(KafkaAccess(kafka_address), linger_ms=200) as producer:
        sent = [producer.send("user-interests", key=b"same", value=b"{}") for _ in range(7)]
        ends = {future.get(10).offset for future in sent}
        partition = kafka.TopicPartition("user-interests", sent[0].get(10).partition)
    with broker.admin(KafkaAccess(kafka_address)) as admin, broker.reader(KafkaAccess(kafka_address)) as reader:
        assert broker.ends(admin, reader, [partition])[partition] == max(ends) + 1 == 7
    assert len(list(broker.read_all(KafkaAccess(kafka_address), "user-interests"))) == 7


def test_up_says_when_the_data_dir_is_in_use(dummy: Stack) -> None:
    assert "belongs to a stack that is running" in dummy.kindred("up", "--detach", code=1)
    assert dummy.endpoints().pids


def test_down_leaves_nothing_running(tmp_path: Path) -> None:
    with running(tmp_path / "data", encoder="dummy", workers=1) as stack:
        records = processes.read(stack.data_dir)
        stack.kindred("down")
        assert not [record for record in records if processes.alive(record)]
        assert "No stack was running" in stack.kindred("down")


@pytest.mark.needs("keeps_log")
def test_log_and_state_outlive_the_broker_and_the_whole_stack(tmp_path: Path) -> None:
    early, middle, late = posts(600)[:200], posts(600)[200:400], posts(600)[400:]
    with running(tmp_path / "data", encoder="dummy", workers=2) as stack:
        stack.produce(early)
        before = stack.endpoints()
        os.kill(before.pids["broker"], signal.SIGKILL)
        old = before.pids["broker"]
        wait_until(lambda: stack.endpoints().pids.get("broker", old) != old, "broker restarted")
        wait_until(lambda: ports.answers(int(before.kafka.rpartition(":")[2])), "broker answers where it was")
        stack.produce(middle)
        wait_until(lambda: stack.lag() == 0, "all events applied")
        assert stack.endpoints().pids == before.pids | {"broker": stack.endpoints().pids["broker"]}
        stack.kindred("down")
        stack.up(2)
        stack.produce(late)
        wait_until(lambda: stack.lag() == 0, "all events applied")

        events = Counter(post["user_id"] for post in posts(600))
        target = find(stack.data_dir)
        assert {user: read_user(target, user, b"").events for user in events} == events
        said = (stack.data_dir / "logs" / "worker-0.log").read_text()
        assert "healing" not in said, "what Redis knew was there again"
