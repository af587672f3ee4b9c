"""What adapting an encoder is worth to users nobody has seen.

    python -m benchmarks.adapt FILE.jsonl.gz --encoder bge-small-zh

Users are drawn until they have so many texts, and others until those have as many. The encoder is adapted on the texts
of the former (`pretrain`, `encoder`, and one after the other), each fit within so many minutes of CPU time; then the
labels of the latter's texts are told by the 50 nearest of the former, with each encoder. The k-th label is a question
of its own. Intervals are of the paired difference to the encoder as it came, over users.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.encoder.files import EncoderFiles, read_files, write_files
from model.encoder.load import find_encoder, load_encoder
from ops.cli.events_file import NOW_MS, EventsFile, NoItems
from trainer.adapt import written
from trainer.fit.encoder import EncoderSettings, fit_encoder
from trainer.fit.held_out import labels_told
from trainer.fit.pretrain import PretrainSettings, fit_pretrain
from trainer.fit.rounds import Pace, Round, TransformerFit
from trainer.fit.texts import Written
from trainer.gate import Limits, paired_gain
from trainer.learn import STOPPING
from trainer.prepare import Least, Prepared, prepare
from trainer.read import Reach, read_window
from trainer.window import Window

AS_IT_CAME = "as it came"
CHAINS = ("pretrain", "encoder", "pretrain,encoder")
CLOCK = time.process_time
"""What others do on the machine takes nothing from a fit."""


def drawn(data: Prepared, texts: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(U,) who is learned from, and (U,) who is asked about: so many texts each."""
    order = np.random.default_rng(seed).permutation(data.users)
    total = np.cumsum(np.bincount(data.user[data.text >= 0], minlength=data.users)[order])
    first, second = (np.searchsorted(total, texts * times, side="right") for times in (1, 2))
    sides = np.zeros((2, data.users), np.bool_)
    sides[0, order[:first]] = True
    sides[1, order[first:second]] = True
    return sides[0], sides[1]


def told_right(encoder: Path, taught: Written, asked: Written, cache: Path) -> list[NDArray[np.float64]]:
    """For the first label, the second, …: (Q,) whether it was told, of the texts that have it."""
    running = load_encoder(str(encoder), backend="torch", cache=cache)

    def vectors(texts: Written) -> torch.Tensor:
        tokens = replace(running.tokenise([]), ids=[texts.ids[row] for row in texts.text])
        return torch.from_numpy(running.encode(tokens))

    bank, queries = vectors(taught), vectors(asked)
    given, wanted = (torch.from_numpy(texts.labels.astype(np.int64)) for texts in (taught, asked))
    found = []
    for nth in range(wanted.shape[1]):
        told = labels_told(bank, given[:, nth : nth + 1], queries, wanted[:, nth : nth + 1], asked.label_count)
        found.append(np.where(asked.labels[:, nth] >= 0, told.numpy(), np.nan))
    return found


def adapted(
    files: EncoderFiles, taught: Written, chains: list[str], pace: Pace, seed: int, directory: Path
) -> tuple[dict[str, Path], dict[str, TransformerFit]]:
    """Name → directory of the encoder, and its last fit."""
    stopping = np.random.default_rng(seed).random(int(taught.user.max()) + 1) < STOPPING

    def told(name: str) -> Callable[[Round], None]:
        return lambda each: print(name, each, file=sys.stderr, flush=True)

    def pretrained(before: EncoderFiles) -> TransformerFit:
        settings = PretrainSettings(replace(pace, rate=PretrainSettings().pace.rate), recompute=False)
        return fit_pretrain(taught, stopping, before, settings, seed=seed, told=told("pretrain"), clock=CLOCK)

    def fine_tuned(before: EncoderFiles) -> TransformerFit:
        return fit_encoder(
            taught, stopping, before, EncoderSettings(pace), seed=seed, told=told("encoder"), clock=CLOCK
        )

    fits: dict[str, TransformerFit] = {}
    found: dict[str, EncoderFiles] = {AS_IT_CAME: files}
    for chain in chains:
        *before, last = chain.split(",")
        fit = {"pretrain": pretrained, "encoder": fine_tuned}[last]
        fits[chain] = fit(found[",".join(before) or AS_IT_CAME])
        found[chain] = write_files(files, fits[chain].weights(), directory / chain)
    return {name: each.directory for name, each in found.items()}, fits


def measured(chosen: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    files = read_files(find_encoder(chosen.encoder, cache=chosen.cache))
    with Window(directory / "window.sqlite") as window:
        log = EventsFile(str(chosen.file), ["occurred_at=ts"])
        read_window(window, log, NoItems(), secret=b"", reach=Reach(), now_ms=NOW_MS)
        data = prepare(window, Least(1, 1, 0))
        taught, asked = (written(window, data, files, who) for who in drawn(data, chosen.texts, chosen.seed))
    pace = Pace(epochs=chosen.epochs, minutes=chosen.minutes, round=chosen.round, rate=chosen.rate)
    places, fits = adapted(files, taught, chosen.fit, pace, chosen.seed, directory)
    right = {name: told_right(place, taught, asked, directory) for name, place in places.items()}
    rows = []
    for name, scores in right.items():
        row: dict[str, Any] = {"encoder": name}
        if name in fits:
            fit = fits[name]
            row |= {"steps": fit.rounds[-1].steps, "kept after": fit.rounds[fit.chosen].steps}
            row |= {"CPU s": round(fit.seconds), "stopped": fit.stopped}
            told = [each.losses for each in fit.rounds[1:]]
            row["losses"] = {loss: (told[0][loss], told[-1][loss]) for loss in told[0]} if told else {}
        for nth, values in enumerate(scores):
            there = np.isfinite(values)
            before = right[AS_IT_CAME][nth][there]
            gain = paired_gain(values[there] - before, asked.user[there].astype(np.int64), Limits())
            row[f"label {nth + 1}"] = float(values[there].mean())
            row[f"label {nth + 1}, gain"] = (gain.mean, gain.low, gain.high)
        rows.append(row)
    rows[0] |= {"texts learned from": len(taught.user), "texts asked about": len(asked.user)}
    rows[0] |= {"titles that say more": int((taught.title >= 0).sum())}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON lines, also .gz, sorted by `ts`")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--fit", nargs="+", default=CHAINS, help="each one's beginning before it")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--round", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1e-5, help="of the `encoder` fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "kindred")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = measured(chosen, Path(directory))
    if chosen.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("", *(row["encoder"] for row in rows))
    for name in dict.fromkeys(key for row in rows for key in row if key != "encoder"):
        table.add_row(name, *(_shown(row.get(name, "")) for row in rows))
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        return f"{value[0]:+.3f} ({value[1]:+.3f} to {value[2]:+.3f})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {first:.2f} → {last:.2f}" for name, (first, last) in value.items())
    return str(value)


if __name__ == "__main__":
    main()
