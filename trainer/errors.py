"""What stops a trainer, and with which exit code.

    TrainerError               1   unexpected; the supervisor may restart it
    ├── TooLittleData           10  the window holds too little to learn from; nothing was published
    └── OperatorNeeded          64  a restart will not help; the message says what will
        ├── WrongTopic          69  the topic that is to be learned from does not exist
        └── WindowUnusable      73  the file of the window cannot be read or written

Exit code 0 is a run that ended, whatever its verdict. model/kafka/base.py has what may be tried again, and what Kafka
refuses.
"""

from __future__ import annotations

from typing import ClassVar


class TrainerError(Exception):
    exit_code: ClassVar[int] = 1


class TooLittleData(TrainerError):
    exit_code = 10


class OperatorNeeded(TrainerError):
    exit_code = 64


class WrongTopic(OperatorNeeded):
    exit_code = 69


class WindowUnusable(OperatorNeeded):
    exit_code = 73
