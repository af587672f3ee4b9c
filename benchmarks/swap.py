"""What an exchange of releases costs whoever waits for an answer: `python -m benchmarks.swap`.

1. The largest gap between two answers while a release of the same space is swapped in (another head, so that every
   donor is turned), at 100,000 donors, ÷ the largest in an equally long stretch without a swap. Newcomers come at a
   steady rate; the stretches take turns.
2. Posts a second while another space is filled ÷ before and after, with more posts waiting than the worker can take.
   The other space is the same encoder, cut at one token less, so that both cost the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save

from benchmarks.worker import Servers, applied, load_donors, posts, produce, scrape, servers, until, worker
from model.encoder.load import encoder_files, load_encoder
from model.head import HeadWeights, interest
from model.manifest import read_manifest
from model.release import golden, write_builtin
from model.transfer_weights import TransferWeights
from model.write import write_release
from schemas.announcement import CURRENT, ReleaseAnnouncement
from schemas.codec import encode
from schemas.release import MANIFEST_FILE, HeadEntry
from schemas.settings import ConnectionSettings

DONORS: Final = 100_000
DIMENSION: Final = 384
RATE: Final = 100
"""Newcomers a second."""
STRETCH_S: Final = 8.0
HIDDEN: Final = 128


def gaps(rounds: int) -> dict[str, Any]:
    """Stretches without and with a swap, in turns; the first pair is not counted."""
    encoder = load_encoder(f"dummy-{DIMENSION}", cache=ConnectionSettings().cache)
    without, during = list[float](), list[float]()
    with servers() as where:
        load_donors(where, encoder, DONORS, posts())
        releases = [_builtin(where, encoder.name)]
        releases += [_with_head(where, releases[0], number) for number in range(rounds + 1)]
        with worker(where, encoder.name) as (_, address), _newcomers(where) as answered:
            until(lambda: len(answered) > 5 * RATE, 60)
            for release in releases[1:]:
                without.append(_largest_gap(answered))
                swaps = scrape(address)["kindred_swaps_total"]
                _announce(where, release)
                during.append(_largest_gap(answered))
                if scrape(address)["kindred_swaps_total"] != swaps + 1:
                    raise SystemExit(f"{release.name} was not served within {STRETCH_S} s")
    ratios = [d / w for d, w in zip(during[1:], without[1:], strict=True)]
    return {
        "donors": DONORS,
        "newcomers a second": RATE,
        "largest gap without a swap, s": without[1:],
        "largest gap during a swap, s": during[1:],
        "ratio": median(ratios),
        "ratios": ratios,
    }


def filling(name: str, share: float, before: int, size: int) -> dict[str, Any]:
    """before: posts that the other space is filled with. size: posts of each measured stretch."""
    rows = posts()
    pieces = [rows[before + size * number : before + size * (number + 1)] for number in range(3)]
    found: dict[str, float] = {}
    with servers() as where:
        _builtin(where, name)
        other = _builtin(where, str(_cut_shorter(name, where.directory / "encoder")))
        with worker(where, name, KINDRED_BACKFILL_SHARE=str(share)) as (_, address):
            produce(where, rows[:before])
            until(lambda: applied(address) >= before, 1200)
            found["before"] = _rate(where, address, pieces[0])
            _announce(where, other)
            until(lambda: scrape(address)["kindred_backfill_remaining"] > 0, 120)
            began = time.perf_counter()
            found["while it is filled"] = _rate(where, address, pieces[1])
            if not scrape(address)["kindred_backfill_remaining"]:
                raise SystemExit("the space was filled before the stretch was over: fill it with more posts")
            until(lambda: scrape(address)["kindred_swaps_total"] == 1, 1200)
            filled = time.perf_counter() - began
            found["after"] = _rate(where, address, pieces[2])
            gap = scrape(address)["kindred_swap_ack_gap_seconds"]
    return {
        "encoder": name,
        "share": share,
        "posts filled": before + 2 * size,
        **{f"posts a second {when}": rate for when, rate in found.items()},
        "ratio to before and after": found["while it is filled"] / (found["before"] + found["after"]) * 2,
        "filled within, s": filled,
        "longest wait for an acknowledgement, s": gap,
    }


def _rate(where: Servers, address: str, rows: list[dict[str, Any]]) -> float:
    """Posts a second, all of them waiting at once."""
    goal = applied(address) + len(rows)
    started = time.perf_counter()
    produce(where, rows)
    until(lambda: applied(address) >= goal, 1200)
    return len(rows) / (time.perf_counter() - started)


@contextmanager
def _newcomers(where: Servers) -> Iterator[list[float]]:
    """New users at a steady rate; gives the times at which answers came in, growing."""
    over, answered = threading.Event(), list[float]()

    def write() -> None:
        producer = KafkaProducer(bootstrap_servers=where.kafka, linger_ms=2)
        began, number = time.monotonic(), 0
        while not over.wait(0.01):
            while number < (time.monotonic() - began) * RATE:
                number += 1
                value = {"user_id": f"new-{number}", "text": f"a question about bread and comets, number {number}"}
                producer.send("user-text", key=value["user_id"].encode(), value=json.dumps(value).encode())
        producer.close()

    def read() -> None:
        consumer = KafkaConsumer("recommendations", bootstrap_servers=where.kafka, auto_offset_reset="earliest")
        while not over.is_set():
            for records in consumer.poll(50).values():
                answered.extend([time.monotonic()] * len(records))
        consumer.close()

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _largest_gap(answered: list[float]) -> float:
    """Between two answers of the stretch that begins now."""
    began = time.monotonic()
    time.sleep(STRETCH_S)
    times = [began, *(moment for moment in list(answered) if moment > began), time.monotonic()]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def _builtin(where: Servers, encoder: str) -> Path:
    return write_builtin(
        where.directory / "releases",
        encoder,
        TransferWeights.default().to_dict(),
        now=datetime.now(UTC),
        cache=ConnectionSettings().cache,
    )


def _with_head(where: Servers, builtin: Path, seed: int) -> Path:
    """The same release with a head of random weights."""
    draw = np.random.default_rng(seed)
    weights = HeadWeights(
        up_weight=draw.normal(0, 0.05, (HIDDEN, DIMENSION)).astype(np.float32),
        up_bias=np.zeros(HIDDEN, np.float32),
        down_weight=draw.normal(0, 0.05, (DIMENSION, HIDDEN)).astype(np.float32),
        down_bias=np.zeros(DIMENSION, np.float32),
    )
    manifest = read_manifest(builtin)[1]
    tensors: Mapping[str, Any] = weights.tensors()
    changed = manifest.model_copy(
        update={
            "name": f"turned-{seed}",
            "head": HeadEntry(file="head.safetensors", shapes={key: each.shape for key, each in tensors.items()}),
            "golden": golden(
                load_encoder(manifest.encoder.name, cache=ConnectionSettings().cache), partial(interest, weights)
            ),
        }
    )
    return write_release(where.directory / "releases", changed, {"head.safetensors": save(dict(tensors))})


def _cut_shorter(name: str, directory: Path) -> Path:
    """A copy of an encoder's directory that takes one token less: other vectors, the same work."""
    files = encoder_files(name, cache=ConnectionSettings().cache)
    if files is None:
        raise SystemExit(f"{name} has no files; give minilm, bge-small-zh or a directory")
    shutil.copytree(files.directory, directory)
    settings = directory / "sentence_bert_config.json"
    said = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps(said | {"max_seq_length": files.max_tokens - 1}))
    return directory


def _announce(where: Servers, release: Path) -> None:
    data = (release / MANIFEST_FILE).read_bytes()
    told = ReleaseAnnouncement(
        release=release.name,
        uri=str(release),
        sha256=sha256(data).hexdigest(),
        space=read_manifest(release)[1].space,
        verdict="accept",
        created_at=datetime.now(UTC),
    )
    producer = KafkaProducer(bootstrap_servers=where.kafka)
    producer.send("model-releases", key=CURRENT.encode(), value=encode(told)).get(30)
    producer.close()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{each:.2f}" for each in value)
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["gaps", "filling"], action="append")
    parser.add_argument("--rounds", type=int, default=5, help="swaps that are counted")
    parser.add_argument("--encoder", default="minilm", help="of the space that is filled")
    parser.add_argument("--share", type=float, default=0.5, help="KINDRED_BACKFILL_SHARE")
    parser.add_argument("--posts", type=int, default=2000, help="posts in the log when the other space is announced")
    parser.add_argument("--size", type=int, default=600, help="posts of a measured stretch")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    wanted = chosen.only or ["gaps", "filling"]
    found: dict[str, Any] = {}
    if "gaps" in wanted:
        found["gaps"] = gaps(chosen.rounds)
    if "filling" in wanted:
        found["filling"] = filling(chosen.encoder, chosen.share, chosen.posts, chosen.size)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        table = Table("figure", "value", title=name)
        for key, value in figures.items():
            table.add_row(key, _shown(value))
        Console().print(table)


if __name__ == "__main__":
    main()
