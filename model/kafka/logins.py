"""Logins that Kafka refused, as kafka-python's log tells them.

After a refused login kafka-python 3.0.12 goes on trying until its time to connect is over, raises then that it could
not bootstrap, and tells the reason only in its log. Importing this module keeps that log from anybody else.
"""

from __future__ import annotations

import logging
from typing import Final

from kafka.errors import KafkaError, SaslAuthenticationFailedError, UnsupportedSaslMechanismError


class _Refused(logging.Handler):
    """Keeps the last login that was refused, until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._error: KafkaError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        for part in record.args if isinstance(record.args, tuple) else ():
            if isinstance(part, SaslAuthenticationFailedError | UnsupportedSaslMechanismError):
                self._error = part

    def take(self) -> KafkaError | None:
        error, self._error = self._error, None
        return error


_refused: Final = _Refused()
_log: Final = logging.getLogger("kafka.net.manager")
_log.addHandler(_refused)
_log.setLevel(logging.WARNING)
_log.propagate = False


def refused_login() -> KafkaError | None:
    """The refusal that was told since the last call, if any."""
    return _refused.take()
