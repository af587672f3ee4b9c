"""`python -m worker`: settings → build → signals → run → exit code (see worker/errors.py)."""

from __future__ import annotations

import os

# Before numpy is loaded: the small products of transfer gain nothing from more threads, and OpenBLAS' waiting threads
# spin: with two of them a worker with the dummy encoder took 637 µs of CPU an event instead of 375.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import logging
import signal
import sys
from types import FrameType
from typing import Final

from model.errors import ModelError
from model.health import Health, serve
from schemas.settings import SettingsError, read_settings
from worker.app import build
from worker.broker.base import BrokerRefused, BrokerUnavailable, SlotTaken
from worker.errors import FORCED_EXIT, BadSettings, Displaced, Refused, Unready, WorkerError, WrongStore
from worker.metrics import Metrics
from worker.service import Service
from worker.settings import WorkerSettings
from worker.store.base import StoreRefused, StoreUnavailable

log = logging.getLogger("worker")

GC_THRESHOLDS: Final = (50_000, 20, 20)
"""A batch makes some ten thousand objects that die with it, by reference count; cycles are rare."""


def main() -> int:
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it retries by itself; we report what we see of it
    try:
        settings = _settings()
        logging.getLogger().setLevel(settings.log_level)
        return _run(settings)
    except WorkerError as error:
        log.error("%s", error)
        return error.exit_code
    except (ModelError, BrokerUnavailable, StoreUnavailable) as error:
        log.error("%s", error)
        return Unready.exit_code
    except StoreRefused as error:
        log.error("%s", error)
        return WrongStore.exit_code
    except BrokerRefused as error:
        log.error("%s", error)
        return Refused.exit_code
    except SlotTaken as error:
        log.error("%s", error)
        return Displaced.exit_code
    except Exception:
        log.exception("the worker stops on an error that it does not know; please report it")
        return WorkerError.exit_code


def _settings() -> WorkerSettings:
    try:
        return read_settings(WorkerSettings)
    except SettingsError as error:
        raise BadSettings(f"{error} (see docs/configuration.md)") from None


def _run(settings: WorkerSettings) -> int:
    metrics, health = Metrics(), Health()
    try:
        server = serve(settings.metrics_host, settings.metrics_port, metrics.registry, health)
    except OSError as error:
        raise BadSettings(
            f"KINDRED_METRICS_PORT {settings.metrics_port} on {settings.metrics_host} cannot be taken "
            f"({error.strerror}); 0 takes a free one"
        ) from error
    log.info("metrics on http://%s:%d/metrics", settings.metrics_host, server.server_port)
    running: list[Service] = []
    asked = [0]

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        asked[0] += 1
        if asked[0] > 1 or not running:
            os._exit(FORCED_EXIT if asked[0] > 1 else 0)
        running[0].stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    service = build(settings, metrics, health)
    running.append(service)
    try:
        service.start()
        # What is loaded by now stays: full collections would walk over it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        service.run()
        log.info("drained, leaving")
        return 0
    finally:
        service.close()


if __name__ == "__main__":
    sys.exit(main())
