"""Ends a stack whose supervisor has died: `python -m ops.stack.watchdog DATA_DIR`, standard input from the supervisor.

The supervisor sends one line with all its processes whenever they change. When the pipe closes, the supervisor is gone
(SIGKILL included; the system closes it) and whatever the last line named is ended. An orderly supervisor sends an empty
line of processes first. Works the same on Linux and macOS, which has no parent-death signal.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ops.stack import processes


def main(data_dir: Path) -> int:
    # The terminal's Ctrl-C and hang-up are for the supervisor.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    last: list[processes.Known] = []
    for line in sys.stdin:
        if line.endswith("\n"):  # a line cut off by the supervisor's death says less than the one before it
            last = processes.decode(line)
    if last:
        processes.end(last)
        processes.forget(data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
