"""Errors of the commands and of the embedded stack.

OpsError
├── StackError             the embedded stack cannot be started, kept up or ended
│   ├── DataDirInUse       another stack owns the data directory
│   ├── PortInUse          an address that was asked for is taken
│   ├── MissingExtra       the broker or the Redis-compatible server is not installed
│   └── StackFailed        a process did not come up, or ended for a reason that a restart cannot cure
├── NoStack                nothing says where Kafka and Redis are
├── Unreachable            Kafka or Redis did not answer
├── NotAllowed             Kafka refuses TLS, the login or a right
├── ImportFailed           an encoder could not be fetched or converted
├── NotServable            a release is refused or rejected, or where releases are kept does not answer
├── BadInput               a line, a field mapping or an argument that cannot be used
├── NotFound               the user, the release or the dead letter that was named does not exist
└── NoAnswer               what was waited for did not come in time

Each carries what was wrong and a remedy; the command line prints both and exits with `exit_code`.
"""

from __future__ import annotations


class OpsError(Exception):
    """text: what was wrong and where; remedy: what to do about it, "" where the text says all."""

    exit_code = 1

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(f"{text} {remedy}".strip())
        self.text = text
        self.remedy = remedy


class StackError(OpsError):
    pass


class DataDirInUse(StackError):
    pass


class PortInUse(StackError):
    pass


class MissingExtra(StackError):
    pass


class StackFailed(StackError):
    pass


class NoStack(OpsError):
    pass


class Unreachable(OpsError):
    pass


class NotAllowed(OpsError):
    pass


class ImportFailed(OpsError):
    pass


class NotServable(OpsError):
    pass


class BadInput(OpsError):
    exit_code = 2


class NotFound(OpsError):
    pass


class NoAnswer(OpsError):
    pass
