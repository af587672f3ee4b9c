"""A refit beside workers that serve: `python -m benchmarks.refit FILE...`.

For each file of events: a stack of two workers takes the first nine tenths; then `kindred trainer --once` refits while
the last tenth flows in. Told are the verdict and its numbers, how long that took and how much memory, how soon the
workers served the release after they had heard of it, and whether the audit finds all events applied once and answered.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.worker import until
from ops.stack import endpoints, processes

KEPT_BACK: Final = 0.1
"""Share of the events that flows in while the trainer works."""
METRICS: Final = ("hit@10", "ndcg@10", "label_accuracy")
SHOWN: Final = ("candidate", "current", "raw_knn", "cooccurrence", "popularity", "decayed_popularity")


def refit(file: Path, directory: Path, encoder: str, workers: int) -> dict[str, Any]:
    """One file through one stack, from `up` to `audit`."""
    os.environ["KINDRED_ENCODER"] = encoder

    def applied() -> bool:
        return sum(int(row["lag"]) for row in json.loads(kindred(directory, "offsets", "show", "--json"))) == 0

    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        lines = opened.readlines()
    cut = int(len(lines) * (1 - KEPT_BACK))
    piece = directory.with_suffix(".jsonl")

    def produce(some: list[bytes]) -> None:
        piece.write_bytes(b"".join(some))
        kindred(directory, "produce", str(piece), "--field", "occurred_at=ts")

    kindred(directory, "up", "--workers", str(workers), "--detach")
    try:
        started = time.monotonic()
        produce(lines[:cut])
        until(applied, 3600)
        fed = time.monotonic() - started
        over = threading.Event()
        flow = threading.Thread(target=_trickle, args=(produce, lines[cut:], over))
        flow.start()
        started = time.monotonic()
        trainer = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "trainer", "--once", "--data-dir", str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert trainer.stdout is not None
        told = trainer.stdout.read()
        _, status, used = os.wait4(trainer.pid, 0)
        seconds = time.monotonic() - started
        print(told, file=sys.stderr)
        if status:
            raise SystemExit(f"the trainer ended with {os.waitstatus_to_exitcode(status)}")
        releases = json.loads(kindred(directory, "model", "list", "--json"))
        (release,) = (found for found in releases if found["name"].startswith("refit-"))
        accepted = release["verdict"]["accepted"]
        swaps = _swaps(directory, workers) if accepted else []
        over.set()
        flow.join()
        until(applied, 600)
        audit = json.loads(kindred(directory, "audit", "--json", fine=(0, 1)))
    finally:
        processes.down(directory)
    metrics = release["metrics"]
    return {
        "set": file.parent.name if file.name.startswith("events.") else file.name,
        "events": release["window"]["events"],
        "users": release["window"]["users"],
        "verdict": "accept" if accepted else "reject",
        "reasons": release["verdict"]["reasons"],
        "head": release["head"] is not None,
        **{f"{metric} {name}": metrics.get(f"{metric}.{name}.all") for metric in METRICS for name in SHOWN},
        "label accuracy, one text known": metrics.get("label_accuracy.candidate.1"),
        "of raw kNN": metrics.get("label_accuracy.raw_knn.1"),
        "feeding and applying, s": fed,
        "refit, s": seconds,
        "refit, CPU s": used.ru_utime + used.ru_stime,
        "refit, GB at most": used.ru_maxrss / 1e6,
        "announced to served, s at most": max(swaps, default=None),
        "audit": "ok" if audit["ok"] else audit,
    }


def kindred(directory: Path, *arguments: str, fine: Sequence[int] = (0,)) -> str:
    """What the command prints. fine: exit codes that do not end the benchmark."""
    command = [sys.executable, "-m", "ops.cli", *arguments, "--data-dir", str(directory)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode not in fine:
        raise SystemExit(f"kindred {' '.join(arguments)} ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return ran.stdout


def _trickle(produce: Any, lines: list[bytes], over: threading.Event) -> None:
    """One hundredth of the lines at a time, a piece every few seconds; all that is left when the refit is over."""
    size = max(1, len(lines) // 100)
    while lines and not over.wait(3.0):
        produce(lines[:size])
        lines = lines[size:]
    if lines:
        produce(lines)


def _swaps(directory: Path, workers: int) -> list[float]:
    """Of each worker, how long it took from reading the announcement to serving. Waits until all have."""
    found: dict[str, float] = {}

    def all_have() -> bool:
        running = endpoints.read(directory)
        assert running is not None
        for url in running.metrics[:workers]:
            with urllib.request.urlopen(url, timeout=5) as page:
                families = {f.name: f for f in text_string_to_metric_families(page.read().decode())}
            samples = {s.name: s.value for s in families["kindred_swap_seconds"].samples if not s.labels}
            if samples["kindred_swap_seconds_count"]:
                found[url] = samples["kindred_swap_seconds_sum"]
        return len(found) == workers

    until(all_have, 120)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON lines, also .gz, sorted by `ts`")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = []
    for file in chosen.files:
        with tempfile.TemporaryDirectory() as directory:
            rows.append(refit(file, Path(directory) / "stack", chosen.encoder, chosen.workers))
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("", *(row["set"] for row in rows), title="a refit beside two workers")
    for name in rows[0]:
        if name != "set":
            table.add_row(name, *(_shown(row[name]) for row in rows))
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.0f}"
    return "" if value is None else "; ".join(value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
