"""The blend that is shipped, fitted jointly over several data sets, each weighing the same.

    python -m benchmarks.default_blend --write FILE.jsonl.gz …     the file of the shipped blend, anew
    python -m benchmarks.default_blend FILE.jsonl.gz …             leave-one-set-out: what it is worth elsewhere

A file has one event a line, in the order of time: the fields of `user-text`, with `ts` for `occurred_at`. hit@10 is
that of the later half of each set's questions, beside the plain methods on the same ones; "elsewhere" is a blend fitted
on all other sets, "refit" is that one fitted on by the earlier half, as the trainer does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.encoder.load import load_encoder
from model.head import identity
from model.nearest import MISSING
from model.transfer_weights import DEFAULT, TransferWeights
from model.update import DAY_MS
from ops.cli.events_file import NOW_MS, EventsFile, NoItems
from trainer.fit.blend import fit_blend, fit_default
from trainer.prepare import Least, prepare
from trainer.questions import Questions
from trainer.read import Reach, read_window
from trainer.replay import replay
from trainer.scores import hit, relevant
from trainer.vectors import vectors_of
from trainer.window import Window

WARM_UP = 0.2
"""Share of a set's events before anybody asks."""
TTL_MS = 10**6 * DAY_MS


@dataclass(frozen=True, slots=True)
class Halves:
    """A set's questions that can be judged; the earlier half may be learned from."""

    name: str
    earlier: Questions
    later: Questions


def questions_of(file: Path, encoder_name: str, cache: Path) -> Halves:
    encoder = load_encoder(encoder_name, device="auto", backend="auto", cache=cache)
    name = file.parent.name if file.name.startswith("events") else file.name.split(".")[0]
    cache.mkdir(parents=True, exist_ok=True)
    with Window(cache / f"{name}.window.sqlite") as window, tempfile.TemporaryDirectory() as directory:
        texts = EventsFile(str(file), ["occurred_at=ts"])
        read_window(window, texts, NoItems(), secret=b"", reach=Reach(), now_ms=NOW_MS)
        data = prepare(window, Least(1, 1, 1))
        told = Told(name, "texts")
        vectors = vectors_of(window, data.text_ids, encoder, Path(directory), told)
        events = len(data.user)
        told = Told(name, "events")
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            told(done, events)

        asked, _ = replay(
            data, vectors, identity, user_ttl_ms=TTL_MS, ask_from=int(events * WARM_UP), progress=progress
        )
    asked = asked.where((asked.wanted != MISSING).any(axis=1))
    late = np.arange(len(asked)) >= len(asked) // 2
    return Halves(name, asked.where(~late), asked.where(late))


class Told:
    """Progress on the terminal, a line that is written over."""

    def __init__(self, name: str, what: str) -> None:
        self._name, self._what = name, what

    def __call__(self, done: int, total: int) -> None:
        end = "\n" if done == total else "\r"
        sys.stderr.write(f"{self._name}: {done:,} of {total:,} {self._what}{end}")


def hits(asked: Questions, weights: TransferWeights) -> float:
    return float(hit(relevant(ranked(asked, weights), asked.wanted), 10).mean())


def ranked(asked: Questions, weights: TransferWeights) -> NDArray[np.int32]:
    scores = asked.signals.astype(np.float32) @ np.array(weights.signals, np.float32)
    scores[asked.items == MISSING] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return np.take_along_axis(asked.items, best, axis=1)


def row(halves: Halves, others: list[Halves]) -> dict[str, Any]:
    asked = halves.later
    plain = {name: float(hit(relevant(rows, asked.wanted), 10).mean()) for name, rows in asked.plain.items()}
    elsewhere = fit_default([other.earlier for other in others])
    return {
        "set": halves.name,
        "questions": len(asked),
        "reachable": float(asked.reachable.mean()),
        "best plain": max(plain.values()),
        "elsewhere": hits(asked, elsewhere),
        "refit": hits(asked, fit_blend(halves.earlier, elsewhere).weights),
        "shipped": hits(asked, TransferWeights.default()),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="write the shipped blend anew")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--cache", type=Path, default=Path(".kindred") / "default-blend")
    options = parser.parse_args(arguments)
    sets = [questions_of(file, options.encoder, options.cache) for file in options.files]
    if options.write:
        weights = fit_default([halves.earlier for halves in sets])
        target = Path(__file__).parents[1] / "model" / DEFAULT
        target.write_text(json.dumps(weights.to_dict(), indent=2) + "\n")
        print(f"{target} is written")
        return 0
    rows = [row(halves, [other for other in sets if other is not halves]) for halves in sets]
    print(f"{'set':20}{'questions':>10}" + "".join(f"{name:>12}" for name in list(rows[0])[2:]))
    for found in rows:
        numbers = "".join(f"{value:>12.3f}" for value in list(found.values())[2:])
        print(f"{found['set']:20}{found['questions']:>10,}{numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
