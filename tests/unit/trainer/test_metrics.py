from __future__ import annotations

from prometheus_client import generate_latest

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


def test_names_begin_alike_and_every_metric_is_explained() -> None:
    text = generate_latest(TrainerMetrics().registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert names
    assert all(name.startswith("kindred_trainer_") for name in names)
    assert all(len(line.split(maxsplit=3)) == 4 for line in text.splitlines() if line.startswith("# HELP"))
