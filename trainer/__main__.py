"""`python -m trainer [--once]`: settings → service, or one refit → table → exit code (see trainer/errors.py).

Under torchrun process 0 is all that; the others take part in the fits that it hands out, and end when it does.
"""

from __future__ import annotations

import os

# Before numpy is loaded: a replay asks one question at a time of small matrices, and the second thread spins while it
# waits (6.3 s of CPU for one over 5,771 posts, 10 to 14 with two).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from model.errors import ModelError
from model.health import Health, serve
from model.kafka.base import BrokerRefused, BrokerUnavailable
from schemas.settings import SettingsError, read_settings
from trainer.app import following, limits, refit_due, run_once
from trainer.errors import BadSettings, Refused, TrainerError, Unready
from trainer.fit.jobs import leading, take_part
from trainer.fit.training import started
from trainer.metrics import TrainerMetrics
from trainer.page.write import Run, write_page
from trainer.recipe import STEPS, Refit
from trainer.report import show
from trainer.service import Service
from trainer.settings import TrainerSettings
from trainer.watch import Watch

log = logging.getLogger("trainer")


class Bars:
    """A bar a step on a terminal, a line a step in a log."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._terminal = console.is_terminal
        self._tasks: dict[int, TaskID] = {}

    def __call__(self, step: int, done: int, of: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(f"{step} {STEPS[step - 1]}", total=of)
            if not self._terminal:
                log.info("step %d, %s", step, STEPS[step - 1])
        self._progress.update(self._tasks[step], completed=done, total=of)


def main(arguments: Sequence[str], stop: threading.Event | None = None) -> int:
    """stop: ends it at the next piece of work; set by SIGTERM."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it retries by itself; we report what we see of it
    once = list(arguments) == ["--once"]
    if arguments and not once:
        log.error("%s is not an option; there is --once", " ".join(arguments))
        return BadSettings.exit_code
    stop = stop or threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() or once:
            raise SystemExit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    try:
        settings = _settings()
        logging.getLogger().setLevel(settings.log_level)
        if started()[0] > 0:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)  # a step of a fit under way listens to no handler
            take_part()
            return 0
        with leading():
            if once:
                _once(settings)
            else:
                _serve(settings, stop)
        return 0
    except TrainerError as error:
        log.error("%s", error)
        return error.exit_code
    except BrokerRefused as error:
        log.error("%s", error)
        return Refused.exit_code
    except (ModelError, BrokerUnavailable) as error:
        log.error("%s", error)
        return Unready.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("the trainer stops on an error that it does not know; please report it")
        return TrainerError.exit_code


def _settings() -> TrainerSettings:
    try:
        return read_settings(TrainerSettings)
    except SettingsError as error:
        raise BadSettings(f"{error} (see docs/configuration.md)") from None


def _once(settings: TrainerSettings) -> None:
    console, metrics = Console(stderr=True), TrainerMetrics()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = Bars(progress, console)

        def tell(step: int, done: int, of: int) -> None:
            metrics.at(step)
            bars(step, done, of)

        done = run_once(settings, tell, lambda: False)
    metrics.ended()
    _show(done, metrics, settings)


def _show(done: Refit, metrics: TrainerMetrics, settings: TrainerSettings) -> None:
    run = Run(done, metrics.seconds(), metrics.peaks(), limits(settings))
    show(done, run.seconds, metrics.peak_bytes, write_page(settings.release_place, run), Console())


def _serve(settings: TrainerSettings, stop: threading.Event) -> None:
    metrics, health = TrainerMetrics(), Health()
    host, port = settings.trainer_metrics_host, settings.trainer_metrics_port
    try:
        server = serve(host, port, metrics.registry, health)
    except OSError as error:
        raise BadSettings(
            f"KINDRED_TRAINER_METRICS_PORT {port} on {host} cannot be taken ({error.strerror}); 0 takes a free one"
        ) from error
    log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    try:
        with Watch(partial(following, settings), metrics.online.show, health):
            Service(
                due=lambda: refit_due(settings, metrics.new_events.set, stop.is_set),
                refit=lambda tell: run_once(settings, tell, stop.is_set),
                shown=lambda done: _show(done, metrics, settings),
                metrics=metrics,
                health=health,
                look_seconds=settings.refit_look_seconds,
                stop=stop,
            ).run()
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
