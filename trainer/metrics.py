"""Every metric of the trainer, declared once. Names are part of the contract: alerts and dashboards use them."""

from __future__ import annotations

import resource
import sys
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from trainer.judge import accuracy, metrics
from trainer.recipe import STEPS, Refit

OUTCOMES: Final = ("accepted", "rejected", "too_little_data", "failed")


class TrainerMetrics:
    """One registry a trainer."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.refits = Counter(
            "kindred_trainer_refits",
            "Refits by their end; failed: could not be begun or ended, and is tried again.",
            ["outcome"],
            registry=registry,
        )
        for outcome in OUTCOMES:
            self.refits.labels(outcome)
        self.last_success = Gauge(
            "kindred_trainer_last_success_timestamp_seconds",
            "When the last refit ended that came to a verdict, since this process began; 0 before the first.",
            registry=registry,
        )
        self.step = Gauge("kindred_trainer_step", "The recipe's step that is under way, 0 for none.", registry=registry)
        self.step_seconds = Gauge(
            "kindred_trainer_step_seconds", "What a step of the last refit took.", ["step"], registry=registry
        )
        self._peak = Gauge(
            "kindred_trainer_peak_bytes", "Most memory that this process has had, resident.", registry=registry
        )
        self.new_events = Gauge(
            "kindred_trainer_new_events", "Records of user-text that the last refit did not see.", registry=registry
        )
        self.window_events = Gauge("kindred_trainer_window_events", "Events of the last window.", registry=registry)
        self.window_users = Gauge("kindred_trainer_window_users", "Users of the last window.", registry=registry)
        self.accuracy = Gauge(
            "kindred_trainer_accuracy",
            "Accuracy(D): label accuracy of the candidate with one text known, mean over the folds.",
            registry=registry,
        )
        self.score = Gauge(
            "kindred_trainer_score",
            "What the last cross-validation found, mean over the folds.",
            ["metric", "contestant"],
            registry=registry,
        )
        self._began = 0.0
        self._now = 0

    def at(self, step: int) -> bool:
        """This step is under way; whether that is new."""
        if step == self._now:
            return False
        self._over()
        self._now, self._began = step, time.monotonic()
        self.step.set(step)
        return True

    def ended(self) -> None:
        """No step is under way, whatever the end was."""
        self._over()
        self._now = 0
        self.step.set(0)

    def came_to(self, done: Refit) -> None:
        """A refit ended with a verdict."""
        self.refits.labels("accepted" if done.verdict.accepted else "rejected").inc()
        self.last_success.set_to_current_time()
        window = done.whole.manifest.window
        if window is not None:
            self.window_events.set(window.events)
            self.window_users.set(window.users)
        if done.made is None:
            return
        self.accuracy.set(accuracy(done.made.validated))
        for name, value in metrics(done.made.validated).items():
            metric, *rest = name.split(".")
            if len(rest) == 2 and rest[1] == "all":
                self.score.labels(metric, rest[0]).set(value)

    def seconds(self) -> dict[str, float]:
        """Of each step of the last refit."""
        found = {sample.labels["step"]: sample.value for sample in next(iter(self.step_seconds.collect())).samples}
        return {step: found[step] for step in STEPS if step in found}

    def _over(self) -> None:
        if self._now:
            self.step_seconds.labels(STEPS[self._now - 1]).set(time.monotonic() - self._began)
        self._peak.set(self.peak_bytes)

    @property
    def peak_bytes(self) -> int:
        """Most memory that this process has had, resident."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
