"""What transfer costs: exact top-k, a newcomer's transfer and whole answer, and the index' bytes a donor.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.transfer [--json] [--donors 10000 100000 1000000]

Donors are synthetic: vectors around a few hundred centres, items drawn near a donor's centre. One thread (numpy takes
its number from the variable above), the best of several runs: what the code costs, not what else the machine did.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.donor_vectors import NearestFactory
from model.evidence import NEIGHBOURS
from model.index import Changes, Index
from model.item_table import ItemRow
from model.nearest import Floats, Nearest, NumpyNearest
from model.transfer import transfer
from model.transfer_weights import TransferWeights
from schemas.state import UserState
from worker.answer import Question, answer

CENTRES = 300
PUT = 512
TEXT = (
    "What is a citra hop, and how does it differ from other hops? I was offered a beer the other day that was made "
    "with citra hops. Why should I care that my beer is made with them? Are the brewing techniques different somehow?"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. value is in `unit`, a query, newcomer or user."""

    name: str
    donors: int
    dimension: int
    batch: int
    value: float
    unit: str


def best(run: Callable[[], object], repeats: int = 7) -> float:
    """Seconds of the fastest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def clustered(random: np.random.Generator, centres: Floats, members: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
    vectors = centres[members] + random.standard_normal((len(members), centres.shape[1]), np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def nearest_figures(name: str, factory: NearestFactory, donors: int, dimension: int, batch: int) -> Figure:
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, dimension), np.float32)
    nearest: Nearest = factory(dimension, donors)
    for start in range(0, donors, 50_000):
        rows = np.arange(start, min(donors, start + 50_000))
        nearest.set(rows, clustered(random, centres, random.integers(CENTRES, size=len(rows))))
    queries = clustered(random, centres, random.integers(CENTRES, size=batch))
    seconds = best(lambda: nearest.top(queries, NEIGHBOURS), 5)
    return Figure(f"top-{NEIGHBOURS}, {name}", donors, dimension, batch, seconds / batch * 1e6, "µs a query")


def filled(donors: int, dimension: int, factory: NearestFactory, items: int) -> tuple[Index, list[UserState], float]:
    """An index, the first of its users' states, and the seconds that `put_users` took for each user."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, dimension), np.float32)
    index = Index(dimension, 8 << 30, nearest=factory)
    texts = clustered(random, centres, np.arange(items) * CENTRES // items)
    rows = [
        ItemRow(item + 1, f"item-{item}", f"Title {item}", -float(random.exponential(3)), 5, text.tobytes())
        for item, text in enumerate(texts.astype(np.float16))
    ]
    index.apply(Changes((1.0,), items=rows, labels=[(label + 1, f"label-{label}") for label in range(700)]))
    first: list[UserState] = []
    seconds = 0.0
    for start in range(0, donors, PUT):
        members = random.integers(CENTRES, size=min(PUT, donors - start))
        near = (members[:, None] * items // CENTRES + random.integers(items // 20, size=(len(members), 4))) % items
        labels = random.integers(700, size=(len(members), 3))
        states = [
            UserState(
                vector=vector,
                weight=1.0,
                last_time=start,
                count=4,
                items=tuple(set((taken + 1).tolist())),
                labels=dict.fromkeys(tags.tolist(), 1.0),
            )
            for vector, taken, tags in zip(
                clustered(random, centres, members).astype(np.float16), near, labels + 1, strict=True
            )
        ]
        users = [((start + place).to_bytes(16, "big"), state) for place, state in enumerate(states)]
        started = time.perf_counter()
        index.put_users(users)
        seconds += time.perf_counter() - started
        first = first or states
    return index, first, seconds / donors


def index_figures(name: str, factory: NearestFactory, donors: int, dimension: int, batch: int) -> list[Figure]:
    index, states, put = filled(donors, dimension, factory, items=2_000)
    asked = [
        Question(
            user_id=f"user-{place}",
            user=place.to_bytes(16, "big"),
            nth=1,
            topic="user-text",
            partition=0,
            offset=place,
            event_id="e",
            text=TEXT,
            vector=state.vector,
            items=state.items[: 1 + place % 3],
            labels=state.labels,
            created_at=1_700_000_000_000,
        )
        for place, state in enumerate(states[:batch])
    ]
    vectors = np.array([question.vector for question in asked], np.float32)
    queries = index.queries(
        [question.user for question in asked],
        vectors,
        [question.items for question in asked],
        [question.labels for question in asked],
    )
    weights = TransferWeights.default()
    scoring = best(lambda: transfer(queries, index.known(0), weights))
    answering = best(lambda: answer(asked, index, weights, release="r", space="s"))
    again = [(question.user, state) for question, state in zip(asked, states, strict=False)]
    putting = best(lambda: index.put_users(again))
    micro = 1e6 / len(asked)
    return [
        Figure(f"transfer, {name}", donors, dimension, batch, scoring * micro, "µs a newcomer"),
        Figure(f"answer, {name}", donors, dimension, batch, answering * micro, "µs a newcomer"),
        Figure(f"put new users, {name}", donors, dimension, PUT, put * 1e6, "µs a user"),
        Figure(f"put known users, {name}", donors, dimension, batch, putting * micro, "µs a user"),
        Figure(f"index, {name}", donors, dimension, batch, index.bytes / donors, "bytes a donor"),
    ]


def measure(donors: list[int]) -> list[Figure]:
    import torch

    from model.nearest_torch import TorchNearest

    torch.set_num_threads(1)
    bf16 = TorchNearest(1, 1).dtype
    torch_name = f"torch {str(bf16).removeprefix('torch.')}"
    figures = index_figures("numpy", NumpyNearest, 10_000, 64, 128)
    figures += index_figures(torch_name, TorchNearest, 100_000, 384, 32)
    for count in donors:
        for name, factory in (("numpy float32", NumpyNearest), (torch_name, TorchNearest)):
            figures.append(nearest_figures(name, factory, count, 384, 32))
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--donors", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args(arguments)
    figures = measure(options.donors)
    if options.json:
        keys = Figure.__slots__
        print(json.dumps([{key: getattr(figure, key) for key in keys} for figure in figures], ensure_ascii=False))
        return 0
    print(f"{'':34}{'donors':>10}{'dims':>6}{'batch':>7}")
    for f in figures:
        print(f"{f.name:34}{f.donors:>10,}{f.dimension:>6}{f.batch:>7}{f.value:>12,.1f} {f.unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
