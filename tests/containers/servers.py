"""Kafka and Redis from their official images, for the contract suites, through testcontainers.

Without Docker the test is skipped at home and fails in CI.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from ops import broker
from ops.errors import OpsError
from ops.stack.ports import HOST, claim
from schemas.access import KafkaAccess
from tests.broker_servers import APACHE, Abilities
from tests.builders import eventually
from tests.docker_engine import require_engine

# Every container below is removed by its `with`; testcontainers' reaper would be one more image to fetch.
testcontainers_config.ryuk_disabled = True

KAFKA: Final = "apache/kafka:4.1.1"
REDIS: Final = "redis:8"
START_S: Final = 90.0
CLIENTS: Final = 29092
"""Kafka's port inside the container for clients outside of it."""


class KafkaInContainer:
    """What tests/broker_servers.py does with a process, done with a container. It keeps its log when it is killed."""

    abilities: Abilities = APACHE

    def __init__(self, container: Any, port: int) -> None:
        self._container = container
        self.address = f"{HOST}:{port}"

    def start(self) -> None:
        """Returns when it answers; the engine's proxy takes connections before that."""
        self._container.start()
        eventually(self._answers, "Kafka answers", START_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._container.reload()
        if self._container.status == "running":
            self._container.kill()
            self._container.wait()

    def _answers(self) -> bool:
        try:
            with broker.admin(KafkaAccess(self.address)) as client:
                return bool(client.describe_cluster()["brokers"])
        except OpsError:
            return False


@contextmanager
def kafka_container() -> Iterator[KafkaInContainer]:
    """A running broker on a free port, removed at the end."""
    require_engine()
    port = claim(0, "kafka", set())
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"INSIDE://:9092,CONTROLLER://localhost:9093,HOST://:{CLIENTS}",
        # Fixed before the start, since a broker tells its clients where it is.
        "KAFKA_ADVERTISED_LISTENERS": f"INSIDE://localhost:9092,HOST://{HOST}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,HOST:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "2",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "2",
        # Records of tests are as old as a test wants them.
        "KAFKA_LOG_RETENTION_MS": "-1",
        "KAFKA_HEAP_OPTS": "-Xmx512m",
    }
    made = DockerContainer(KAFKA).with_envs(**settings).with_bind_ports(CLIENTS, port)
    with made as running:
        server = KafkaInContainer(running.get_wrapped_container(), port)
        server.start()
        yield server


@contextmanager
def redis_container() -> Iterator[str]:
    """The URL of a running server, removed at the end."""
    require_engine()
    with DockerContainer(REDIS).with_exposed_ports(6379) as running:
        url = f"redis://{running.get_container_host_ip()}:{running.get_exposed_port(6379)}/0"
        with redis.Redis.from_url(url) as client:
            eventually(lambda: _answers(client), "Redis answers", START_S)
        yield url


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
