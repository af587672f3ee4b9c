"""What the supervisor asks of broker and Redis: do they answer, empty this, create those."""

from __future__ import annotations

import redis

from ops import broker
from ops.stack import ports
from ops.stack.programs import REDIS, Program
from schemas.access import KafkaAccess


def answers(program: Program, redis_url: str) -> bool:
    """Is it ready for clients?"""
    if program.name != REDIS:
        return ports.answers(program.port)
    client = redis.Redis.from_url(redis_url, socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return bool(client.ping())
    except redis.RedisError:  # also "loading": it is still reading its append-only file
        return False
    finally:
        client.close()


def empty_redis(redis_url: str) -> bool:
    """Remove every key; True when there was any."""
    client = redis.Redis.from_url(redis_url, socket_timeout=30.0)
    try:
        if not client.dbsize():
            return False
        client.flushall()
        return True
    finally:
        client.close()


def create_topics(kafka: str, namespace: str) -> None:
    """Create the topics that are missing. Raises Unreachable."""
    broker.create_topics(KafkaAccess(kafka), namespace)
