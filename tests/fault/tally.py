"""What each fault test did and found, as rows for the table in docs/failures.md.

A test asks for `tally`, names its fault, and ends with the row's audit. KINDRED_FAULT_ROWS names the file that rows are
added to, one JSON object a line; without it nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from ops.audit.report import Report
from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import Stack
from tests.fault.processes import wait_for

RECOVERY_S: Final = 90.0
"""Past it a test fails; what the issue promises is in the table beside what was measured."""


@dataclass(slots=True)
class Row:
    """repetitions: how often the fault happened. events: of the log that the audits compared. recoveries: seconds, see
    `recovered`. audits: how many found nothing. found: what one found, else empty."""

    fault: str
    repetitions: int = 0
    events: int = 0
    audits: int = 0
    recoveries: list[float] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def happened(self, times: int = 1) -> None:
        self.repetitions += times

    def audit(self, stack: Stack, *arguments: Any, **options: Any) -> Report:
        """See tests/fault/comparison.py; notes what it finds before it fails the test."""
        try:
            report = assert_equals_reference(stack, *arguments, **options)
        except AssertionError as error:
            self.found = str(error).splitlines()
            raise
        self.audits += 1
        self.events += sum(stack.ends.values())
        return report

    def recovered(self, stack: Stack, marks: Mapping[int, int], since: float) -> None:
        """Wait until every partition with records behind its mark (what was committed when the fault came) has been
        committed further; notes the seconds since then (by time.monotonic)."""
        behind = {number: mark for number, mark in marks.items() if stack.ends[number] > mark}

        def moved() -> bool:
            now = stack.committed()
            return all(now[number] > mark for number, mark in behind.items())

        wait_for(moved, lambda: f"commits move again, from {behind}, they are {stack.committed()}", RECOVERY_S)
        self.recoveries.append(time.monotonic() - since)


Tally = Callable[[str], Row]


@pytest.fixture
def tally() -> Iterator[Tally]:
    """A function that opens the row of a fault. Rows are written when the test is over, audited or not."""
    rows: list[Row] = []

    def row(fault: str) -> Row:
        rows.append(Row(fault))
        return rows[-1]

    yield row
    for each in rows:
        sys.stdout.write(f"{each}\n")
    file = os.environ.get("KINDRED_FAULT_ROWS")
    if file:
        with Path(file).open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in rows)
