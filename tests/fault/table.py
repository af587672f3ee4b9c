"""`python -m tests.fault.table ROWS`: the rows that fault tests left (see tests/fault/tally.py) as a Markdown table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.fault.tally import Row

HEAD: Final = (
    "| fault | times | events | lost | doubled | missing | seconds until commits moved again |\n"
    "|---|--:|--:|--:|--:|--:|---|"
)


def main() -> None:
    (file,) = sys.argv[1:]
    rows = [Row(**json.loads(line)) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    sys.stdout.write("\n".join([HEAD, *map(_line, _together(rows))]) + "\n")


def _together(rows: Iterable[Row]) -> list[Row]:
    """One row a fault, however many tests it had."""
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.fault):
        whole = found.setdefault(row.fault, Row(row.fault))
        whole.repetitions += row.repetitions
        whole.events += row.events
        whole.audits += row.audits
        whole.recoveries += row.recoveries
        whole.found += row.found if row.found or row.audits else ["a test did not come to its audit"]
    return list(found.values())


def _line(row: Row) -> str:
    """lost, doubled and missing are what an audit looks for: all three are 0 where every one found nothing."""
    verdict = f"{row.found[0]} | |" if row.found else "0 | 0 | 0"
    return f"| {row.fault} | {row.repetitions:,} | {row.events:,} | {verdict} | {_seconds(row.recoveries)} |"


def _seconds(measured: list[float]) -> str:
    if not measured:
        return ""
    ordered = sorted(measured)
    if len(ordered) == 1:
        return f"{ordered[0]:.1f}"
    return f"median {ordered[len(ordered) // 2]:.1f}, most {ordered[-1]:.1f}"


if __name__ == "__main__":
    main()
