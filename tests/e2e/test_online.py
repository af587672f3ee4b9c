"""A bad release that is forced through: the trainer sees what its answers lead to, and its alert's remedy mends it."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.transfer_weights import TransferWeights
from tests.broker_servers import KIND
from tests.e2e.stack import ROOT, Stack, running, wait_until
from tests.unit.worker.releases import Shelf, edit
from trainer.compare import LEAST

pytestmark = [pytest.mark.embedded, getattr(pytest.mark, KIND), pytest.mark.timeout(300)]

HORIZON_S: Final = 12
NEWCOMERS: Final = LEAST + 10
TOPICS: Final = ("beer", "boat", "garden")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("online") / "data", encoder="dummy", workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def trainer(stack: Stack) -> Iterator[Path]:
    """A trainer that runs beside the workers and finds too little to refit from. Its log."""
    log = stack.data_dir / "trainer.log"
    settings = {
        "KINDRED_ONLINE_HORIZON_HOURS": str(HORIZON_S / 3600),
        "KINDRED_LEAST_EVENTS": "1000000",
        "KINDRED_LOG_LEVEL": "INFO",
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "trainer", "--data-dir", str(stack.data_dir)],
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=os.environ | stack.environment | settings,
        )
    try:
        wait_until(lambda: b"metrics on http://" in log.read_bytes(), "the trainer has begun")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()[-2000:]


def read(url: str, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """A metric's samples by their labels."""
    with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310 - on this machine
        families = text_string_to_metric_families(page.read().decode())
    return {
        frozenset(sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def online(trainer: Path, name: str, **labels: str) -> float | None:
    (address,) = re.findall(r"metrics on (http://\S+)", trainer.read_text())
    return read(address, f"kindred_online_{name}").get(frozenset(labels.items()))


def served(stack: Stack) -> set[str]:
    """By the workers."""
    found = [read(url, "kindred_release_info") for url in stack.endpoints().metrics]
    return {dict(labels)["release"] for samples in found for labels in samples}


def known_users() -> list[dict[str, Any]]:
    """Of three topics with ten items each; and many who take nothing but what is popular."""
    draw = random.Random(0)
    known = [
        event(f"{topic} {user}", topic, f"{topic}-{item}")
        for topic in TOPICS
        for user in range(30)
        for item in draw.sample(range(10), 4)
    ]
    return known + [event(f"crowd {user}", "crowd", f"crowd-{item}") for user in range(60) for item in range(10)]


def newcomers(group: str) -> list[dict[str, Any]]:
    """Who write about one of the topics, and then take two of its items."""
    draw = random.Random(group)
    found = []
    for number in range(NEWCOMERS):
        topic, user = draw.choice(TOPICS), f"{group} {number}"
        items = [f"{topic}-{item}" for item in draw.sample(range(10), 2)]
        found += [event(user, topic, None), *(event(user, topic, item) for item in items)]
    return found


def event(user: str, topic: str, item: str | None) -> dict[str, Any]:
    draw = random.Random(f"{user} {item}")
    words = " ".join(f"{topic}{draw.randrange(6)}" for _ in range(6))
    told = {"user_id": user, "text": f"{words} {draw.randrange(10_000)}", "ts": "2026-01-01T00:00:00Z"}
    return told if item is None else {**told, "item_id": item}


def feed(stack: Stack, events: list[dict[str, Any]]) -> None:
    stack.produce(events)
    wait_until(lambda: stack.lag() == 0, "all of it is applied and answered")


def test_a_bad_release_that_is_forced_through_is_seen_and_gone_back_from(stack: Stack, trainer: Path) -> None:
    feed(stack, known_users())
    feed(stack, newcomers("early"))
    (good,) = served(stack)
    nothing = dict.fromkeys(TransferWeights.default().to_dict(), 0.0)
    refused = {"accepted": False, "reasons": ["it knows the crowd alone"], "numbers": {}}
    written = Shelf(stack.data_dir).write(None, "dummy", **nothing | {"popularity.everybody": 1.0})
    bad = edit(written, lambda manifest: manifest.update(verdict=refused)).name
    assert "it knows the crowd alone" in stack.kindred("model", "promote", bad, code=1)
    stack.kindred("model", "promote", bad, "--force")
    wait_until(lambda: served(stack) == {bad}, "the workers serve it", 10.0)
    feed(stack, newcomers("late"))

    wait_until(lambda: online(trainer, "worse", release=bad, before=good) == 1, "it is seen to be worse", 60.0)
    assert online(trainer, "questions", release=good) == len({told["user_id"] for told in known_users()}) + NEWCOMERS
    assert online(trainer, "questions", release=bad) == NEWCOMERS
    assert (online(trainer, "hit_rate", release=good) or 0) > 0.7, "who comes first finds nobody"
    assert online(trainer, "hits", release=bad) == 0, "nobody of them takes what the crowd takes"
    assert online(trainer, "popular_hits", release=bad) == 0
    assert (online(trainer, "difference_high", release=bad, before=good) or 0) < 0

    stack.kindred("model", "rollback")
    wait_until(lambda: served(stack) == {good}, "the workers have gone back", 10.0)
    wait_until(lambda: online(trainer, "worse", release=bad, before=good) is None, "the alert ends", 30.0)
    assert online(trainer, "worse", release=good, before=bad) == 0
