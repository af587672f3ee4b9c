"""What a long command is at, step by step, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Steps:
    """Called with a step's name, how much is done, and of how much (None where that is not known)."""

    def __init__(self, progress: Progress, what: str = "") -> None:
        self._progress = progress
        self._what = what
        self._tasks: dict[str, TaskID] = {}

    def of(self, what: str) -> Steps:
        """Steps of something else, such as another file."""
        return Steps(self._progress, what)

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if step not in self._tasks:
            for task in self._tasks.values():
                self._progress.stop_task(task)
            self._tasks[step] = self._progress.add_task(f"{self._what}: {step}", total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)


@contextmanager
def steps() -> Iterator[Steps]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Steps(progress)
