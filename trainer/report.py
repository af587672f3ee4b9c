"""A refit for people: the folds as a table, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from trainer.crossval import WITHOUT_HEAD
from trainer.gate import CANDIDATE, CURRENT
from trainer.judge import accuracy, metrics
from trainer.recipe import Refit
from trainer.scores import HIT, LABEL, NDCG, RECALL

_SHOWN: Final = (CANDIDATE, WITHOUT_HEAD, CURRENT, "raw_knn", "cooccurrence", "popularity", "decayed_popularity")
_COLUMNS: Final = (HIT, RECALL, NDCG, LABEL)


def show(done: Refit, seconds: Mapping[str, float], peak_bytes: int, page: Path | None, console: Console) -> None:
    """The fold table (unless only what an earlier run had left was done), the verdict, and what each step took. page:
    where the report for people is."""
    name = done.whole.manifest.name
    if done.made is None:
        console.print(f"This window was refitted before: {name}.", highlight=False)
    else:
        console.print(fold_table(done))
        if LABEL in "".join(metrics(done.made.validated)):
            console.print(f"Accuracy(D), one text known: {accuracy(done.made.validated):.3f}", highlight=False)
    word = "accepted" if done.verdict.accepted else "rejected"
    console.print(f"{name} is {word}: {'; '.join(done.verdict.reasons)}.", highlight=False, markup=False)
    console.print("It is announced to the workers." if done.announced else "Nothing was announced.", highlight=False)
    took = ", ".join(f"{step} {spent:.1f} s" for step, spent in seconds.items())
    console.print(f"{took}; {peak_bytes / 1e9:.1f} GB of memory at most.", highlight=False)
    if page is not None:
        console.print(f"All of it, with pictures: {page}", highlight=False, markup=False, soft_wrap=True)


def fold_table(done: Refit) -> Table:
    """Means over the folds and, of more than one, their standard deviation, for all of a newcomer's first texts
    together."""
    assert done.made is not None  # noqa: S101 (whoever calls has looked)
    found = metrics(done.made.validated)
    parts = (done.made.validated.items, done.made.validated.labels)
    folds = len(np.unique(np.concatenate([part.fold for part in parts])))
    who = "newcomers" if folds > 1 else "newcomers who teach nothing"
    title = f"{found['questions']:.0f} questions of {who}, {found['reachable']:.0%} reachable"
    table = Table(box=None, title=title)
    table.add_column("")
    for metric in _COLUMNS:
        table.add_column(metric, justify="right")
    for name in _SHOWN:
        if f"{NDCG}.{name}.all" not in found:
            continue
        cells = [
            f"{found[key]:.3f}" + (f" ± {found[f'{key}.spread']:.3f}" if folds > 1 else "")
            if (key := f"{metric}.{name}.all") in found
            else ""
            for metric in _COLUMNS
        ]
        table.add_row(name.replace("_", " "), *cells)
    return table
