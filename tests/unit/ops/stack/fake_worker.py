"""A worker as the supervisor sees it: serves /readyz, drains on SIGTERM, ends with the exit code it is told to.

FAKE_EXIT: end at once with this code. FAKE_NEVER_READY: /readyz says 503. Knows nothing of Kafka and Redis.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = "FAKE_NEVER_READY" not in os.environ
        reasons = [] if ready else ["the model is still loading"]
        body = json.dumps({"ready": ready, "state": "running" if ready else "loading", "reasons": reasons}).encode()
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class')
        """Quiet: the log is for what a test looks for."""


def main() -> int:
    code = os.environ.get("FAKE_EXIT")
    if code is not None:
        sys.stderr.write("first line\nuser-text is compacted: create it anew without compaction\n")
        return int(code)
    server = HTTPServer(("127.0.0.1", int(os.environ["KINDRED_METRICS_PORT"])), Health)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.01)
    sys.stderr.write("drained\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
