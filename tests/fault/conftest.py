"""Servers of the fault tests: every test has its own Redis 8, and ends every process it made.

A broker that takes seconds to start, and keeps its log when it is killed, is shared: each stack has its own topics.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.broker_servers import ABILITIES, KIND, broker_server
from tests.fault.gate import Gate
from tests.fault.harness import Stack
from tests.fault.load import seed
from tests.fault.tally import tally as tally
from tests.redis_servers import redis_server

MakeStack = Callable[..., Stack]


@pytest.fixture
def number() -> int:
    """The seed of this test's load."""
    return seed()


@pytest.fixture
def make_stack(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeStack]:
    """A function that starts a stack. redis: options of the Redis server. gated: clients reach the broker, then one of
    the stack's own, through a gate. The others are Stack's."""
    with ExitStack() as ends:

        def make(*, redis: tuple[str, ...] = (), gated: bool = False, **options: Any) -> Stack:
            server = ends.enter_context(redis_server("redis8", tmp_path / "redis", *redis))
            gate = Gate() if gated else None
            if gate is None and ABILITIES[KIND].keeps_log:
                broker = request.getfixturevalue("lasting_broker")
            else:
                broker = ends.enter_context(broker_server(tmp_path, advertised=None if gate is None else gate.address))
            if gate is not None:
                gate.serve(broker.port)
            sys.stdout.write(f"broker log: {broker.log}\n")
            return ends.enter_context(Stack(tmp_path, server, broker, gate=gate, **options))

        yield make


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    return make_stack()
