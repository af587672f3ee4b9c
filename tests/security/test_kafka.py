"""A Kafka that lets nobody in without TLS, a login and a right: with what docs/security.md lists a worker and the
commands work; without any of it they end with a message that says what, where, and what to do.
"""

from __future__ import annotations

import json
import signal
from contextlib import closing
from datetime import UTC, datetime

import kafka
import pytest

from model.kafka.base import BrokerRefused
from ops import broker
from schemas.announcement import ReleaseAnnouncement
from schemas.topics import DEAD_LETTERS, MODEL_RELEASES, RECOMMENDATIONS, USER_INTERESTS, USER_TEXT, topic_name
from tests.fault.processes import wait_for
from tests.security.place import Place, event
from tests.security.secured import OPERATOR, WORKER, Right, rights
from trainer.announce import announce, announced
from trainer.announcer import Announcer
from trainer.errors import TooLittleData
from trainer.turn import Turn
from worker.errors import Refused

pytestmark = [pytest.mark.apache, pytest.mark.embedded]

WORKERS = "A worker"
EXACTLY_ONCE = "A worker that delivers exactly once"
TRAINER = "A trainer"
COMMANDS = "Commands"
WRONG = "wr0ng-s3cret-77b1"
END = "the end of partition 0"


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_worker_needs_no_right_that_the_page_does_not_list(place: Place, delivery: str) -> None:
    place.create_topics()
    place.grant(WORKER, place.rights(WORKERS))
    if delivery == "exactly_once":
        place.grant(WORKER, place.rights(EXACTLY_ONCE))
    worker = place.worker({"KINDRED_DELIVERY": delivery})
    place.send(event("ann", "how is lambic brewed?"), ("bob", b"no json"), ("ann", None))
    wait_for(lambda: not worker.alive or len(place.read(USER_INTERESTS)) == 1, lambda: worker.said[-2000:], 60)
    assert [record.key for record in place.read(RECOMMENDATIONS)] == [b"ann"]
    assert [record.key for record in place.read(DEAD_LETTERS)] == [b"bob"]
    assert [(record.key, record.value) for record in place.read(USER_INTERESTS)] == [(b"ann", None)]
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0


@pytest.mark.parametrize("number", range(len(rights(WORKERS))), ids=[str(right) for right in rights(WORKERS)])
def test_a_worker_without_one_of_its_rights_ends_and_names_it(place: Place, number: int) -> None:
    place.create_topics()
    needed = place.rights(WORKERS)
    lacking = needed.pop(number)
    place.grant(WORKER, needed)
    worker = place.worker()
    assert worker.exit_code() == Refused.exit_code
    last = worker.said.splitlines()[-1]
    assert f"does not allow {WORKER}: " in last
    assert str(lacking) in last
    assert place.secured.address in last
    assert "docs/security.md" in last


def test_all_rights_that_are_missing_are_named_at_once(place: Place) -> None:
    place.create_topics()
    worker = place.worker()
    assert worker.exit_code() == Refused.exit_code
    assert all(str(right) in worker.said for right in place.rights(WORKERS))


def test_exactly_once_without_the_transactional_id_ends_and_names_it(place: Place) -> None:
    place.create_topics()
    place.grant(WORKER, place.rights(WORKERS))
    worker = place.worker({"KINDRED_DELIVERY": "exactly_once"})
    assert worker.exit_code() == Refused.exit_code
    assert "transactional id" in worker.said.splitlines()[-1]


@pytest.mark.parametrize("table", ["read", "write"])
def test_a_right_that_is_taken_away_ends_a_running_worker(place: Place, table: str) -> None:
    place.create_topics()
    needed = place.rights(WORKERS)
    place.grant(WORKER, needed)
    worker = place.worker()
    wait_for(worker.ready, lambda: worker.said[-2000:], 60)
    place.secured.revoke_all(WORKER)
    kept = "Read" if table == "write" else "Write"
    place.grant(WORKER, [right for right in needed if right.operation == kept])
    place.send(event("ann", "how is lambic brewed?"))
    assert worker.exit_code(60) == Refused.exit_code
    assert "docs/security.md" in worker.said.splitlines()[-1]


def test_a_wrong_password_ends_a_worker(place: Place) -> None:
    place.secrets.append(WRONG)
    worker = place.worker({"KINDRED_KAFKA_PASSWORD": WRONG})
    assert worker.exit_code(60) == Refused.exit_code
    assert "KINDRED_KAFKA_PASSWORD" in worker.said.splitlines()[-1]


def test_a_login_of_another_kind_ends_a_worker(place: Place) -> None:
    worker = place.worker({"KINDRED_KAFKA_SASL": "PLAIN"})
    assert worker.exit_code(60) == Refused.exit_code
    assert "KINDRED_KAFKA_SASL" in worker.said.splitlines()[-1]


def test_a_certificate_of_another_authority_ends_a_worker(place: Place) -> None:
    worker = place.worker({"KINDRED_KAFKA_CA": str(place.secured.other_ca)})
    assert worker.exit_code() == Refused.exit_code
    last = worker.said.splitlines()[-1]
    assert "CERTIFICATE_VERIFY_FAILED" in last
    assert "KINDRED_KAFKA_CA" in last


def test_a_certificate_for_another_name_ends_a_worker(place: Place) -> None:
    worker = place.worker({"KINDRED_KAFKA_BOOTSTRAP": place.secured.address.replace("127.0.0.1", "localhost")})
    assert worker.exit_code() == Refused.exit_code
    assert "localhost" in worker.said.splitlines()[-1]


def test_a_worker_that_speaks_another_protocol_than_the_listener_asks_for_it(place: Place) -> None:
    worker = place.worker(
        {
            "KINDRED_KAFKA_SECURITY": "PLAINTEXT",
            "KINDRED_KAFKA_USER": "",
            "KINDRED_KAFKA_PASSWORD": "",
            "KINDRED_KAFKA_CA": "",
        }
    )
    wait_for(lambda: "does it speak PLAINTEXT there (KINDRED_KAFKA_SECURITY)?" in worker.said, worker.log.read_text)
    assert worker.alive


def test_secrets_may_come_from_files(place: Place) -> None:
    place.create_topics()
    place.grant(WORKER, place.rights(WORKERS))
    secrets = place.directory / "secrets"
    secrets.mkdir()
    settings = place.settings()
    for name in ("KINDRED_KAFKA_PASSWORD", "KINDRED_REDIS_URL"):
        (secrets / name.lower()).write_text(settings[name] + "\n")
    worker = place.worker({"KINDRED_KAFKA_PASSWORD": "", "KINDRED_REDIS_URL": "", "KINDRED_SECRETS": str(secrets)})
    wait_for(worker.ready, lambda: worker.said[-2000:], 60)


def end_of_log(place: Place) -> str:
    """Of partition 0: the events of `ask` go where their random user_id sends them."""
    standings = json.loads(place.kindred("offsets", "show", "--json").said)
    return next(str(standing["end"]) for standing in standings if standing["partition"] == 0)


def test_the_commands_need_no_right_that_the_page_does_not_list(place: Place) -> None:
    place.grant(WORKER, place.rights(WORKERS))
    place.grant(OPERATOR, place.rights(COMMANDS))
    assert place.kindred("topics", "create").code == 0
    worker = place.worker()
    wait_for(worker.ready, lambda: worker.said[-2000:], 60)
    posts = place.directory / "posts.jsonl"
    posts.write_text('{"user_id": "ann", "text": "how is lambic brewed?"}\n')
    place.send(("bob", b"no json"))
    wait_for(lambda: len(place.read(DEAD_LETTERS)) == 1, "the dead letter is there")
    for arguments in (
        ["produce", str(posts)],
        ["ask", "which hops give beer a citrus aroma?", "--timeout", "30"],
        ["watch", "--once", "--rows", "1"],
        ["offsets", "show"],
        ["dlq", "list"],
        ["dlq", "redrive", "--yes"],
        ["dlq", "accept", "0", "--to", END],
        ["offsets", "skip", "0", "--to", END, "--yes"],
        ["user", "show", "ann"],
        ["user", "forget", "ann", "--yes"],
        ["doctor"],
        ["model", "promote", next((place.directory / "releases").glob("builtin-*")).name],
        ["model", "list"],
    ):
        done = place.kindred(*(end_of_log(place) if word == END else word for word in arguments))
        assert done.code == 0, f"{arguments}: {done.said}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "create"],
        ["ask", "which hops?"],
        ["watch", "--once"],
        ["offsets", "show"],
        ["dlq", "list"],
        ["user", "forget", "ann", "--yes"],
        ["model", "rollback"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_a_command_without_rights_fails_with_a_remedy(place: Place, arguments: list[str]) -> None:
    place.create_topics()
    done = place.kindred(*arguments)
    assert done.code == 1, done.said
    assert "docs/security.md" in done.said
    assert "Traceback" not in done.said


@pytest.mark.parametrize(
    ("variable", "value"),
    [("KINDRED_KAFKA_PASSWORD", WRONG), ("KINDRED_KAFKA_SASL", "PLAIN"), ("KINDRED_KAFKA_CA", "other")],
)
def test_a_command_that_is_not_let_in_names_the_setting(place: Place, variable: str, value: str) -> None:
    place.secrets.append(WRONG)
    given = str(place.secured.other_ca) if value == "other" else value
    done = place.kindred("offsets", "show", settings={variable: given})
    assert done.code == 1, done.said
    assert variable in done.said
    assert "Traceback" not in done.said


def told(release: str) -> ReleaseAnnouncement:
    return ReleaseAnnouncement(
        release=release,
        uri=release,
        sha256="0" * 64,
        space="s",
        verdict="accept",
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
    )


def test_who_announces_needs_no_right_that_the_page_does_not_list(place: Place) -> None:
    place.create_topics()
    place.grant(OPERATOR, place.rights(TRAINER))
    access, topic = place.secured.access(OPERATOR), topic_name(MODEL_RELEASES, place.namespace)
    with broker.producer(access) as producer:
        announce(producer, topic, told("r1"))
    with broker.reader(access) as reader:
        assert announced(reader, topic) == told("r1")


def test_a_trainer_needs_no_right_that_the_page_does_not_list(place: Place) -> None:
    """From taking its turn to the announcement; and as a whole, with nothing to learn from."""
    place.create_topics()
    place.grant(OPERATOR, place.rights(TRAINER))
    access, topic = place.secured.access(OPERATOR), topic_name(MODEL_RELEASES, place.namespace)
    announcer = Announcer(access, topic, "trainer")
    with closing(Turn(access, f"{place.namespace}.trainer", topic, "trainer")) as turn:
        turn.take(lambda: False)
        announcer.announce(turn, None, told("r1"))
    assert announcer.standing() == told("r1")
    done = place.kindred("trainer", "--once")
    assert done.code == TooLittleData.exit_code, done.said


@pytest.mark.parametrize(
    ("lacking", "named"),
    [("group", "READ on the consumer group"), ("transactionalId", "WRITE and DESCRIBE on the transactional id")],
)
def test_a_trainer_without_one_of_its_rights_is_told_which(place: Place, lacking: str, named: str) -> None:
    place.create_topics()
    place.grant(OPERATOR, [right for right in place.rights(TRAINER) if right.resource != lacking])
    access, topic = place.secured.access(OPERATOR), topic_name(MODEL_RELEASES, place.namespace)
    announcer = Announcer(access, topic, "trainer")
    turn = Turn(access, f"{place.namespace}.trainer", topic, "trainer")

    def announce_in_turn() -> None:
        turn.take(lambda: False)
        announcer.announce(turn, None, told("r1"))

    with closing(turn), pytest.raises(BrokerRefused, match=named):
        announce_in_turn()
    assert announcer.standing() is None


def test_one_who_only_produces_needs_write_on_the_texts_alone(place: Place) -> None:
    place.create_topics()
    topic = topic_name(USER_TEXT, place.namespace)
    place.grant(OPERATOR, [Right("Write", "topic", topic)])
    posts = place.directory / "posts.jsonl"
    posts.write_text('{"user_id": "ann", "text": "how is lambic brewed?"}\n')
    done = place.kindred("produce", str(posts))
    assert done.code == 0, done.said
    assert len(place.read(USER_TEXT)) == 1


def test_one_who_only_consumes_needs_read_on_the_answers_and_a_group(place: Place) -> None:
    place.grant(WORKER, place.rights(WORKERS))
    place.create_topics()
    topic = topic_name(RECOMMENDATIONS, place.namespace)
    place.grant(OPERATOR, [Right("Read", "topic", topic), Right("Read", "group", "shop")])
    worker = place.worker()
    place.send(event("ann", "how is lambic brewed?"))
    wait_for(lambda: len(place.read(RECOMMENDATIONS)) == 1, lambda: worker.said[-2000:], 60)
    consumer = kafka.KafkaConsumer(
        topic, **place.secured.access(OPERATOR).arguments(), group_id="shop", auto_offset_reset="earliest"
    )
    try:
        found: list[object] = []

        def polled() -> bool:
            found.extend(record for records in consumer.poll(500).values() for record in records)
            return bool(found)

        wait_for(polled, "the answer is read")
        consumer.commit()
    finally:
        consumer.close()
