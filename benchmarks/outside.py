"""`kindred evaluate` from outside: the same questions through Kafka, with the trainer beside.

    python -m benchmarks.outside FILE.jsonl.gz …

For each file of events: a stack is fed line by line, and nothing is sent while an event of a newcomer is unanswered, so
every answer is judged by what came after it. At the shares of the stream at which `kindred evaluate` refits, `kindred
trainer --once` does, and the feeding waits for it. Told are hit@10 and nDCG@10 of the answers to the first and third
texts after the warm-up, with 95 % intervals over users, beside what `kindred evaluate` says of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.refit import kindred
from model.nearest import MISSING
from ops import broker
from ops.cli import target
from ops.cli.answers import new_answers
from ops.cli.feed import Feed
from ops.cli.lines import Line, read_lines
from ops.cli.produce import open_source
from ops.stack import processes
from schemas.topics import USER_TEXT
from trainer.errors import TooLittleData
from trainer.evaluate.answers import ASKED_AT, REFIT
from trainer.evaluate.evaluation import Settings
from trainer.evaluate.intervals import means
from trainer.evaluate.measured import ALL
from trainer.questions import ragged
from trainer.scores import HIT, NDCG, hit, ndcg, relevant

SETTINGS: Final = Settings()
"""What `kindred evaluate` does unless it is told otherwise."""
ANSWERED: Final = 3
"""Events of a newcomer that a worker answers."""
PATIENCE: Final = 60.0
"""Seconds for an answer."""


@dataclass(frozen=True, slots=True)
class Event:
    user: str
    item: str | None
    line: Line


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to an event, which has this number in the file."""

    event: int
    items: Sequence[str]
    release: str


def events_of(file: str) -> list[Event]:
    """Lines that `kindred produce` would send."""
    found = []
    with open_source(file) as source:
        for line in read_lines(source.lines, USER_TEXT, {"occurred_at": "ts"}, lambda: int(time.time() * 1000)):
            if isinstance(line, Line) and line.value is not None:
                body = json.loads(line.value)
                found.append(Event(body["user_id"], body.get("item_id"), line))
    return found


@contextmanager
def stack(directory: Path, encoder: str, workers: int) -> Iterator[None]:
    os.environ["KINDRED_ENCODER"] = encoder
    kindred(directory, "up", "--workers", str(workers), "--detach")
    try:
        yield
    finally:
        processes.down(directory)


def live(directory: Path, events: Sequence[Event]) -> list[Answered]:
    """Everybody's answers, asked one at a time."""
    found: list[Answered] = []
    seen: Counter[str] = Counter()
    refits = [int(len(events) * share) for share in SETTINGS.refit_at]
    there = target.find(directory)
    with new_answers(there) as answers, broker.producer(there.kafka) as producer:
        sender = Feed(producer, there.topic(USER_TEXT))
        for number, event in enumerate(events):
            if number in refits:
                print(kindred(directory, "trainer", "--once", fine=(0, TooLittleData.exit_code)), file=sys.stderr)
            sender.send(event.line.key, event.line.value)
            seen[event.user] += 1
            if seen[event.user] > ANSWERED:
                continue
            sender.finish()
            deadline = time.monotonic() + PATIENCE
            while True:
                came = [one for one in answers.poll(100) if one.user_id == event.user and one.nth == seen[event.user]]
                if came:
                    break
                if time.monotonic() > deadline:
                    raise SystemExit(f"event {number:,} was not answered within {PATIENCE:.0f} s")
            if number >= int(len(events) * SETTINGS.warm_up) and seen[event.user] in ASKED_AT:
                found.append(Answered(number, [item.item_id for item in came[0].items], came[0].release))
            sys.stderr.write(f"{number:,} of {len(events):,} events\r")
    return found


def judged(events: Sequence[Event], answers: Sequence[Answered]) -> dict[str, Any]:
    """Of the answers whose user takes something new later."""
    numbers: defaultdict[str, int] = defaultdict(lambda: len(numbers))
    taken: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, event in enumerate(events):
        if event.item is not None:
            taken[event.user].append((number, numbers[event.item]))
    users: defaultdict[str, int] = defaultdict(lambda: len(users))
    ranked, wanted, asker, releases = [], [], [], []
    for answer in answers:
        user = events[answer.event].user
        before = {item for number, item in taken[user] if number <= answer.event}
        later = {item for number, item in taken[user] if number > answer.event} - before
        if later:
            ranked.append([numbers[item] for item in answer.items] + [MISSING] * (10 - len(answer.items)))
            wanted.append(sorted(later))
            asker.append(users[user])
            releases.append(answer.release)
    rows, want = np.array(ranked, np.int32).reshape(-1, 10), ragged(wanted)
    right = relevant(rows, want)
    scores = np.stack([hit(right, 10), ndcg(right, want, 10)], axis=1)
    (found,) = means(np.array(asker), scores, np.ones((1, len(asker)), np.bool_))
    return {
        "questions": len(asker),
        "releases": dict(Counter(releases)),
        **{
            metric: {"mean": float(found.mean[place]), "low": float(found.low[place]), "high": float(found.high[place])}
            for place, metric in enumerate((HIT, NDCG))
        },
    }


def inside(file: str, encoder: str) -> Mapping[str, Any]:
    """What `kindred evaluate` says: the refitted contestant."""
    command = [sys.executable, "-m", "ops.cli", "evaluate", file, "--field", "occurred_at=ts", "--skip-bad"]
    ran = subprocess.run([*command, "--encoder", encoder, "--json"], stdout=subprocess.PIPE, check=True)
    part = json.loads(ran.stdout)["sets"][0]["judged"]["items"]
    if part is None:
        raise SystemExit(f"{file}: no item can be told there")
    return {"questions": part["questions"], **part["groups"][ALL]["scores"][REFIT]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="JSON lines, also .gz, sorted by `ts`")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = []
    for file in chosen.files:
        events = events_of(file)
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place) / "stack"
            with stack(directory, chosen.encoder, chosen.workers):
                outside = judged(events, live(directory, events))
        rows.append({"file": file, "outside": outside, "inside": inside(file, chosen.encoder)})
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("set", "questions", "metric", "through Kafka", "kindred evaluate", title="the same questions")
    for row in rows:
        for metric in (HIT, NDCG):
            told = [_shown(row[side][metric]) for side in ("outside", "inside")]
            table.add_row(Path(row["file"]).parent.name, f"{row['outside']['questions']:,}", metric, *told)
    Console().print(table)


def _shown(mean: Mapping[str, float]) -> str:
    return f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"


if __name__ == "__main__":
    main()
