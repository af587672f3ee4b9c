"""A TCP gate before the broker that can hold back what is to be produced, while everything else goes through.

Knows of Kafka's protocol only that a request is its length, its number, and a little further on who sends it.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from struct import unpack, unpack_from
from typing import Final

from ops.stack.ports import HOST

FREE: Final = "free"
"""client_id of a producer that is never held back."""

_PRODUCE: Final = 0
_CLIENT: Final = 6
"""Where the client_id begins in what follows length and number: after version and correlation id."""
_PIECE: Final = 65_536


class Gate:
    """Open at first. Clients connect to `address`; `hold` keeps their produce requests until `release`.

    A connection whose request is kept gets no other through either, as with a broker that acknowledges slowly.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def serve(self, broker_port: int) -> None:
        """Pass connections on to the broker, from now on."""
        self._run(self._accept, broker_port)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.release()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self, broker_port: int) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection((HOST, broker_port))
                self._sockets += client, broker
                self._run(self._requests, client, broker)
                self._run(self._answers, broker, client)

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError), client.makefile("rb") as requests:
            while len(head := requests.read(6)) == 6:
                length, number = unpack(">ih", head)
                body = requests.read(length - 2)
                if number == _PRODUCE and not _sender(body).startswith(FREE):
                    self._open.wait()
                broker.sendall(head + body)
        _hang_up(broker)

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := broker.recv(_PIECE):
                client.sendall(piece)
        _hang_up(client)

    def _run(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _sender(body: bytes) -> str:
    (length,) = unpack_from(">h", body, _CLIENT)
    return body[_CLIENT + 2 : _CLIENT + 2 + max(0, length)].decode()


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
