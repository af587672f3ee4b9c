"""What stops a worker, and with which exit code.

    WorkerError                1   unexpected; the supervisor may restart it
    ├── Unready                 3   the model could not be loaded at start, or the disk for its release not be written
    └── OperatorNeeded          64  a restart will not help; the message says what will
        ├── BadSettings         65
        ├── WrongLog            66  the topic was made anew, or its log ends before what Redis has seen
        ├── SharedGroup         67  two stacks (two Redis) use one consumer group
        ├── WrongStore          68  another number of shards, a maxmemory policy that evicts, a newer state format, or
        │                           Redis refuses TLS, the login or a right
        ├── WrongTopic          69  a topic is missing, `user-text` is compacted, or records are refused for their size
        ├── Refused             71  Kafka refuses the login, or a right is missing
        └── Displaced           72  another worker has taken this one's slot in the group

Exit code 0 is a clean end (SIGTERM and drained), 70 a second signal that cut the drain short.
"""

from __future__ import annotations

from typing import ClassVar, Final

FORCED_EXIT: Final = 70


class WorkerError(Exception):
    exit_code: ClassVar[int] = 1


class Unready(WorkerError):
    exit_code = 3


class OperatorNeeded(WorkerError):
    exit_code = 64


class BadSettings(OperatorNeeded):
    exit_code = 65


class WrongLog(OperatorNeeded):
    exit_code = 66


class SharedGroup(OperatorNeeded):
    exit_code = 67


class WrongStore(OperatorNeeded):
    exit_code = 68


class WrongTopic(OperatorNeeded):
    exit_code = 69


class Refused(OperatorNeeded):
    exit_code = 71


class Displaced(OperatorNeeded):
    exit_code = 72
