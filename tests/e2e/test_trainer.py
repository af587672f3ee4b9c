"""The trainer beside running workers: from their own log to what they serve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.broker_servers import KIND
from tests.communities import community
from tests.e2e.stack import Stack, running, wait_until

pytestmark = [pytest.mark.embedded, getattr(pytest.mark, KIND), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("trainer") / "data", encoder="dummy", workers=2) as made:
        began = datetime(2026, 1, 1, tzinfo=UTC)
        events = [
            {**event, "ts": (began + timedelta(hours=hour)).isoformat()} for hour, event in enumerate(community(300))
        ]
        made.produce(events)
        made.environment["KINDRED_FOLDS"] = "3"
        wait_until(lambda: made.lag() == 0, "all events applied")
        yield made


def served(stack: Stack) -> str:
    """The release that answers a newcomer now."""
    return str(stack.json("ask", "beer1 beer2 beer3")["recommendation"]["release"])


def test_a_refit_is_announced_served_within_seconds_and_gone_back_from(stack: Stack) -> None:
    builtin = served(stack)
    table = stack.kindred("trainer", "--once")
    assert "candidate" in table
    assert "is accepted" in table
    assert "announced to the workers" in table
    (refit,) = [found for found in stack.json("model", "list") if found["name"].startswith("refit-")]
    wait_until(lambda: served(stack) == refit["name"], "the workers serve it", 5.0)
    assert refit["metrics"]["ndcg@10.candidate.all"] > refit["metrics"]["ndcg@10.raw_knn.all"]
    assert "no gain beyond chance" in stack.kindred("trainer", "--once"), "what serves is as good"

    stack.kindred("model", "rollback")
    wait_until(lambda: served(stack) == builtin, "the workers have gone back", 5.0)
    wait_until(lambda: stack.lag() == 0, "all applied")
    assert stack.json("audit")["ok"]
