"""`/healthz`, `/readyz` and `/metrics` on one port, and what readiness means."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


class Health:
    """What a service says of itself. Written by its threads, read by the HTTP server."""

    def __init__(self) -> None:
        self.state = "starting"
        self._reasons: dict[str, str] = {}
        self._notices: dict[str, str] = {}
        self._lock = threading.Lock()

    def trouble(self, what: str, reason: str) -> bool:
        """Give a reason for not being ready; True when it is a new one."""
        with self._lock:
            new = what not in self._reasons
            self._reasons[what] = reason
            return new

    def clear(self, what: str) -> bool:
        """Take a reason back; True when it was there."""
        if what not in self._reasons:
            return False
        with self._lock:
            return self._reasons.pop(what, None) is not None

    def notice(self, what: str, text: str) -> None:
        """Say something that an operator should know of a service that is ready all the same."""
        with self._lock:
            self._notices[what] = text

    def take_back(self, what: str) -> None:
        """What was said is over, if it was said."""
        with self._lock:
            self._notices.pop(what, None)

    def report(self) -> tuple[bool, dict[str, object]]:
        with self._lock:
            reasons, notices = list(self._reasons.values()), list(self._notices.values())
        ready = self.state == "running" and not reasons
        said: dict[str, object] = {"ready": ready, "state": self.state, "reasons": reasons}
        return ready, said | {"notices": notices} if notices else said


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """A scrape every few seconds is no news."""


def serve(host: str, port: int, registry: CollectorRegistry, health: Health) -> WSGIServer:
    """Start the server in a daemon thread; `server.server_port` is the port taken. Raises OSError when it is in use."""
    scrape = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/healthz":
            return _answer(start_response, True, {"alive": True})
        if path == "/readyz":
            return _answer(start_response, *health.report())
        if path == "/metrics":
            body: Iterable[bytes] = scrape(environ, start_response)
            return body
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there is /metrics, /healthz and /readyz\n"]

    server = make_server(host, port, app, handler_class=_QuietHandler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _answer(start_response: Callable[..., Any], good: bool, body: dict[str, Any]) -> Iterable[bytes]:
    start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
