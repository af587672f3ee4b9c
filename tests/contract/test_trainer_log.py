"""What step 1 relies on of a log (trainer/read.py), on each broker, and the whole step on a real one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import uuid4

import kafka
import pytest

from model.kafka.base import Bounds, BrokerUnavailable, Record
from schemas.access import KafkaAccess
from schemas.codec import encode
from tests.broker_servers import KIND, BrokerServer, broker_server
from tests.brokers import KafkaBackend, backend_of
from tests.windows import NOW_MS, held_events, key_of
from trainer.log import KafkaLog
from trainer.read import Reach, read_window
from trainer.window import Stretch, Window

pytestmark = [
    getattr(pytest.mark, KIND),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # see tests/brokers.py
]

PATIENCE: Final = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServer]:
    with broker_server(tmp_path_factory.mktemp("broker")) as made:
        yield made


@pytest.fixture(scope="module")
def broker(server: BrokerServer) -> Iterator[KafkaBackend]:
    with backend_of(server) as backend:
        yield backend


@pytest.fixture(scope="module")
def topic(broker: KafkaBackend) -> str:
    """Three partitions: five records in the first (timestamps 1000 to 5000), two in the second, none in the third."""
    name = broker.topic(3)
    broker.write(name, [b"0", b"1", None, b"3", b"4"])
    broker.write(name, [b"a", b"b"], partition=1)
    return name


def log_of(server: BrokerServer, topic: str) -> KafkaLog:
    return KafkaLog(access=KafkaAccess(server.address), topic=topic, client_id="contract")


@pytest.fixture(scope="module")
def log(server: BrokerServer, topic: str) -> Iterator[KafkaLog]:
    with closing(log_of(server, topic)) as made:
        yield made


@pytest.fixture
def missing(server: BrokerServer) -> Iterator[KafkaLog]:
    with closing(log_of(server, uuid4().hex)) as made:
        yield made


def read(log: KafkaLog, starts: Mapping[int, int], stops: Mapping[int, int]) -> list[Record]:
    return [record for piece in log.read(starts, stops) for record in piece.records]


def test_a_topic_has_an_id_of_its_own(server: BrokerServer, broker: KafkaBackend, log: KafkaLog) -> None:
    with closing(log_of(server, broker.topic())) as other:
        assert log.topic_id() == log.topic_id() != other.topic_id()


def test_a_topic_that_does_not_exist_has_nothing_and_is_not_made(missing: KafkaLog) -> None:
    assert missing.topic_id() is None
    assert missing.bounds() == {}
    assert missing.offsets_at(1000) == {}
    assert list(missing.read({}, {})) == []
    assert missing.topic_id() is None


def test_bounds_are_the_first_offset_and_the_one_after_the_last(log: KafkaLog) -> None:
    assert log.bounds() == {0: Bounds(0, 5), 1: Bounds(0, 2), 2: Bounds(0, 0)}


def test_the_end_is_that_of_the_last_batch(server: BrokerServer, broker: KafkaBackend) -> None:
    name = broker.topic()
    producer = kafka.KafkaProducer(bootstrap_servers=server.address, linger_ms=200, batch_size=1 << 20)
    for number in range(1_500):
        producer.send(name, b"%d" % number)
    producer.flush(PATIENCE)
    producer.close()
    with closing(log_of(server, name)) as made:
        assert made.bounds() == {0: Bounds(0, 1_500)}
        assert [record.value for record in read(made, {0: 1_490}, {0: 1_500})] == [
            b"%d" % n for n in range(1_490, 1_500)
        ]


def test_records_come_with_all_that_they_hold_up_to_the_stop(log: KafkaLog, topic: str) -> None:
    found = read(log, {0: 1, 1: 0, 2: 0}, {0: 4, 1: 1, 2: 0})
    assert {(r.partition, r.offset): (r.timestamp, r.value) for r in found} == {
        (0, 1): (2000, b"1"),
        (0, 2): (3000, None),
        (0, 3): (4000, b"3"),
        (1, 0): (1000, b"a"),
    }
    assert {(r.topic, r.key, tuple(r.headers)) for r in found} == {(topic, b"key", (("name", b"1"),))}
    assert [r.offset for r in found if r.partition == 0] == [1, 2, 3]


def test_the_same_log_may_be_read_again_from_anywhere(log: KafkaLog) -> None:
    for start in (4, 0, 2):
        assert [r.offset for r in read(log, {0: start}, {0: 5})] == list(range(start, 5))


def test_the_last_piece_reaches_every_stop(log: KafkaLog) -> None:
    reached: dict[int, int] = {}
    for piece in log.read({0: 0, 1: 0}, {0: 5, 1: 2}):
        reached |= piece.reached
    assert reached == {0: 5, 1: 2}


def test_pieces_are_bounded_and_lose_nothing(
    server: BrokerServer, broker: KafkaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.log.PIECE", 7)
    name = broker.topic(2)
    for partition in range(2):
        broker.write(name, [b"%d" % number for number in range(50)], partition=partition)
    with closing(log_of(server, name)) as made:
        pieces = list(made.read({0: 0, 1: 0}, {0: 50, 1: 50}))
    assert max(len(piece.records) for piece in pieces) <= 7
    for partition in range(2):
        offsets = [r.offset for piece in pieces for r in piece.records if r.partition == partition]
        assert offsets == list(range(50))


def test_offsets_are_found_by_time(broker: KafkaBackend, log: KafkaLog) -> None:
    if broker.abilities.finds_by_own_time:
        assert log.offsets_at(2000) == {0: 1, 1: 1, 2: 0}
    assert log.offsets_at(10**14) == {0: 5, 1: 2, 2: 0}


def test_a_header_that_cannot_be_read_stops_nobody(server: BrokerServer, broker: KafkaBackend) -> None:
    name = broker.topic()
    broker.write_unreadable_header(name)
    broker.write(name, [b"after"])
    with closing(log_of(server, name)) as made:
        assert [r.value for r in read(made, {0: 0}, {0: 2})] == [b"odd", b"after"]


def test_what_never_comes_is_an_error_that_may_pass(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.log.STALL_S", 0.5)
    with pytest.raises(BrokerUnavailable, match=r"nothing came of \[2\]"):
        read(log, {2: 0}, {2: 5})


@pytest.mark.needs("isolates_transactions")
def test_an_open_transaction_ends_the_window_and_an_aborted_one_is_passed_over(
    server: BrokerServer, broker: KafkaBackend
) -> None:
    name = broker.topic()
    producer = kafka.KafkaProducer(bootstrap_servers=server.address, transactional_id=uuid4().hex)
    producer.init_transactions()

    def begin(value: bytes) -> None:
        producer.begin_transaction()
        producer.send(name, value).get(PATIENCE)

    with closing(log_of(server, name)) as made:
        begin(b"committed")
        producer.commit_transaction()
        begin(b"aborted")
        producer.abort_transaction()
        assert made.bounds() == {0: Bounds(0, 4)}
        begin(b"open")
        assert made.bounds() == {0: Bounds(0, 4)}
        pieces = list(made.read({0: 0}, {0: 4}))
        producer.abort_transaction()
    producer.close()
    assert [r.value for piece in pieces for r in piece.records] == [b"committed"]
    assert pieces[-1].reached == {0: 4}


def test_the_window_of_a_real_log(server: BrokerServer, broker: KafkaBackend, tmp_path: Path) -> None:
    texts, items = broker.topic(2), broker.topic(compacted=True)
    producer = kafka.KafkaProducer(bootstrap_servers=server.address)

    def write(user: str, text: str | None, partition: int) -> None:
        value = None if text is None else encode({"user_id": user, "text": text})
        producer.send(texts, value, user.encode(), partition=partition, timestamp_ms=NOW_MS).get(PATIENCE)

    for number in range(30):
        write(f"user {number % 3}", f"text {number}", number % 3 % 2)
    write("user 0", None, 0)
    producer.send(items, encode({"item_id": "boat", "title": "Boat"}), b"boat").get(PATIENCE)
    with (
        closing(log_of(server, texts)) as text_log,
        closing(log_of(server, items)) as item_log,
        Window(tmp_path / "window.sqlite") as window,
    ):

        def fill() -> None:
            read_window(window, text_log, item_log, secret=b"secret", reach=Reach(), now_ms=int(time.time() * 1000))

        fill()
        assert {user for user, _ in held_events(window).values()} == {key_of("user 1"), key_of("user 2")}
        assert window.stretches() == {0: Stretch(0, 21, 21), 1: Stretch(0, 10, 10)}
        assert window.counts() == {"read": 31, "events": 20, "erased": 10, "tombstone": 1}
        assert list(window.rows("SELECT item FROM listings")) == [("boat",)]
        write("user 1", "later", 1)
        fill()
        assert window.counts()["events"] == 21
    producer.close()
