"""One broker, one Redis 8, any number of workers, and what a fault test asks of them.

A stack belongs to one test; the broker may be shared, so that a stack has topics and a group of its own, and mends
what it did to the broker. Waiting is always for a condition within a deadline.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import KafkaError

from schemas.topics import RECOMMENDATIONS, TOPICS, USER_TEXT, Topic, topic_name
from tests.broker_servers import ABILITIES, KIND, BrokerServer
from tests.fault.gate import FREE, Gate
from tests.fault.load import Sending
from tests.fault.processes import WorkerProcess, wait_for
from tests.redis_servers import RedisServer
from worker.broker.base import Record
from worker.store.redis import RedisStore

PARTITIONS: Final = 4
JOIN_S: Final = 60.0
"""The embedded broker takes 5 s for a group's first member, 7 to 10 s for a later change, and after a SIGKILL the
session timeout besides."""
DONE_S: Final = 120.0
IN_SLOTS: Final = str(ABILITIES[KIND].keeps_slots).lower()
"""Value of KINDRED_STATIC_MEMBERSHIP where a worker that is started again shall have its partitions back, if it can."""

SETTINGS: Final = {
    "KINDRED_ENCODER": "dummy",
    "KINDRED_SESSION_TIMEOUT_MS": "6000",
    # Small batches: many are under way at every moment, and a count of batches says where in the log a worker stands.
    "KINDRED_BATCH_MAX_EVENTS": "16",
    "KINDRED_REFRESH_SECONDS": "0.5",
    "KINDRED_RETRY_MAX_SECONDS": "0.5",
}


class Stack:
    """broker: running. settings: KINDRED_ variables of every worker, over SETTINGS. gate: through which clients reach
    the broker, if they do. copies: of every record, on as many brokers."""

    def __init__(
        self,
        directory: Path,
        server: RedisServer,
        broker: BrokerServer,
        settings: Mapping[str, str] | None = None,
        partitions: int = PARTITIONS,
        gate: Gate | None = None,
        copies: int = 1,
    ) -> None:
        self.directory = directory
        self.redis = server
        self.broker = broker
        self.gate = gate
        self.namespace = f"fault-{uuid4().hex[:8]}"
        self.group = f"{self.namespace}-group"
        self.workers: list[WorkerProcess] = []
        self._partitions = partitions
        self._copies = copies
        self._settings = {**SETTINGS, **(settings or {})}
        self._clients: dict[str, Any] = {}
        self.ends: dict[int, int] = dict.fromkeys(range(partitions), 0)
        """Partition of `user-text` → the offset after its last record, as the broker acknowledged it."""

    def __enter__(self) -> Stack:
        try:
            self._make_log()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker; leave the broker running, without this stack's topics."""
        self.kill_all()
        self.broker.mend()
        if self.gate is not None:
            self.gate.release()
        if self.broker.abilities.keeps_log:
            self.admin.delete_topics([topic_name(topic, self.namespace) for topic in TOPICS])
        self.close_clients()
        if self.gate is not None:
            self.gate.close()

    # The broker.

    def kill_broker(self) -> None:
        self.close_clients()
        self.broker.kill()

    def start_broker(self) -> None:
        """After `kill_broker`, on the same port: a broker that keeps its log has it again, another has empty topics."""
        self.broker.start()
        if not self.broker.abilities.keeps_log:
            self._make_log()

    def lose_log(self) -> None:
        """From now on the topics of the same names are others, and empty."""
        if self.broker.abilities.keeps_log:
            self.admin.delete_topics([topic_name(topic, self.namespace) for topic in TOPICS])
            self._make_log()
        else:
            self.kill_broker()
            self.start_broker()

    def _make_log(self) -> None:
        self.ends = dict.fromkeys(self.ends, 0)
        counts = {USER_TEXT.name: self._partitions, RECOMMENDATIONS.name: 2}
        self.admin.create_topics(
            [NewTopic(topic_name(topic, self.namespace), counts.get(topic.name, 1), self._copies) for topic in TOPICS],
            wait_for_metadata=True,
        )

    def add_partitions(self, count: int) -> None:
        """From now on `user-text` has so many."""
        topic = topic_name(USER_TEXT, self.namespace)
        self.admin.create_partitions({topic: NewPartitions(count)})
        wait_for(lambda: len(self.admin.describe_topics([topic])[0]["partitions"]) == count, "they are there")
        producer = self._clients.pop("producer", None)
        if producer is not None:
            producer.close()  # it would not hear of them for minutes
        self.ends.update(dict.fromkeys(range(self._partitions, count), 0))
        self._partitions = count

    def close_clients(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    # Workers.

    def worker(self, *, fail_point: str | None = None, **settings: str) -> WorkerProcess:
        """A new worker, started. settings: lower-case names without KINDRED_."""
        name = f"worker-{len(self.workers)}"
        given = {f"KINDRED_{key.upper()}": value for key, value in settings.items()}
        if fail_point is not None:
            given["KINDRED_FAIL_POINT"] = fail_point
        places = {
            "KINDRED_NAME": name,
            "KINDRED_NAMESPACE": self.namespace,
            "KINDRED_GROUP": self.group,
            "KINDRED_KAFKA_BOOTSTRAP": self.broker.address,
            "KINDRED_REDIS_URL": self.redis.url,
            "KINDRED_RELEASES": str(self.directory / "releases"),
            "KINDRED_CACHE": str(self.directory / "cache"),
        }
        worker = WorkerProcess(name, self.directory, {**places, **self._settings, **given})
        self.workers.append(worker)
        worker.start()
        return worker

    def restart(self, worker: WorkerProcess, *, fail_point: str | None = None) -> None:
        """Start a worker that has ended once more, in its slot, as a supervisor would."""
        settings = {name: value for name, value in worker.settings.items() if name != "KINDRED_FAIL_POINT"}
        worker.settings = settings if fail_point is None else {**settings, "KINDRED_FAIL_POINT": fail_point}
        worker.start()

    def wait_ready(self, *workers: WorkerProcess) -> None:
        for worker in workers or self.workers:
            wait_for(worker.ready, lambda: f"all are ready{self._tails()}", JOIN_S)

    def kill_all(self) -> None:
        for worker in self.workers:
            worker.kill()

    # The log.

    def produce(self, sendings: Iterable[Sending]) -> None:
        """Returns when the broker has them all."""
        topic = topic_name(USER_TEXT, self.namespace)
        futures = [
            self._producer.send(
                topic,
                key=each.key,
                value=each.value,
                partition=each.partition,
                timestamp_ms=each.timestamp_ms,
                headers=each.headers,
            )
            for each in sendings
        ]
        self._producer.flush()
        for future in futures:
            sent = future.get(timeout=30)
            self.ends[sent.partition] = sent.offset + 1

    def send(self, topic: Topic, key: bytes, value: bytes) -> None:
        """One record into another topic than `user-text`. Returns when the broker has it."""
        self._producer.send(topic_name(topic, self.namespace), key=key, value=value).get(timeout=30)

    def records(self, topic: Topic) -> list[Record]:
        """A whole topic, partition after partition in offset order."""
        consumer = KafkaConsumer(bootstrap_servers=self.broker.address, isolation_level="read_committed")
        try:
            name = topic_name(topic, self.namespace)
            places = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            found: list[Record] = []

            def read_on() -> bool:
                for records in consumer.poll(timeout_ms=100, max_records=5000).values():
                    found.extend(
                        Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records
                    )
                # The end as an answer with records tells it: the embedded broker names it wrongly when it is asked.
                ends = [consumer.highwater(place) for place in places]
                return all(
                    end is not None and consumer.position(place) >= end for place, end in zip(places, ends, strict=True)
                )

            wait_for(read_on, f"{name} is read to its end")
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def committed(self) -> dict[int, int]:
        """Partition → committed offset of the group, 0 where there is none. Waits for a coordinator that is away."""
        found: dict[TopicPartition, Any] = {}

        def answered() -> bool:
            try:
                found.update(self.admin.list_group_offsets({self.group: None})[self.group])
            except KafkaError:
                # The broker makes its first one just now; or it has moved, which this client would not notice.
                with suppress(KafkaError):
                    self._clients.pop("admin").close()
                return False
            return True

        wait_for(answered, f"the coordinator of {self.group} answers", JOIN_S)
        marks = {place.partition: max(0, int(mark.offset)) for place, mark in found.items()}
        return {number: marks.get(number, 0) for number in range(self._partitions)}

    def wait_committed(self, count: int, seconds: float = JOIN_S) -> None:
        """Until the group has committed at least so many records, over all partitions."""
        wait_for(
            lambda: sum(self.committed().values()) >= count,
            lambda: f"{count} records are committed{self._tails()}",
            seconds,
        )

    def wait_done(self, except_for: Sequence[int] = (), seconds: float = DONE_S) -> None:
        """Until every record is committed (but for partitions that are paused on purpose)."""
        ends = {number: end for number, end in self.ends.items() if number not in except_for}

        def done() -> bool:
            if all(mark >= ends.get(number, 0) for number, mark in self.committed().items()):
                return True
            if not any(worker.alive for worker in self.workers):
                pytest.fail(f"no worker is left that could do it{self._tails()}")
            return False

        wait_for(
            done,
            lambda: f"everything up to {ends} is committed, it is {self.committed()}{self._tails()}",
            seconds,
        )

    def _tails(self) -> str:
        """The ends of all workers' logs."""
        return "".join(f"\n--- {worker.log}\n{worker.said[-1500:]}" for worker in self.workers if worker.process)

    # Redis.

    def freeze_redis(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self.redis.process is not None
        self.redis.process.send_signal(signal.SIGSTOP)

    def wake_redis(self) -> None:
        assert self.redis.process is not None
        self.redis.process.send_signal(signal.SIGCONT)

    def redis_client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url)

    def store(self, space: str, shards: int = 4) -> RedisStore:
        return RedisStore.connect(
            self.redis.url, namespace=self.namespace, space=space, shards=shards, user_ttl_ms=None
        )

    # Clients.

    @property
    def admin(self) -> Any:
        return self._client("admin", lambda: KafkaAdminClient(bootstrap_servers=self.broker.address))

    @property
    def _producer(self) -> Any:
        return self._client(
            "producer", lambda: KafkaProducer(bootstrap_servers=self.broker.address, client_id=FREE, linger_ms=2)
        )

    def _client(self, name: str, make: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = make()
        return self._clients[name]
