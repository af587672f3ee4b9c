from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from model.health import Health
from model.kafka.base import BrokerRefused, BrokerUnavailable
from tests.builders import eventually
from trainer.errors import Stopped
from trainer.follow import Figures
from trainer.watch import Watch

Looked = Figures | Exception


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.watch.LOOK_S", 0.01)
    monkeypatch.setattr("trainer.watch.LONGEST_PAUSE_S", 0.01)


def figures(until: int) -> Figures:
    return Figures({}, None, until)


class Scene:
    """Opening and looking end one after the other as they are told to; then each look is as the last one."""

    def __init__(self, *looks: Looked, opens: tuple[Exception, ...] = ()) -> None:
        self.looks, self.opens = list(looks), list(opens)
        self.open = 0
        self.shown: list[int] = []
        self.health = Health()
        self.health.state = "running"
        self.watch = Watch(self._opened, lambda found: self.shown.append(found.until_ms), self.health)

    @contextmanager
    def _opened(self, stopped: Callable[[], bool]) -> Iterator[Callable[[], Figures]]:
        self._stopped = stopped
        if self.opens:
            raise self.opens.pop(0)
        self.open += 1
        yield self._look
        self.open -= 1

    def _look(self) -> Figures:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    def notices(self) -> str:
        return str(self.health.report()[1].get("notices"))


def test_it_looks_again_and_again_and_closes_what_it_opened() -> None:
    scene = Scene(figures(1), figures(2), figures(3))
    with scene.watch:
        eventually(lambda: scene.shown[:3] == [1, 2, 3], "three looks are shown")
        assert scene.open == 1
    assert scene.open == 0


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), BrokerRefused("no right on recommendations")])
def test_what_passes_is_tried_again_and_told_and_the_service_stays_ready(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(error, error, error, figures(1), opens=(error,))
    with scene.watch:
        eventually(lambda: scene.shown, "it looks in the end")
        eventually(lambda: str(error) not in scene.notices(), "the notice is taken back")
        assert scene.health.report()[0]
    assert str(error) in caplog.text
    assert scene.open == 0


def test_a_service_that_is_away_for_good_is_told_and_holds_up_no_stop() -> None:
    scene = Scene(BrokerUnavailable("away"))
    with scene.watch:
        eventually(lambda: "away" in scene.notices(), "it is told")
        assert scene.health.report()[0]
    assert scene.shown == []


def test_a_stop_ends_a_look_that_is_under_way() -> None:
    looking = threading.Event()
    scene = Scene(figures(1))

    def look() -> Figures:
        looking.set()
        eventually(scene._stopped, "it is stopped")
        raise Stopped("in the middle")

    scene._look = look  # type: ignore[method-assign]
    with scene.watch:
        assert looking.wait(5)
    assert scene.shown == []
    assert scene.notices() == "None"


def test_an_error_that_is_not_known_is_told_and_ends_no_refit(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(ValueError("a bug"))
    with scene.watch:
        eventually(lambda: "followed no more (ValueError)" in scene.notices(), "it is told")
        assert scene.health.report()[0]
    assert "a bug" in caplog.text
