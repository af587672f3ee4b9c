"""Code that runs in a worker process before the worker does: a `sitecustomize` on its path.

For faults that come from inside of a machine (its clock, another version of the program) and that nobody who is not
root can cause from outside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.fault.processes import ROOT

CLOCK: Final = """
import os, time
_now, _now_ns, _file = time.time, time.time_ns, os.environ["CLOCK_OFF_BY"]
def _off_by():
    with open(_file) as file:
        return int(file.read() or 0)
time.time = lambda: _now() + _off_by()
time.time_ns = lambda: _now_ns() + _off_by() * 10**9
"""
"""The clock is off by as many seconds as the file CLOCK_OFF_BY holds at that moment."""

READS_NEXT_FORMAT: Final = """
import schemas.state as state
_unpack = state.unpack_state
state.unpack_state = lambda data: _unpack(data and bytes([state.FORMAT]) + data[1:])
"""
"""The next version of Kindred, step one: it reads the format of states after today's, and still writes today's."""

WRITES_NEXT_FORMAT: Final = f"{READS_NEXT_FORMAT}\nstate.FORMAT += 1\n"
"""Step two: it writes the next format too."""


def settings(directory: Path, code: str, **variables: str) -> dict[str, str]:
    """Environment of a worker that runs the code first. directory: for its file, made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join((str(directory), str(ROOT))), **variables}
