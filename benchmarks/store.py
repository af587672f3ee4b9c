"""How fast the store saves, loads and follows the feed, and what a user costs in Redis: `python -m benchmarks.store`.

Throw-away servers, states of full size (all items, labels, event ids, K = 3), one thread, no model and no update: what
remains is packing, Redis and unpacking. Each figure is the median over the rounds; bytes are MEMORY USAGE of a user's
key. The two costs of a save in CPU time stay true on a busy machine, where rates do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args
from uuid import uuid4

import numpy as np
import psutil
import redis
from rich.console import Console
from rich.table import Table

from model.users import UserWrite, user_key
from schemas.state import MAX_EVENT_IDS, MAX_ITEMS, MAX_LABELS, UserState, pack_position, pack_state
from tests.redis_servers import Kind, RedisServer, redis_server
from worker.store.base import Watermarks, Write
from worker.store.keys import ShardKeys, shard_of_user
from worker.store.redis import RedisStore

DIMENSION: Final = 384
SHARDS: Final = 4
SPACE: Final = "b" * 40
ITEMS: Final = 20_000
TTL_MS: Final = 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """Users a second; microseconds of CPU that saving a known user costs each side; bytes a user."""

    server: str
    batch: int
    save_new: float
    save_known: float
    load: float
    snapshot: float
    changes: float
    save_client_us: float
    save_server_us: float
    bytes_a_user: float


def full_state(rng: np.random.Generator) -> bytes:
    """A packed state as large as one gets at K = 3."""

    def hashes(n: int) -> tuple[int, ...]:
        return tuple(int(number) for number in rng.integers(0, 2**64, n, np.uint64))

    state = UserState(
        vector=rng.standard_normal(DIMENSION).astype(np.float16),
        weight=3.0,
        count=99,
        first=((0, 1), (1, 2), (2, 3)),
        items=hashes(MAX_ITEMS),
        labels=dict.fromkeys(hashes(MAX_LABELS), 1.0),
        event_ids=hashes(MAX_EVENT_IDS),
    )
    return pack_state(state)


def batches(users: int, size: int, states: Sequence[bytes], offset: int) -> list[list[UserWrite]]:
    """Each user with one event: an item that entered, its popularity, two labels."""
    expected = pack_position({0: offset - 1}) if offset else b""
    writes = [
        UserWrite(
            user_key(f"user {n}", b"benchmark"), expected, pack_position({0: offset}), states[n % len(states)],
            (n * 7919 % ITEMS,), (), ((n * 7919 % ITEMS, 3.0),), ((n % 97, 1.0), (100 + n % 13, 1.0)),
        )
        for n in range(users)
    ]  # fmt: skip
    return [writes[start : start + size] for start in range(0, users, size)]


def rate(users: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return users / (time.perf_counter() - started)


def measure(kind: Kind, users: int, size: int, rounds: int) -> Figures:
    rng = np.random.default_rng(0)
    states = [full_state(rng) for _ in range(256)]
    with tempfile.TemporaryDirectory() as directory, redis_server(kind, Path(directory)) as server:
        found = [measure_once(server, users, size, states) for _ in range(rounds)]
    return Figures(kind, size, *(statistics.median(column) for column in zip(*found, strict=True)))


def measure_once(server: RedisServer, users: int, size: int, states: Sequence[bytes]) -> tuple[float, ...]:
    url, namespace = server.url, uuid4().hex
    process = psutil.Process(server.process.pid if server.process else None)
    store, reader = (
        RedisStore.connect(url, namespace=namespace, space=SPACE, shards=SHARDS, user_ttl_ms=TTL_MS) for _ in range(2)
    )
    left: Watermarks = [{} for _ in range(SHARDS)]

    def server_cpu() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def save(offset: int) -> tuple[float, float, float]:
        made = batches(users, size, states, offset)

        def work() -> None:
            for piece in made:
                assert store.save(Write({0: offset + 1}, left, piece)) == set()

        here, there = time.process_time(), server_cpu()
        speed = rate(users, work)
        return speed, (time.process_time() - here) / users * 1e6, (server_cpu() - there) / users * 1e6

    save_new, *_ = save(0)
    save_known, client_us, server_us = save(1)
    keys = [write.user for piece in batches(users, size, states, 0) for write in piece]
    load = rate(users, lambda: [store.load(keys[start : start + size]) for start in range(0, users, size)])
    snapshot = rate(users, lambda: list(reader.snapshot()))
    changes = rate(users, lambda: reader.changes((0.0,) * SHARDS))
    with redis.Redis.from_url(url) as client:
        shard = ShardKeys.of(namespace, SPACE, shard_of_user(keys[0], SHARDS))
        bytes_a_user = client.memory_usage(shard.user + keys[0].hex().encode())
        client.flushall()
    store.close()
    reader.close()
    return save_new, save_known, load, snapshot, changes, client_us, server_us, float(bytes_a_user or 0)


def table(figures: Sequence[Figures]) -> Table:
    shown = Table(title=f"Store: users a second, {DIMENSION} dimensions, {SHARDS} shards")
    for column in (
        "server",
        "batch",
        "save new",
        "save known",
        "load",
        "snapshot",
        "changes",
        "client µs",
        "server µs",
        "bytes",
    ):
        shown.add_column(column, justify="left" if column == "server" else "right")
    for row in figures:
        speeds = row.save_new, row.save_known, row.load, row.snapshot, row.changes
        costs = row.save_client_us, row.save_server_us
        shown.add_row(
            row.server, str(row.batch), *(f"{n:,.0f}" for n in speeds), *(f"{n:.1f}" for n in costs),
            f"{row.bytes_a_user:,.0f}",
        )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 500], help="users in a save or load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=get_args(Kind), nargs="+", default=list(get_args(Kind)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = [measure(kind, options.users, size, options.rounds) for kind in options.server for size in options.batch]
    if options.json:
        print(json.dumps([{name: getattr(row, name) for name in Figures.__slots__} for row in figures], indent=1))
    else:
        Console(width=120).print(table(figures))


if __name__ == "__main__":
    main()
