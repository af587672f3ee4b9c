"""The trainer beside running workers: from their own log to what they serve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.broker_servers import KIND
from tests.communities import WORDS, community
from tests.e2e.stack import Stack, running, wait_until
from tests.tiny_encoder import write_tiny_encoder

pytestmark = [pytest.mark.embedded, getattr(pytest.mark, KIND), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("trainer") / "data", encoder="dummy", workers=2) as made:
        write(made, 300)
        made.environment["KINDRED_FOLDS"] = "3"
        wait_until(lambda: made.lag() == 0, "all events applied")
        yield made


def write(stack: Stack, users: int) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    stack.produce(
        [{**event, "ts": (began + timedelta(hours=hour)).isoformat()} for hour, event in enumerate(community(users))]
    )


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


@pytest.mark.apache  # one broker is enough to show it, and `make test` is to be quick
def test_processes_of_torchrun_share_the_encoders_fit_and_all_end(tmp_path: Path) -> None:
    words = [*(f"{word}{number}" for word in WORDS for number in range(6)), "About", "[MASK]"]
    tiny = write_tiny_encoder(tmp_path / "tiny", words=words)
    with running(tmp_path / "data", encoder=str(tiny), workers=1) as stack:
        write(stack, 60)
        stack.environment.update(KINDRED_FIT="pretrain,encoder,head", KINDRED_FOLDS="2", KINDRED_LEAST_EVENTS="200")
        stack.environment.update(KINDRED_LEAST_USERS="20", KINDRED_LEAST_USERS_WITH_TWO_ITEMS="20")
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
        done = stack.run("trainer", "--once", by=torchrun)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("candidate") > 0
        assert done.stderr.count("process 1 of 2: takes part in fits") == 1
        for kind in ("pretrain", "encoder"):
            assert done.stderr.count(f"takes part in a fit: {kind}") == 1
        assert "given up" not in done.stderr
        assert len([found for found in stack.json("model", "list") if found["name"].startswith("refit-")]) == 1
