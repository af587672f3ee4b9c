"""Ports of 127.0.0.1: free ones, and whether one that was asked for is taken."""

from __future__ import annotations

import random
import socket
from typing import Final

from ops.errors import PortInUse

HOST: Final = "127.0.0.1"

LOWEST: Final = 15_000
HIGHEST: Final = 32_000
"""Below the range that Linux (32768) and macOS (49152) give to outgoing connections: while a server restarts on its
port, no client can be handed that port, or even connect to itself through it."""


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without SO_REUSEADDR a port is "taken" for a minute by connections that have already ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Does something accept connections there?"""
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def claim(asked: int, what: str, taken: set[int]) -> int:
    """The port that was asked for, or any free one for 0; adds it to `taken`. Raises PortInUse."""
    if asked:
        if asked in taken or not is_free(asked):
            raise PortInUse(
                f"Port {asked} of {HOST}, asked for as the {what} port, is in use.",
                f"End what listens there (`lsof -i :{asked}` names it), or leave the option out.",
            )
        taken.add(asked)
        return asked
    numbers = random.SystemRandom()
    for _ in range(1_000):
        port = numbers.randint(LOWEST, HIGHEST)
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise PortInUse(f"No free port between {LOWEST} and {HIGHEST} for {what}.", "End programs that listen there.")
