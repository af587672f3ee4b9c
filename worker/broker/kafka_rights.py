"""Before Kafka is used: does TLS work there, and has this worker every right that it will need?

kafka-python 3.0.12 waits for ever for the answer to a TLS greeting, and tells no reason: TLS is tried here first. A
missing right would show in many ways: an error, an empty answer, a topic that seems not to exist, or not before the
first dead letter is written. So all of them are asked for at once.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError

from model.kafka.client import translated
from schemas.access import KafkaAccess
from worker.broker.base import BrokerRefused, BrokerUnavailable

CONNECT_MS: Final = 5_000
"""Within it a broker that is there has said whether it lets a client in."""
NOT_ALLOWED: Final = 29
"""Kafka's code for a topic that one may not see."""

Rights = Mapping[str, Sequence[str]]
"""Topic → operations, as Kafka names them: READ, WRITE, DESCRIBE_CONFIGS."""


def check_tls(access: KafkaAccess) -> None:
    """Raises BrokerRefused where TLS fails at every address that answers, BrokerUnavailable where none does. Does
    nothing where TLS is not spoken."""
    if access.tls is None:
        return
    failures: dict[str, Exception] = {}
    for address in access.bootstrap.split(","):
        try:
            _greet(address.strip(), access.tls)
        except (OSError, ValueError, OverflowError) as error:
            failures[address] = error
        else:
            return
    said = "; ".join(f"{address}: {error}" for address, error in failures.items())
    if any(isinstance(error, ssl.SSLError) for error in failures.values()):
        raise BrokerRefused(
            f"TLS with Kafka fails at {said}; check that KINDRED_KAFKA_CA is the authority that signed the broker's "
            "certificate, that it holds the name in KINDRED_KAFKA_BOOTSTRAP, and that this listener speaks TLS "
            "(KINDRED_KAFKA_SECURITY)"
        )
    raise BrokerUnavailable(f"no TLS with Kafka at {said}")


def _greet(address: str, context: ssl.SSLContext) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with (
        socket.create_connection((host, int(port)), timeout=CONNECT_MS / 1000) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        pass


def check_rights(access: KafkaAccess, client_id: str, topics: Rights, group: str) -> None:
    """Raises BrokerRefused naming every right that is missing, as far as the broker tells them (one without an
    authorizer allows everything), and BrokerUnavailable."""
    check_tls(access)
    try:
        admin = KafkaAdminClient(**access.arguments(), client_id=client_id, bootstrap_timeout_ms=CONNECT_MS)
    except KafkaError as error:
        refused = translated(error, "first connection")
        if not isinstance(refused, BrokerUnavailable):
            raise refused from error
        raise BrokerUnavailable(
            f"{refused}; if it is up, does it speak {access.protocol} there (KINDRED_KAFKA_SECURITY)?"
        ) from error
    try:
        missing = [
            f"{operation.title().replace('_', '')} on topic {described['name']}"
            for described in admin.describe_topics(list(topics))
            for operation in _lacking(described, topics[described["name"]])
        ]
        try:
            admin.list_group_offsets({group: None})
        except AuthorizationError:
            missing.append(f"Read on group {group}")
    except KafkaError as error:
        raise translated(error, "rights") from error
    finally:
        admin.close()
    if missing:
        raise BrokerRefused(
            f"Kafka at {access.bootstrap} does not allow {access.user or 'this client'}: {', '.join(missing)}; "
            "grant it, docs/security.md lists the ACLs a worker needs"
        )


def _lacking(described: Mapping[str, object], wanted: Sequence[str]) -> list[str]:
    if described["error_code"] == NOT_ALLOWED:
        return list(wanted)
    allowed = described.get("authorized_operations")
    # What is not told, or of a topic that is not there, shows when it is used.
    return [] if described["error_code"] or not isinstance(allowed, list) else [o for o in wanted if o not in allowed]
