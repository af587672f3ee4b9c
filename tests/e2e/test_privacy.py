"""A whole stack, as talkative as it gets, through good and bad records, wrong settings and killed services: no text, no
user_id and no secret is in any log, metric or error, nor in what commands print of the stack.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from ops import broker
from ops.stack import endpoints, processes
from schemas.access import KafkaAccess
from schemas.dead_letter import REASON
from tests.broker_servers import KIND

pytestmark = [pytest.mark.embedded, getattr(pytest.mark, KIND), pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).parents[2]
WORD: Final = "zebraquartz"
"""In every text, in no other place."""
PERSON: Final = "person-4711"
"""In every user_id."""
SECRET: Final = "hush-hush-0815"
MARKS: Final = (WORD, PERSON, SECRET)
TEXT: Final = f"my {WORD} telescope"


def bad_values() -> Iterator[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    """(key, value, headers) of records that break each rule, all of them with marks where a rule is broken."""
    key = f"{PERSON}-bad".encode()
    good = {"user_id": key.decode(), "text": TEXT}

    def value(**fields: Any) -> bytes:
        return json.dumps(good | fields).encode()

    yield key, value()[:-9], []
    yield key, TEXT.encode(), []
    yield key, TEXT.encode() + b"\xff\xfe", []
    yield key, json.dumps([TEXT]).encode(), []
    yield key, json.dumps(TEXT).encode(), []
    yield key, value(text=[TEXT]), []
    yield key, value(text=f"{TEXT} " * 5000), []
    yield key, value(weight=TEXT), []
    yield key, value(weight=-1), []
    yield key, value(occurred_at=TEXT), []
    yield key, value(occurred_at="1970-01-01T00:00:00Z"), []
    yield key, value(occurred_at="2026-05-01T00:00:00"), []
    yield key, value(labels=TEXT), []
    yield key, value(labels=[TEXT, ""]), []
    yield key, value(labels=[TEXT * 20]), []
    yield key, value(item_id=TEXT * 20), []
    yield key, value(item_title=TEXT * 400), []
    yield key, value(event_id=""), []
    yield key, value(lang=TEXT * 3), []
    yield key, value(user_id=f"{PERSON}-other"), []
    yield f"{PERSON}-{TEXT * 20}".encode(), None, []
    yield f"{PERSON}-".encode() + b"\xff", None, []
    yield None, value(), []
    yield key, value(), [("schema", f"{WORD}/1".encode())]
    yield key, value(), [("schema", TEXT.encode())]
    yield key, value(), [("kindred-event-id", TEXT.encode() + b"\xff")]
    yield key, b"[" * 300 + TEXT.encode(), []


@dataclass(slots=True)
class Observed:
    """A running stack, and everything that it and the commands say."""

    data_dir: Path
    said: list[str] = field(default_factory=list)

    def kindred(self, *arguments: str, **settings: str) -> int:
        """The exit code of a command; what it prints is kept."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KINDRED_")}
        environment = {"KINDRED_ENCODER": "dummy", "KINDRED_LOG_LEVEL": "DEBUG", "KINDRED_USER_KEY_SECRET": SECRET}
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.data_dir.parent,
            env={**inherited, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **environment, **settings},
            check=False,
        )
        self.said.append(f"$ {arguments}\n{done.stdout}{done.stderr}")
        return done.returncode

    def on(self, *arguments: str) -> int:
        return self.kindred(*arguments, "--data-dir", str(self.data_dir))

    def endpoints(self) -> endpoints.Endpoints:
        found = endpoints.read(self.data_dir)
        assert found is not None
        return found

    def pages(self) -> None:
        """Keep what every worker tells by HTTP now."""
        for url in self.endpoints().metrics:
            for page in ("/metrics", "/readyz", "/healthz"):
                try:
                    with urllib.request.urlopen(url.replace("/metrics", page), timeout=5) as answer:  # noqa: S310
                        self.said.append(f"{page}\n{answer.read().decode()}")
                except urllib.error.HTTPError as error:
                    self.said.append(f"{page}\n{error.read().decode()}")
                except OSError:
                    continue  # it is being started again

    def send(self, topic: str, records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]) -> None:
        with broker.producer(KafkaAccess(self.endpoints().kafka)) as producer:
            for future in [producer.send(topic, key=k, value=v, headers=h) for k, v, h in records]:
                future.get(20)

    def count(self, topic: str) -> int:
        return len(list(broker.read_all(KafkaAccess(self.endpoints().kafka), topic)))


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Observed]:
    observed = Observed(tmp_path / "data")
    try:
        code = observed.on("up", "--kafka", KIND, "--workers", "2", "--detach")
        assert code == 0, observed.said
        yield observed
    finally:
        processes.down(observed.data_dir)


def test_nothing_listens_beyond_this_machine(stack: Observed) -> None:
    pids = {name: pid for name, pid in stack.endpoints().pids.items() if name != "supervisor"}
    assert {"broker", "redis", "worker-0"} <= pids.keys()
    for name, pid in pids.items():
        listening = [found.laddr.ip for found in psutil.Process(pid).net_connections() if found.status == "LISTEN"]
        assert listening, name
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}, name


def good(start: int, stop: int) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    users = [f"{PERSON}-{n}" for n in range(start, stop)]
    value = {"text": TEXT, "item_id": "item-1", "labels": ["astronomy"]}
    return [(user.encode(), json.dumps({"user_id": user, **value}).encode(), []) for user in users]


def test_no_text_no_user_and_no_secret_is_told(stack: Observed) -> None:
    bad = list(bad_values())
    stack.send("user-text", [*good(0, 30), *bad, *good(0, 5)])
    stack.send("items", [(b"item-1", f'{{"item_id": "item-1", "title": ["{TEXT}"]}}'.encode(), [])])
    wait_until(lambda: stack.count("user-text.dlq") >= len(bad), "every bad record has its dead letter")
    stack.pages()
    for record in broker.read_all(KafkaAccess(stack.endpoints().kafka), "user-text.dlq"):
        names = [name for name, _ in record.headers]
        added = record.headers[len(names) - 1 - names[::-1].index(REASON) :]
        stack.said += [(content or b"").decode() for _, content in added]

    killed = {name: stack.endpoints().pids[name] for name in ("worker-0", "redis")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    stack.send("user-text", good(30, 60))
    stack.pages()
    wait_until(
        lambda: all(stack.endpoints().pids.get(name, pid) != pid for name, pid in killed.items()), "both are back"
    )
    wait_until(lambda: stack.count("recommendations") >= 65, "everybody is answered")
    stack.pages()

    for arguments in (
        ["doctor"],
        ["offsets", "show"],
        ["dlq", "list", "--json"],
        ["dlq", "redrive", "--yes"],
        ["model", "list"],
        ["audit"],
        ["offsets", "skip", "99", "--to", "1", "--yes"],
    ):
        stack.on(*arguments)
    stack.on("down")
    _wrong_settings(stack)

    # Kafka calls its segments .log: they are the record itself, and hold what they were given.
    segments = stack.data_dir / "kafka" / "data"
    logs = sorted(
        path
        for path in stack.data_dir.rglob("*")
        if path.suffix in (".log", ".json") and path.is_file() and segments not in path.parents
    )
    assert [path for path in logs if path.name.startswith("worker")]
    told = {str(path.relative_to(stack.data_dir)): path.read_text(errors="replace") for path in logs}
    told |= {said.splitlines()[0] if said else "": said for said in stack.said}
    found = [
        f"{where}: {line.strip()[:300]}"
        for where, text in told.items()
        for line in text.splitlines()
        if any(mark in line for mark in MARKS)
    ]
    assert not found, "\n".join(found[:20])


def _wrong_settings(stack: Observed) -> None:
    """Settings that hold a secret and something wrong, and servers that are not there, for a worker and a command."""
    nowhere = {"KINDRED_KAFKA_BOOTSTRAP": "127.0.0.1:1", "KINDRED_REDIS_URL": f"redis://kin:{SECRET}@127.0.0.1:1/0"}
    login = {"KINDRED_KAFKA_USER": "kin", "KINDRED_KAFKA_PASSWORD": SECRET}
    for settings in (
        {"KINDRED_KAFKA_PASSWORD": SECRET},
        {**login, "KINDRED_KAFKA_SECURITY": "SASL"},
        {**login, "KINDRED_KAFKA_SECURITY": SECRET},
        {**login, "KINDRED_KAFKA_SECURITY": "SASL_SSL", "KINDRED_KAFKA_CA": "gone.pem"},
        {**nowhere, "KINDRED_REDIS_URL": f"rediz://kin:{SECRET}@127.0.0.1:1/0"},
        {**nowhere, "KINDRED_REDIS_URL": f"redis://kin:{SECRET}/@127.0.0.1:1/0"},
        {**nowhere, "KINDRED_RELEASES": f"s3://{SECRET}@bucket"},
        nowhere,
    ):
        assert stack.kindred("user", "show", "somebody", **settings) != 0, settings.keys()
    assert stack.kindred("offsets", "show", **nowhere) != 0
    assert not [said for said in stack.said if re.search("Traceback", said)]
