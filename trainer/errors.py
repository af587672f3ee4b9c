"""What stops a trainer, and with which exit code.

    TrainerError               1   unexpected; the supervisor may restart it
    ├── Unready                 3   Kafka or the releases do not answer, or the encoder could not be loaded
    ├── TurnLost                4   another trainer took over while this one did not answer; nothing was announced
    ├── Stopped                 5   told to stop in the middle of a refit, which the next one goes on with
    ├── TooLittleData           10  the window holds too little to learn from; nothing was published
    └── OperatorNeeded          64  a restart will not help; the message says what will
        ├── BadSettings         65
        ├── WrongTopic          69  the topic that is to be learned from does not exist
        ├── Refused             71  Kafka refuses the login, or a right is missing
        └── WindowUnusable      73  the file of the window cannot be read or written

Exit code 0 is a run that ended, whatever its verdict, and a trainer that refits again and again and was told to stop.
"""

from __future__ import annotations

from typing import ClassVar


class TrainerError(Exception):
    exit_code: ClassVar[int] = 1


class Unready(TrainerError):
    exit_code = 3


class TurnLost(TrainerError):
    exit_code = 4


class Stopped(TrainerError):
    exit_code = 5


class TooLittleData(TrainerError):
    exit_code = 10


class OperatorNeeded(TrainerError):
    exit_code = 64


class BadSettings(OperatorNeeded):
    exit_code = 65


class Refused(OperatorNeeded):
    exit_code = 71


class WrongTopic(OperatorNeeded):
    exit_code = 69


class WindowUnusable(OperatorNeeded):
    exit_code = 73
