"""A TCP proxy between a worker and a service: the network, to be cut, stalled, slowed and led elsewhere.

Knows nothing of what goes through it.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Final

from ops.stack.ports import HOST

_PIECE: Final = 65_536


class Proxy:
    """Clients connect to `address`; each connection is passed on to the port that `lead_to` named last."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._port = 0
        self._cut = False
        self._delay = 0.0
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._run(self._accept)

    def lead_to(self, port: int) -> None:
        """Connections that are there stay where they are."""
        self._port = port

    def cut(self) -> None:
        """Every connection breaks, and new ones break at once, until `mend`."""
        self._cut = True
        self._hang_up()

    def stall(self) -> None:
        """Connections stay, and nothing gets through, until `mend`."""
        self._flows.clear()

    def slow(self, seconds: float) -> None:
        """Every piece of up to 64 KiB takes so much longer, either way, until `mend`."""
        self._delay = seconds

    def mend(self) -> None:
        self._cut, self._delay = False, 0.0
        self._flows.set()

    def close(self) -> None:
        self._cut = True
        self._flows.set()
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            ends, self._sockets = self._sockets, set()
        for end in ends:
            _shut(end)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    if self._cut:
                        raise ConnectionError("cut")
                    server = socket.create_connection((HOST, self._port), timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._sockets |= {client, server}
                self._run(self._pump, client, server)
                self._run(self._pump, server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                if self._delay:
                    time.sleep(self._delay)
                self._flows.wait()
                sink.sendall(piece)
        for end in (source, sink):
            _shut(end)
        with self._lock:
            self._sockets -= {source, sink}

    def _run(self, target: object, *arguments: object) -> None:
        assert callable(target)
        threading.Thread(target=target, args=arguments, daemon=True).start()


def _shut(end: socket.socket) -> None:
    """Wakes whoever waits on it; the socket itself is closed with its last user."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
