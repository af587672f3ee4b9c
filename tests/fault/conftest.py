"""Servers of the fault tests: every test has its own broker and its own Redis 8, and ends every process it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fault.harness import Stack
from tests.fault.load import seed
from tests.redis_servers import redis_server

MakeStack = Callable[..., Stack]


@pytest.fixture
def number() -> int:
    """The seed of this test's load."""
    return seed()


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """A function that starts a stack. redis: options of the Redis server; the others are Stack's."""
    with ExitStack() as ends:

        def make(*, redis: tuple[str, ...] = (), **options: Any) -> Stack:
            server = ends.enter_context(redis_server("redis8", tmp_path / "redis", *redis))
            return ends.enter_context(Stack(tmp_path, server, **options))

        yield make


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    return make_stack()
