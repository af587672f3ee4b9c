"""Every metric of the trainer, declared once. Names are part of the contract: alerts and dashboards use them."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from trainer.follow import Figures
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
        self.online = OnlineMetrics(registry)
        self._peaks: dict[str, int] = {}
        self._began = 0.0
        self._now = 0

    def begins(self) -> None:
        """A refit begins: what its steps take is not yet known."""
        self.step_seconds.clear()
        self._peaks.clear()

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

    def peaks(self) -> dict[str, int]:
        """Of each step of the last refit, the most memory that this process had had when it was over, bytes."""
        return dict(self._peaks)

    def seconds(self) -> dict[str, float]:
        """Of each step of the last refit."""
        found = {sample.labels["step"]: sample.value for sample in next(iter(self.step_seconds.collect())).samples}
        return {step: found[step] for step in STEPS if step in found}

    def _over(self) -> None:
        if self._now:
            self.step_seconds.labels(STEPS[self._now - 1]).set(time.monotonic() - self._began)
            self._peaks[STEPS[self._now - 1]] = self.peak_bytes
        self._peak.set(self.peak_bytes)

    @property
    def peak_bytes(self) -> int:
        """Most memory that this process has had, resident."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class OnlineMetrics:
    """What answers led to. Gauges and no counters: they are of a window of days that moves on, and a trainer that
    starts reads it anew, so that nothing is counted twice."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def made(name: str, text: str, *labels: str) -> _Told:
            return _Told(Gauge(f"kindred_online_{name}", text, labels, registry=registry))

        self._newcomers = made(
            "newcomers", "Newcomers of the window whose first answer is so old that it is judged.", "release"
        )
        self._questions = made("questions", "Those of them who took an item new to them in time.", "release")
        self._hits = made("hits", "Questions whose answer had such an item among its ten best.", "release")
        self._popular_hits = made(
            "popular_hits", "The same questions, where one was among the ten most popular items.", "release"
        )
        self._hit_rate = made("hit_rate", "hit@10: hits by questions; not a number before the first one.", "release")
        self._difference = made(
            "difference",
            "hit@10 of the release in service less that of the one before; not a number while too few were asked.",
            "release",
            "before",
        )
        self._difference_high = made(
            "difference_high", "The upper end of its confidence interval.", "release", "before"
        )
        self._worse = made("worse", "1 where even that is below 0, else 0.", "release", "before")
        self._until = Gauge(
            "kindred_online_until_timestamp_seconds", "Up to when the log is judged; 0 at first.", registry=registry
        )

    def show(self, figures: Figures) -> None:
        found = {(release,): tally for release, tally in figures.tallies.items()}
        self._newcomers.tell({key: tally.newcomers for key, tally in found.items()})
        self._questions.tell({key: tally.questions for key, tally in found.items()})
        self._hits.tell({key: tally.hits for key, tally in found.items()})
        self._popular_hits.tell({key: tally.popular_hits for key, tally in found.items()})
        self._hit_rate.tell({key: tally.hit_rate for key, tally in found.items()})
        one = figures.comparison
        pair = () if one is None else ((one.current, one.before),)
        told = None if one is None else one.difference
        self._difference.tell(dict.fromkeys(pair, math.nan if told is None else told.mean))
        self._difference_high.tell(dict.fromkeys(pair, math.nan if told is None else told.high))
        self._worse.tell(dict.fromkeys(pair, told is not None and told.worse))
        self._until.set(figures.until_ms / 1000)


class _Told:
    """A gauge with the series that were told last, and no others. No scrape in between finds none of them: that would
    end an alert."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._labels: set[tuple[str, ...]] = set()

    def tell(self, values: Mapping[tuple[str, ...], float]) -> None:
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        for gone in self._labels - values.keys():
            self._gauge.remove(*gone)
        self._labels = set(values)
