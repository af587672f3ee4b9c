"""Exactly once ÷ at least once: `python -m benchmarks.delivery`.

Two workers on one Apache Kafka and one Redis, each with topics and states of its own, take the same posts in turns,
round by round, at default batch sizes. A round lasts from the first record sent to the last offset committed. With the
dummy encoder everything but encoding is seen, which is where the two differ; with a real one the encoder decides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from kafka import KafkaAdminClient
from rich.console import Console
from rich.table import Table

from benchmarks.worker import Servers, posts, produce, until, worker
from ops import broker
from ops.stack import apache, ports, programs
from schemas.access import KafkaAccess
from schemas.settings import ConnectionSettings

DELIVERIES: Final = ("at_least_once", "exactly_once")


@contextmanager
def kafka_and_redis() -> Iterator[Servers]:
    """An Apache Kafka and a Redis of this run alone."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as ends:
        taken = set[int]()
        kafka, controller, redis = (ports.claim(0, "a benchmark", taken) for _ in range(3))
        libs = apache.fetch(ConnectionSettings().cache)
        node = apache.Node(Path(directory) / "kafka", kafka, controller)
        apache.prepare(libs, node)
        for program in (apache.program(libs, node), programs.redis(redis, Path(directory))):
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(program.arguments, stdout=quiet, stderr=quiet)
            ends.callback(process.wait)
            ends.callback(process.kill)
            until(lambda port=program.port: ports.answers(port), 30)
        yield Servers(f"{ports.HOST}:{kafka}", f"redis://{ports.HOST}:{redis}/0", Path(directory))


def compare(encoder: str, rounds: int, size: int) -> dict[str, Any]:
    """Rounds of `size` posts through both, in turns; the first is not counted."""
    rows, seconds = posts(), {delivery: list[float]() for delivery in DELIVERIES}
    with kafka_and_redis() as where, ExitStack() as ends:
        admin = KafkaAdminClient(bootstrap_servers=where.kafka)
        ends.callback(admin.close)
        for delivery in DELIVERIES:
            broker.create_topics(KafkaAccess(where.kafka), delivery)
            settings = {"KINDRED_NAMESPACE": delivery, "KINDRED_GROUP": delivery, "KINDRED_DELIVERY": delivery}
            ends.enter_context(worker(where, encoder, KINDRED_NAME=delivery, **settings))
        for number in range(rounds + 1):
            piece = rows[size * number : size * (number + 1)]
            for delivery in DELIVERIES if number % 2 else reversed(DELIVERIES):
                started, goal = time.perf_counter(), len(piece) * (number + 1)
                produce(where, piece, topic=f"{delivery}.user-text")
                until(lambda delivery=delivery, goal=goal: _committed(admin, delivery) >= goal, 600)
                if number:
                    seconds[delivery].append(time.perf_counter() - started)
    ratios = [least / exactly for least, exactly in zip(*seconds.values(), strict=True)]
    return {
        "encoder": encoder,
        "posts_a_round": size,
        **{f"{delivery}_per_s": size / median(seconds[delivery]) for delivery in DELIVERIES},
        "ratio": median(ratios),
        "ratios": ratios,
    }


def _committed(admin: Any, group: str) -> int:
    return sum(max(0, int(mark.offset)) for mark in admin.list_group_offsets({group: None})[group].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="dummy")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=600, help="posts a round")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = compare(chosen.encoder, chosen.rounds, chosen.size)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    table = Table("figure", "value", title="exactly once ÷ at least once")
    for name, value in found.items():
        shown = [f"{each:.2f}" for each in value] if isinstance(value, list) else value
        table.add_row(name, f"{shown:,.3g}" if isinstance(shown, float) else str(shown))
    Console().print(table)


if __name__ == "__main__":
    main()
