"""The worker end to end: `python -m benchmarks.worker`.

1. Through broker and Redis ÷ its encoder alone on the same texts, in turns, with the shares of the steps. The posts
   come in their own order, K = 3, with synthetic donors loaded, so that about half of the events are answered.
2. The same with the dummy encoder: what everything but encoding costs.
3. Memory of a worker at a million synthetic users beside that at 200,000, with the index at its byte budget.

Broker, Redis, worker and producer share the machine's cores, as they do for whoever tries Kindred on one machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from kafka import KafkaProducer
from rich.console import Console
from rich.table import Table

from model.clean import clean
from model.encoder.base import Encoder
from model.encoder.load import load_encoder
from model.item_table import ItemEntry
from model.users import UserWrite
from ops import broker
from ops.stack import ports, programs
from schemas.access import KafkaAccess
from schemas.settings import ConnectionSettings
from schemas.state import UserState, hash64, pack_position, pack_state
from worker.store.base import Write
from worker.store.redis import RedisStore

POSTS = Path("ops/demo/stackexchange.jsonl.gz")
DONORS = 10_000
DAY_MS = 86_400_000


def posts() -> list[dict[str, Any]]:
    with gzip.open(POSTS) as lines:
        return [json.loads(line) for line in lines]


@dataclass(frozen=True, slots=True)
class Servers:
    kafka: str
    redis: str
    directory: Path


@contextmanager
def servers() -> Iterator[Servers]:
    """An embedded broker and Redis of this run alone."""
    with tempfile.TemporaryDirectory() as directory:
        started, taken = [], set[int]()
        try:
            kafka = programs.broker(ports.claim(0, "a benchmark", taken))
            redis = programs.redis(ports.claim(0, "a benchmark", taken), Path(directory))
            for program in (kafka, redis):
                quiet = subprocess.DEVNULL
                started.append(subprocess.Popen(program.arguments, stdout=quiet, stderr=quiet))
                until(lambda port=program.port: ports.answers(port), 20)
            address = f"{ports.HOST}:{kafka.port}"
            broker.create_topics(KafkaAccess(address), "")
            yield Servers(address, f"redis://{ports.HOST}:{redis.port}/0", Path(directory))
        finally:
            for process in reversed(started):
                process.kill()
                process.wait()


@contextmanager
def worker(where: Servers, encoder: str, **settings: str) -> Iterator[tuple[psutil.Process, str]]:
    """A worker process that is ready; gives it and the address of its metrics."""
    port = ports.claim(0, "a benchmark", set())
    environment = os.environ | {
        "KINDRED_KAFKA_BOOTSTRAP": where.kafka,
        "KINDRED_REDIS_URL": where.redis,
        "KINDRED_ENCODER": encoder,
        "KINDRED_RELEASES": str(where.directory / "releases"),
        "KINDRED_METRICS_PORT": str(port),
        **settings,
    }
    log = (where.directory / "worker.log").open("ab")
    process = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stderr=log)
    address = f"http://{ports.HOST}:{port}"
    try:
        until(lambda: _ready(address) or process.poll() is not None, 180)
        if process.poll() is not None:
            raise SystemExit((where.directory / "worker.log").read_text()[-2000:])
        yield psutil.Process(process.pid), address
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def load_donors(
    where: Servers, encoder: Encoder, count: int, items: Sequence[dict[str, Any]], piece: int = 2000
) -> None:
    """Synthetic known users straight into the store: random directions, three of the posts' items each."""
    store = RedisStore.connect(where.redis, namespace="", space=encoder.space, shards=4, user_ttl_ms=365 * DAY_MS)
    draw = np.random.default_rng(7)
    now = int(time.time() * 1000)
    names = {hash64(row["item_id"]): row for row in items}
    hashes = list(names)
    entries = [ItemEntry(item, row["item_id"], row["item_title"]) for item, row in names.items()]
    for start in range(0, count, piece):
        writes = []
        for number in range(start, min(count, start + piece)):
            vector = draw.standard_normal(encoder.dimension)
            held = tuple(hashes[i] for i in draw.choice(len(hashes), 3, replace=False))
            state = UserState((vector / np.linalg.norm(vector)).astype(np.float16), 1.0, now, now, 4, (), held, {}, ())
            key = b"bench" + number.to_bytes(11, "little")
            writes.append(UserWrite(key, b"", pack_position({0: 0}), pack_state(state), entered=held))
        store.save(Write({}, [{}] * 4, writes, entries))
        entries = []
    store.close()


def produce(where: Servers, rows: Sequence[dict[str, Any]], prefix: str = "", *, topic: str = "user-text") -> None:
    producer = KafkaProducer(bootstrap_servers=where.kafka, linger_ms=5, batch_size=1 << 18)
    for row in rows:
        user = prefix + row["user_id"]
        fields = {name: row[name] for name in ("text", "item_id", "item_title", "labels")}
        value = json.dumps({"user_id": user, "occurred_at": row["ts"], **fields}).encode()
        producer.send(topic, key=user.encode(), value=value)
    producer.close()


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def applied(address: str) -> float:
    return scrape(address)["kindred_events_applied_total"]


def committed(address: str) -> float:
    return scrape(address).get('kindred_stage_seconds_count{step="commit"}', 0.0)


def end_to_end(encoder_name: str, rounds: int, size: int) -> dict[str, Any]:
    """Rounds of `size` posts: encoder alone, then the worker, in turns."""
    rows = posts()
    with servers() as where:
        encoder = load_encoder(encoder_name, cache=ConnectionSettings().cache)
        load_donors(where, encoder, DONORS, rows)
        alone, through = [], []
        with worker(where, encoder_name) as (_, address):
            produce(where, rows[:size], "warm-")
            until(lambda: applied(address) >= size, 300)
            before = scrape(address)
            for number in range(rounds):
                piece = rows[size * number : size * (number + 1)]
                texts = [clean(row["text"]) for row in piece]
                started = time.perf_counter()
                for start in range(0, len(texts), 128):
                    encoder.encode(encoder.tokenise(texts[start : start + 128]))
                alone.append(len(piece) / (time.perf_counter() - started))
                goal = applied(address) + len(piece)
                started = time.perf_counter()
                produce(where, piece)
                until(lambda goal=goal: applied(address) >= goal, 600)
                through.append(len(piece) / (time.perf_counter() - started))
            after = scrape(address)
    return {
        "encoder": encoder_name,
        "backend": encoder.backend,
        "posts": rounds * size,
        "answered": _change(before, after, "kindred_recommendation_seconds_count") / (rounds * size),
        "encoder_alone_per_s": median(alone),
        "end_to_end_per_s": median(through),
        "ratio": median(t / a for t, a in zip(through, alone, strict=True)),
        "ratios": [t / a for t, a in zip(through, alone, strict=True)],
        "step_shares": _shares(before, after),
    }


def dummy(events: int) -> dict[str, Any]:
    """The log is full before the worker starts; counted from its first saved batch on."""
    rows = posts()
    with servers() as where:
        encoder = load_encoder("dummy", cache=ConnectionSettings().cache)
        load_donors(where, encoder, DONORS, rows)
        for copy in range(-(-events // len(rows))):
            produce(where, rows[: events - copy * len(rows)], f"{copy}-" if copy else "")
        with worker(where, "dummy", KINDRED_BATCH_MAX_EVENTS="512", KINDRED_BATCH_MAX_TOKENS="65536") as (
            process,
            address,
        ):
            until(lambda: applied(address) > 0, 60)
            started, first, before = time.perf_counter(), applied(address), scrape(address)
            cpu = sum(process.cpu_times()[:2])
            until(lambda: applied(address) >= events, 600)
            seconds = time.perf_counter() - started
            cpu = sum(process.cpu_times()[:2]) - cpu
            after = scrape(address)
    return {
        "events": events,
        "events_per_s": (events - first) / seconds,
        "answered": _change(before, after, "kindred_recommendation_seconds_count") / max(1, events - first),
        "cpu_us_per_event": 1e6 * cpu / (events - first),
        "step_shares": _shares(before, after),
    }


def memory(sizes: Sequence[int], budget: int) -> dict[str, Any]:
    """RSS of a worker whose store holds so many users, the index at its byte budget."""
    rows = posts()
    found: dict[str, Any] = {"budget_bytes": budget}
    for users in sizes:
        with servers() as where:
            encoder = load_encoder("dummy-384", cache=ConnectionSettings().cache)
            load_donors(where, encoder, users, rows)
            with worker(where, "dummy-384", KINDRED_INDEX_BYTES=str(budget)) as (process, address):
                produce(where, rows[:2000])
                until(lambda: applied(address) >= 2000, 120)
                figures = scrape(address)
                found[str(users)] = {
                    "rss_bytes": process.memory_info().rss,
                    "donors": figures["kindred_donors"],
                    "index_bytes": figures["kindred_index_bytes"],
                }
    first, last = (found[str(size)]["rss_bytes"] for size in (sizes[0], sizes[-1]))
    return found | {"ratio": last / first}


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened for {seconds} s")
        time.sleep(0.1)  # being scraped costs the worker some milliseconds


def _change(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def _shares(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Each step's part of the time in steps 4 to 8 (they overlap: this is where the work is, not where time goes)."""
    steps = ("encode", "update", "save", "answer", "publish", "commit")
    seconds = {s: _change(before, after, f'kindred_stage_seconds_sum{{step="{s}"}}') for s in steps}
    whole = sum(seconds.values()) or 1.0
    return {step: spent / whole for step, spent in seconds.items()}


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name} {_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_in_words, value))
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["end-to-end", "dummy", "memory"], action="append")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1000, help="posts a round")
    parser.add_argument("--events", type=int, default=40_000, help="events of the dummy run")
    parser.add_argument("--users", type=int, nargs=2, default=[200_000, 1_000_000])
    parser.add_argument("--budget", type=int, default=1 << 28, help="index bytes of the memory run")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    wanted = chosen.only or ["end-to-end", "dummy", "memory"]
    found: dict[str, Any] = {}
    if "end-to-end" in wanted:
        found["end_to_end"] = end_to_end(chosen.encoder, chosen.rounds, chosen.size)
    if "dummy" in wanted:
        found["dummy"] = dummy(chosen.events)
    if "memory" in wanted:
        found["memory"] = memory(chosen.users, chosen.budget)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        table = Table("figure", "value", title=name)
        for key, value in figures.items():
            table.add_row(key, _in_words(value))
        Console().print(table)


if __name__ == "__main__":
    main()
