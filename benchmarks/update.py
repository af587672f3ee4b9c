"""Steps 2 and 5 alone, in CPU time of one thread: `python -m benchmarks.update`.

The shipped posts in their own order: a record to an entry (parse, check, clean, hash); states and vectors to states.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks.worker import posts
from model.encoder.dummy import DummyEncoder
from model.update import DAY_MS, update
from model.users import Stored, UserKey, user_key
from worker.broker.base import Record
from worker.decode import decode

BATCH = 256
NOW_MS = 1_767_268_800_000


def records() -> list[Record]:
    made = []
    for offset, row in enumerate(posts()):
        fields = {name: row[name] for name in ("user_id", "text", "item_id", "item_title", "labels")}
        value = json.dumps(fields | {"occurred_at": row["ts"]}).encode()
        made.append(Record("user-text", 0, offset, NOW_MS, row["user_id"].encode(), value))
    return made


def measure(repeats: int = 5) -> dict[str, float]:
    """Microseconds a record, the best of the repeats."""
    log = records()

    def key(user_id: str) -> UserKey:
        return user_key(user_id, b"")

    entries = [decode(record, key) for record in log]
    encoder = DummyEncoder()
    batches = [entries[start : start + BATCH] for start in range(0, len(entries), BATCH)]
    vectors = [encoder.encode(encoder.tokenise([entry.text for entry in batch])) for batch in batches]

    def updates() -> None:
        states: dict[UserKey, Stored] = {}
        for batch, rows in zip(batches, vectors, strict=True):
            events = [entry.log for entry in batch if entry.log is not None]
            for row, event in enumerate(events):
                event.vector = row
            stored = {event.user: states.get(event.user, Stored()) for event in events}
            made = update(stored, events, rows, newcomer_events=3, user_ttl_ms=365 * DAY_MS)
            for write, state in zip(made.writes, made.states, strict=True):
                states[write.user] = Stored(write.position, state)

    return {
        "decode and clean": _best(lambda: [decode(record, key) for record in log], len(log), repeats),
        "update": _best(updates, len(log), repeats),
    }


def _best(work: Callable[[], object], count: int, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return 1e6 * min(taken) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    figures = measure()
    if parser.parse_args().json:
        print(json.dumps(figures))
        return
    table = Table("step", "µs of CPU a record")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
