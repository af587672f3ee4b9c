from __future__ import annotations

import math

import pytest
from prometheus_client import generate_latest

from trainer.compare import Comparison, Tally, difference
from trainer.follow import Figures
from trainer.metrics import OUTCOMES, TrainerMetrics
from trainer.recipe import STEPS


def test_every_outcome_is_there_before_the_first_refit() -> None:
    """A rate over a counter that appears with its first failure would not see that one."""
    metrics = TrainerMetrics()
    for outcome in OUTCOMES:
        assert metrics.registry.get_sample_value("kindred_trainer_refits_total", {"outcome": outcome}) == 0


def test_a_step_is_timed_from_its_beginning_to_that_of_the_next_one() -> None:
    metrics = TrainerMetrics()
    assert metrics.at(1)
    assert not metrics.at(1)
    assert metrics.seconds() == {}
    assert metrics.at(2)
    assert list(metrics.seconds()) == [STEPS[0]]
    metrics.ended()
    assert list(metrics.seconds()) == [STEPS[0], STEPS[1]]
    assert metrics.peak_bytes > 1_000_000
    assert metrics.registry.get_sample_value("kindred_trainer_step") == 0
    assert metrics.at(1), "the next refit begins anew"


def online(metrics: TrainerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"kindred_online_{name}", labels)


def test_what_answers_led_to_is_told_by_release_and_gone_with_it() -> None:
    metrics = TrainerMetrics()
    good, bad = Tally(400, 200, 100, 30), Tally(300, 200, 10, 40)
    compared = Comparison("bad", "good", difference(bad, good))
    metrics.online.show(Figures({"bad": bad, "good": good}, compared, 5_000))
    assert online(metrics, "newcomers", release="good") == 400
    assert online(metrics, "questions", release="bad") == 200
    assert online(metrics, "hits", release="bad") == 10
    assert online(metrics, "popular_hits", release="bad") == 40
    assert online(metrics, "hit_rate", release="good") == 0.5
    assert online(metrics, "worse", release="bad", before="good") == 1
    assert online(metrics, "difference", release="bad", before="good") == pytest.approx(-0.45)
    assert -0.45 < (online(metrics, "difference_high", release="bad", before="good") or 0) < 0
    assert online(metrics, "until_timestamp_seconds") == 5
    metrics.online.show(Figures({"good": good}, None, 6_000))
    assert online(metrics, "hits", release="good") == 100
    assert online(metrics, "hits", release="bad") is None
    assert online(metrics, "worse", release="bad", before="good") is None


def test_too_few_questions_call_no_release_worse() -> None:
    metrics = TrainerMetrics()
    metrics.online.show(Figures({"new": Tally()}, Comparison("new", "old", None), 5_000))
    assert online(metrics, "worse", release="new", before="old") == 0
    assert math.isnan(online(metrics, "difference", release="new", before="old") or 0)
    assert math.isnan(online(metrics, "hit_rate", release="new") or 0)


def test_names_begin_alike_and_every_metric_is_explained() -> None:
    text = generate_latest(TrainerMetrics().registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert names
    assert all(name.startswith(("kindred_trainer_", "kindred_online_")) for name in names)
    assert all(len(line.split(maxsplit=3)) == 4 for line in text.splitlines() if line.startswith("# HELP"))
