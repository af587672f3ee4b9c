"""The blend that is shipped, fitted jointly over several data sets, each weighing the same.

    python -m benchmarks.default_blend --write FILE.jsonl.gz …     the file of the shipped blend, anew
    python -m benchmarks.default_blend FILE.jsonl.gz …             leave-one-set-out: what it is worth elsewhere

A file has one event a line, in the order of time: the fields of `user-text`, with `ts` for `occurred_at`. hit@10 and
nDCG@10 are those of the later half of each set's questions, beside the plain methods on the same ones; "elsewhere" is a
blend fitted on all other sets, "refit" is that one fitted on by the earlier half, as the trainer does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.encoder.load import load_encoder
from model.head import identity
from model.nearest import MISSING, Rows
from model.transfer_weights import DEFAULT, TransferWeights
from model.update import DAY_MS
from ops.cli.events_file import NOW_MS, EventsFile, NoItems
from trainer.crossval import ranked
from trainer.fit.blend import fit_blend, fit_default
from trainer.prepare import Least, prepare
from trainer.questions import Questions
from trainer.read import Reach, read_window
from trainer.replay import replay
from trainer.scores import HIT, NDCG, hit, ndcg, relevant
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
        texts = EventsFile(str(file), ["occurred_at=ts"], skip_bad=True)
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


def scores(asked: Questions, answers: Rows) -> dict[str, float]:
    """Means over the questions, by metric."""
    found = relevant(answers, asked.wanted)
    return {HIT: float(hit(found, 10).mean()), NDCG: float(ndcg(found, asked.wanted, 10).mean())}


def judged(halves: Halves, others: list[Halves]) -> dict[str, dict[str, float]]:
    """Column → metric → mean."""
    asked = halves.later
    plain = [scores(asked, rows) for rows in asked.plain.values()]
    elsewhere = fit_default([other.earlier for other in others])
    refit = fit_blend(halves.earlier, elsewhere).weights
    return {
        "best plain": {metric: max(each[metric] for each in plain) for metric in (HIT, NDCG)},
        "elsewhere": scores(asked, ranked(asked, elsewhere)),
        "refit": scores(asked, ranked(asked, refit)),
        "shipped": scores(asked, ranked(asked, TransferWeights.default())),
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
    found = [judged(halves, [other for other in sets if other is not halves]) for halves in sets]
    for metric in (HIT, NDCG):
        print(f"{metric:20}{'questions':>10}{'reachable':>12}" + "".join(f"{name:>12}" for name in found[0]))
        for halves, columns in zip(sets, found, strict=True):
            numbers = "".join(f"{column[metric]:>12.3f}" for column in columns.values())
            print(f"{halves.name:20}{len(halves.later):>10,}{halves.later.reachable.mean():>12.3f}{numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
