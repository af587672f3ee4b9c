"""A detached supervisor: `python -m ops.stack PLAN FD`, FD is the pipe on which it says how it went."""

from __future__ import annotations

import sys

from ops.stack.detach import serve
from ops.stack.plan import StackPlan

if __name__ == "__main__":
    sys.exit(serve(StackPlan.decode(sys.argv[1]), int(sys.argv[2])))
