from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tenacity import wait_none

from model.errors import ReleasesUnreachable
from model.fetch import Whole
from model.health import Health
from model.kafka.base import BrokerRefused, BrokerUnavailable
from schemas.release import EncoderEntry, Manifest, Verdict
from trainer.errors import TooLittleData, TurnLost, WrongTopic
from trainer.metrics import OUTCOMES, TrainerMetrics
from trainer.recipe import STEPS, Refit
from trainer.service import Service

Tell = Callable[[int, int, int], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.service.wait_random_exponential", lambda **_: wait_none())


def ended(*, accepted: bool = True) -> Refit:
    verdict = Verdict(accepted=accepted)
    manifest = Manifest(
        name="r1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        space="s",
        encoder=EncoderEntry(name="dummy", dimension=64, max_tokens=8, pooling="sum", cleaning=1, reference="dummy"),
        verdict=verdict,
    )
    return Refit(Whole(Path("r1"), manifest, "0" * 64), verdict, None, accepted)


class World:
    """A service whose refits end as `ends` says, one after the other; it is stopped with the last one. looks: how the
    first looks whether one is due end."""

    def __init__(self, *ends: Refit | Exception | Callable[[Tell], Refit], looks: Sequence[Exception] = ()) -> None:
        self.stop, self.health, self.metrics = threading.Event(), Health(), TrainerMetrics()
        self.shown: list[Refit] = []
        self.took: list[set[str]] = []
        """The steps whose times were known when a refit was shown."""
        self.readiness: list[bool] = []
        self._ends = list(ends)
        self._looks = list(looks)
        self.service = Service(
            due=self._is_due,
            refit=self._refit,
            shown=self._show,
            metrics=self.metrics,
            health=self.health,
            look_seconds=0,
            stop=self.stop,
        )

    def _is_due(self) -> str | None:
        if self._looks:
            raise self._looks.pop(0)
        self.readiness.append(self.health.report()[0])
        if not self._ends:
            self.stop.set()
            return None
        return "it is time"

    def _show(self, done: Refit) -> None:
        self.shown.append(done)
        self.took.append(set(self.metrics.seconds()))

    def _refit(self, tell: Tell) -> Refit:
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end if isinstance(end, Refit) else end(tell)

    def run(self) -> dict[str, float]:
        """Until it has stopped; how often refits ended in each way."""
        self.service.run()
        return {
            outcome: value
            for outcome in OUTCOMES
            if (value := self.metrics.registry.get_sample_value("kindred_trainer_refits_total", {"outcome": outcome}))
        }


def test_refits_follow_each_other_and_are_counted_by_their_verdict_and_shown() -> None:
    world = World(ended(), ended(accepted=False), ended())
    assert world.run() == {"accepted": 2, "rejected": 1}
    assert len(world.shown) == 3


def test_a_refit_is_shown_with_the_times_of_all_its_steps_and_of_no_other_refit() -> None:
    def whole(tell: Tell) -> Refit:
        for step in range(1, len(STEPS) + 1):
            tell(step, 0, 1)
        return ended()

    def only_announced(tell: Tell) -> Refit:
        tell(1, 0, 1)
        tell(7, 0, 1)
        return ended()

    world = World(whole, only_announced)
    world.run()
    assert world.took == [set(STEPS), {"window", "announce"}]


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), ReleasesUnreachable("away"), TurnLost("x"), OSError("x")])
def test_what_passes_is_tried_again_and_is_not_ready_meanwhile(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(error, error, ended())
    assert world.run() == {"accepted": 1, "failed": 2}
    assert world.readiness == [True, False, False, True]
    assert f"{error}; tried again in 0 s" in caplog.text


@pytest.mark.parametrize("error", [BrokerRefused("not you"), WrongTopic("no topic"), ValueError("a bug")])
def test_what_an_operator_has_to_mend_ends_it(error: Exception) -> None:
    with pytest.raises(type(error)):
        World(error, ended()).run()


def test_too_little_data_is_said_and_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """It must not end: whoever supervises it would start it again and again."""
    world = World(TooLittleData("30 users, at least 100 are needed"), ended())
    assert world.run() == {"too_little_data": 1, "accepted": 1}
    assert all(world.readiness)
    assert "30 users" in caplog.text


def test_a_stop_ends_a_refit_at_its_next_piece_of_work_without_a_failure() -> None:
    def stopped(tell: Tell) -> Refit:
        tell(1, 0, 9)
        world.stop.set()
        tell(1, 1, 9)
        raise AssertionError("it went on")

    world = World(stopped)
    assert world.run() == {}
    assert world.health.report()[1] == {"ready": True, "state": "running", "reasons": []}


def test_a_stop_ends_it_while_it_waits_to_try_again() -> None:
    def fails(_tell: Tell) -> Refit:
        world.stop.set()
        raise BrokerUnavailable("away")

    world = World(fails)
    assert world.run() == {}


def test_the_step_under_way_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def looks(tell: Tell) -> Refit:
        tell(3, 0, 2)
        tell(3, 1, 2)
        assert world.health.report()[1]["notices"] == ["a refit is at step 3, fit"]
        assert world.metrics.registry.get_sample_value("kindred_trainer_step") == 3
        return ended()

    world = World(looks)
    world.run()
    assert world.metrics.registry.get_sample_value("kindred_trainer_step") == 0
    assert "notices" not in world.health.report()[1]
    assert caplog.text.count("step 3, fit") == 1


def test_a_look_that_fails_is_tried_again() -> None:
    world = World(ended(), looks=[BrokerUnavailable("away"), BrokerUnavailable("away")])
    assert world.run() == {"failed": 2, "accepted": 1}
    assert world.readiness[0] is False
