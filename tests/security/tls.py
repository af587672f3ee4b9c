"""TLS in front of a server that has none: the Redis-compatible servers that come as wheels are built without."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

_PIECE: Final = 65_536
_TICK: Final = 0.2
"""Seconds between two looks whether the test has ended."""


@dataclass(frozen=True, slots=True)
class TlsFront:
    """ca: PEM file of the authority that signed its certificate, which names 127.0.0.1 only; other_ca: of another."""

    port: int
    ca: Path
    other_ca: Path


@contextmanager
def tls_front(directory: Path, port: int) -> Iterator[TlsFront]:
    """Passes on to `port` what comes by TLS."""
    authority = trustme.CA()
    ca, other_ca = directory / "ca.pem", directory / "other-ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    trustme.CA().cert_pem.write_to_path(str(other_ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TICK)
        accepting = threading.Thread(target=_accept, args=(listener, context, port, ended))
        accepting.start()
        try:
            yield TlsFront(listener.getsockname()[1], ca, other_ca)
        finally:
            ended.set()
            accepting.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int, ended: threading.Event) -> None:
    threads = []
    while not ended.is_set():
        with suppress(TimeoutError):
            plain, _ = listener.accept()
            thread = threading.Thread(target=_serve, args=(plain, context, port, ended))
            thread.start()
            threads.append(thread)
    for thread in threads:
        thread.join()


def _serve(plain: socket.socket, context: ssl.SSLContext, port: int, ended: threading.Event) -> None:
    with contextlib.ExitStack() as ends, suppress(OSError):
        ends.enter_context(plain)
        plain.settimeout(5.0)
        client = ends.enter_context(context.wrap_socket(plain, server_side=True))
        server = ends.enter_context(socket.create_connection(("127.0.0.1", port)))
        while not ended.is_set():
            ready = [client] if client.pending() else select.select([client, server], [], [], _TICK)[0]
            for source in ready:
                data = source.recv(_PIECE)
                if not data:
                    return
                (server if source is client else client).sendall(data)
