"""Exit codes are a contract with supervisors."""

from __future__ import annotations

from collections.abc import Iterator

from worker.errors import FORCED_EXIT, OperatorNeeded, WorkerError


def kin(error: type[WorkerError]) -> Iterator[type[WorkerError]]:
    yield error
    for child in error.__subclasses__():
        yield from kin(child)


def test_every_kind_of_failure_has_an_exit_code_of_its_own() -> None:
    codes = [error.exit_code for error in kin(WorkerError)] + [FORCED_EXIT, 0]
    assert len(codes) == len(set(codes))


def test_what_needs_an_operator_can_be_told_by_its_code() -> None:
    needed = {error.exit_code for error in kin(OperatorNeeded)}
    others = {error.exit_code for error in kin(WorkerError)} - needed
    assert min(needed) == 64
    assert max(others) < 64
