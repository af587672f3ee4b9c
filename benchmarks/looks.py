"""How often is a release called worse that is as good as the one before? `python -m benchmarks.looks`.

Both hit equally often. The one before was asked 2,000 times; the new one is compared after every tenth newcomer, from
the first that may be compared to the 5,000th, with the trainer's own function. Told is the share of releases that are
called worse at any time, by the level of the interval; and of releases that truly hit less how many are seen, and after
how many newcomers (median).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from trainer.compare import LEAST, LEVEL, Tally, difference

BEFORE = 2_000
NEWCOMERS = 5_000
RELEASES = 400
STEP = 10
"""Newcomers between two looks: the hits move little in between."""
RATES = (0.1, 0.3)
LEVELS = (0.95, 0.99, LEVEL)
LOSSES = (0.2, 0.5)
"""Shares of its hits that a release loses which is worse."""


def called_worse(rate: float, true: float, level: float, draw: np.random.Generator) -> Iterator[int | None]:
    """Of each release after how many newcomers, None for never."""
    for before in draw.binomial(BEFORE, rate, RELEASES).tolist():
        known = Tally(BEFORE, BEFORE, before)
        hits = np.cumsum(draw.random(NEWCOMERS) < true).tolist()
        looks = ((n, difference(Tally(n, n, hits[n - 1]), known, level)) for n in range(LEAST, NEWCOMERS + 1, STEP))
        yield next((n for n, found in looks if found is not None and found.worse), None)


def main() -> None:
    table = Table(
        "hit@10", "level", "called worse by chance", *(f"{loss:.0%} fewer hits: seen, after" for loss in LOSSES)
    )
    for rate in RATES:
        for level in LEVELS:
            draw = np.random.default_rng(0)
            wrong = sum(at is not None for at in called_worse(rate, rate, level, draw)) / RELEASES
            seen = []
            for loss in LOSSES:
                found = [at for at in called_worse(rate, rate * (1 - loss), level, draw) if at is not None]
                median = f"{int(np.median(found)):,}" if found else "never"
                seen.append(f"{len(found) / RELEASES:.0%}, {median}")
            table.add_row(f"{rate:.0%}", f"{level:.1%}", f"{wrong:.1%}", *seen)
    Console().print(table)


if __name__ == "__main__":
    main()
