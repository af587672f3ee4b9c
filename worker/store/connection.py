"""The connection to Redis: commands out in one round trip, answers or a store error back.

Knows no key and no rule. It never repeats a command that may have taken effect; a script that Redis has forgotten (a
restart, SCRIPT FLUSH) has not run, so that one is loaded and called again.

Error texts name the server and Redis' own code and words, never arguments of a command: those hold users' strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from ssl import SSLEOFError, SSLError, SSLZeroReturnError
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from worker.store.base import StoreError, StoreRefused, StoreUnavailable

Command = Sequence[bytes | str | int]
"""Its name in bytes: redis-py then hands back what Redis said as it came, the same in all its versions."""

TIMEOUT_S: Final = 10.0
"""Redis answers a batch in milliseconds; a pause this long is a stall (fsync, fork, network)."""

CONNECT_S: Final = 5.0
HEALTH_CHECK_S: Final = 15
"""A connection idle this long is tried with PING first: a server or proxy may have dropped it without a word."""

_FOR_NOW: Final = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
_FOR_NOW_CODES: Final = {"BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE"}
"""With these Redis refuses a command without running it, and they pass without a change of settings. LOADING is a
ConnectionError to redis-py, MASTERDOWN a ClusterDownError; the codes have no class there."""


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields and values of a hash, as HGETALL and HSCAN give them in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script of this package, with the SHA1 by which Redis knows it."""

    text: bytes
    sha: str

    @classmethod
    def read(cls, name: str) -> Script:
        text = files("worker.store").joinpath(name).read_bytes()
        return cls(text, sha1(text, usedforsecurity=False).hexdigest())


class Connection:
    """A pool of connections to one server; every method may be called from any thread."""

    def __init__(self, url: str) -> None:
        """Makes no connection yet. Raises StoreRefused for a URL that cannot be read."""
        try:
            self._client = redis.Redis.from_url(
                url, decode_responses=False, protocol=2, socket_timeout=TIMEOUT_S, socket_connect_timeout=CONNECT_S,
                health_check_interval=HEALTH_CHECK_S, retry=Retry(NoBackoff(), 0),
            )  # fmt: skip
        except ValueError as error:
            raise StoreRefused(
                "the Redis URL cannot be read; it looks like redis://user:password@host:6379/0, rediss://… or unix://…"
            ) from error
        where = self._client.connection_pool.connection_kwargs
        self.server: str = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to all commands, sent in one round trip.

        Raises StoreUnavailable or StoreRefused for the first command that failed; the others may have taken effect.
        """
        answers = self._send(commands)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise self._translated(answer) from answer
        return answers

    def run(self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]) -> list[Any]:
        """The answers of a script to calls (KEYS, ARGV), all in one round trip. Raises like `ask`."""
        commands: list[Command] = [(b"EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
        answers = self._send(commands)
        forgotten = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if forgotten:
            again = self._send([(b"SCRIPT", b"LOAD", script.text), *(commands[n] for n in forgotten)])
            if isinstance(again[0], RedisError):
                raise self._translated(again[0]) from again[0]
            for n, answer in zip(forgotten, again[1:], strict=True):
                answers[n] = answer
        for answer in answers:
            if isinstance(answer, RedisError):
                raise self._translated(answer) from answer
        return answers

    def close(self) -> None:
        self._client.close()

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answer or the error of each command.

        Not redis-py's pipeline: that packs everything before it sends anything, so that the server waits for the client
        and then the client for the server. Sent one by one, the server works while the next is packed.
        """
        with self._errors():
            pool = self._client.connection_pool
            connection: Any = pool.get_connection()
            try:
                for command in commands:
                    connection.send_command(*command)
                return [_answer(connection) for _ in commands]
            except BaseException:
                # Answers that were not read must not be taken for those of the next call.
                connection.disconnect()
                raise
            finally:
                pool.release(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, InvalidResponse, ResponseError, OSError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> StoreError:
        words = str(error)
        # An unknown command is repeated with what follows it, which may be a password.
        words = words.partition(", with args beginning with")[0]
        if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return StoreRefused(
                f"Redis at {self.server} does not let this worker in: {words}; check user and password in the Redis "
                "URL and the user's ACL (docs/security.md has the line that a worker needs)"
            )
        if _tls_failed(error):
            return StoreRefused(
                f"TLS with Redis at {self.server} fails: {words}; check that ssl_ca_certs in the Redis URL is the file "
                "of the authority that signed its certificate, that this is its name, and that it speaks TLS there"
            )
        passes = isinstance(error, _FOR_NOW) or words.split(" ", 1)[0] in _FOR_NOW_CODES
        if isinstance(error, ResponseError) and not passes:
            return StoreRefused(
                f"Redis at {self.server} cannot do what Kindred asks: {words}; it needs Redis 7 or Valkey 8 or newer, "
                "and keys under kindred: that only Kindred writes"
            )
        return StoreUnavailable(f"Redis at {self.server} did not serve a call ({type(error).__name__}): {words}")


def _tls_failed(error: BaseException | None) -> bool:
    """Whether TLS is why there is no connection; a server that hangs up while it starts or ends is not meant."""
    while error is not None:
        if isinstance(error, SSLError):
            return not isinstance(error, SSLEOFError | SSLZeroReturnError)
        error = error.__cause__ or error.__context__
    return False


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
