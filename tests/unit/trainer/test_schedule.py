from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from trainer.schedule import Last, Schedule, due, new_events

HOUR: Final = 3_600_000
NOW: Final = 1_000 * HOUR
DAILY: Final = Schedule(hours=24, events=None, least_events=100)
OFTEN: Final = Schedule(hours=24, events=50, least_events=100)


def last(hours_ago: float, *, enough: bool = True, ends: Mapping[int, int] | None = None) -> Last:
    return Last(NOW - int(hours_ago * HOUR), {0: 1_000, 1: 500} if ends is None else ends, enough)


@pytest.mark.parametrize(
    ("schedule", "before", "ends", "why"),
    [
        pytest.param(DAILY, None, {}, "there was none yet", id="the first one, whatever there is"),
        pytest.param(DAILY, last(23), {0: 2_000, 1: 500}, None, id="too early"),
        pytest.param(DAILY, last(24), {0: 1_000, 1: 501}, "24.0 h have passed and 1 events", id="a day later"),
        pytest.param(DAILY, last(9_999), {0: 1_000, 1: 500}, None, id="nothing new, however late"),
        pytest.param(OFTEN, last(1), {0: 1_020, 1: 529}, None, id="too few new ones"),
        pytest.param(OFTEN, last(1), {0: 1_020, 1: 530}, "50 events came", id="enough new ones"),
        pytest.param(DAILY, last(1, enough=False), {0: 1_099, 1: 500}, None, id="still too little data"),
        pytest.param(DAILY, last(1, enough=False), {0: 1_100, 1: 500}, "too little data", id="enough by now"),
        pytest.param(DAILY, last(24, enough=False), {0: 1_001, 1: 500}, "24.0 h", id="too little, a day later"),
        pytest.param(OFTEN, last(1), {0: 1_000, 1: 500, 2: 50}, "50 events", id="in a partition that was added"),
        pytest.param(OFTEN, last(1), {0: 40, 1: 10}, "50 events", id="a log that was made anew is new as a whole"),
        pytest.param(OFTEN, last(1), {}, None, id="a log that is gone"),
    ],
)
def test_when_a_refit_is_due(schedule: Schedule, before: Last | None, ends: Mapping[int, int], why: str | None) -> None:
    found = due(schedule, before, ends, NOW)
    if why is None:
        assert found is None
    else:
        assert found is not None
        assert why in found


def test_new_events_are_those_behind_what_the_last_refit_saw() -> None:
    assert new_events(None, {0: 7, 1: 3}) == 10
    assert new_events(last(1), {0: 1_007, 1: 503}) == 10
    assert new_events(last(1), {0: 999, 1: 503}) == 1_502
