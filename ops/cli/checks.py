"""What `kindred doctor` checks. Each check gives one line with a remedy and never raises."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType
from rich.table import Table
from rich.text import Text

from model.kafka.abilities import Abilities, abilities
from ops import broker
from ops.cli import state
from ops.cli.render import plain_table
from ops.cli.target import Target, settings
from ops.errors import OpsError
from schemas.settings import ConnectionSettings
from schemas.topics import TOPICS, USER_TEXT
from worker.broker.kafka_rights import NOT_ALLOWED
from worker.settings import WorkerSettings

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
_COLOURS: Final = {OK: "green", WARN: "yellow", FAIL: "bold red"}

SKEW_WARN_SECONDS: Final = 1.0
SKEW_FAIL_SECONDS: Final = 60.0
"""The clocks of producers decide `occurred_at` and what is "too far in the future"; a minute off is no clock."""

SPEEDUPS: Final = (
    ("crc32c", "decoding Kafka records is ten times slower", "kafka-python[crc32c]"),
    ("lz4", "records compressed with lz4 cannot be read", "kafka-python[lz4]"),
    ("zstandard", "records compressed with zstd cannot be read", "kafka-python[zstd]"),
    ("hiredis", "reading from Redis is several times slower", "redis[hiredis]"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """status: ok, warn (works, but worse than it could) or fail (must be mended). remedy: "" when ok."""

    name: str
    status: str
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def run_checks(target: Target, *, with_encoder: bool) -> list[Check]:
    """All checks, in an order in which a failure explains those after it."""
    found: list[Check] = [python(sys.version_info[:2])]
    groups: list[Callable[[Target], Iterator[Check]]] = [extras, kafka, redis]
    if with_encoder:
        groups.append(encoder)
    for group in groups:
        try:
            found.extend(group(target))
        except OpsError as error:
            found.append(Check(group.__name__, FAIL, error.text, error.remedy))
    return found


def table(checks: Sequence[Check]) -> Table:
    rows = plain_table("", "check", "found")
    for check in checks:
        text = Text(check.text)
        if check.remedy:
            text.append(f"\n→ {check.remedy}", style=_COLOURS[check.status])
        rows.add_row(Text(check.status, style=_COLOURS[check.status]), check.name, text)
    return rows


def python(version: tuple[int, int]) -> Check:
    text = f"{version[0]}.{version[1]}"
    if version >= (3, 11):
        return Check("python", OK, text)
    return Check("python", FAIL, f"{text} is too old", "Install Python 3.11 or newer.")


def extras(_target: Target) -> Iterator[Check]:
    for module, without, requirement in SPEEDUPS:
        if find_spec(module) is not None:
            yield Check(module, OK, "installed")
        else:
            yield Check(module, WARN, f"missing: {without}", f"pip install '{requirement}'")


def kafka(target: Target) -> Iterator[Check]:
    with broker.admin(target.kafka) as admin:
        yield Check("kafka", OK, f"answers at {target.kafka.bootstrap}")
        told = admin.describe_cluster()
        found = abilities(told["cluster_id"], {int(key) for key in admin.api_versions()})
        yield guarantees(found, len(told["brokers"]), settings(WorkerSettings).delivery)
        names = set(admin.list_topics())
        missing = [name for topic in TOPICS if (name := target.topic(topic)) not in names]
        hidden = [found["name"] for found in admin.describe_topics(missing) if found["error_code"] == NOT_ALLOWED]
        if hidden:
            remedy = "Grant the rights that docs/security.md lists for commands."
            yield Check("topics", FAIL, f"this user may not see: {', '.join(hidden)}", remedy)
            return
        if missing:
            yield Check("topics", FAIL, f"missing: {', '.join(missing)}", "kindred topics create")
        else:
            yield Check("topics", OK, f"all {len(TOPICS)} exist")
        yield compaction(admin, target.topic(USER_TEXT), names)


def guarantees(can: Abilities, brokers: int, delivery: str) -> Check:
    """Which of Kindred's guarantees this broker can keep. delivery: what the workers are told to keep."""
    lacks = [
        text
        for able, text in (
            (can.keeps_log, "forgets everything when it ends"),
            (can.transactions, "does not isolate transactions: no delivery=exactly_once"),
            (can.keeps_notes, "keeps no notes with commits: two stacks in one group go unnoticed"),
            (can.static_members, "knows no static members: a killed worker's partitions move after its session"),
        )
        if not able
    ]
    if not lacks:
        number = f"{brokers} broker" + ("" if brokers == 1 else "s")
        kept = "delivery=exactly_once, healing after its own restart, static members"
        return Check("guarantees", OK, f"{can.name}, {number}: all can be kept ({kept})")
    wrong = delivery == "exactly_once" and not can.transactions
    return Check(
        "guarantees", FAIL if wrong else WARN, f"{can.name} " + "; ".join(lacks),
        ("KINDRED_DELIVERY=exactly_once cannot be kept. " if wrong else "Good for trying out. ")
        + "Use Apache Kafka: `kindred up --kafka apache`, or KINDRED_KAFKA_BOOTSTRAP.",
    )  # fmt: skip


def compaction(admin: Any, topic: str, names: set[str]) -> Check:
    """The log of texts is the record of everything: compaction would throw most of it away."""
    if topic not in names:
        return Check("user-text", FAIL, f"{topic} does not exist", "kindred topics create")
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    configs = admin.describe_configs([resource], config_filter="all")["topic"].get(topic, {})
    policy = str(configs.get("cleanup.policy", {}).get("value", ""))
    if "compact" in policy:
        return Check(
            "user-text", FAIL, f"{topic} is compacted: texts of a user are lost, and no state can be healed",
            f"Set cleanup.policy=delete on {topic}.",
        )  # fmt: skip
    if not policy:
        return Check("user-text", OK, "exists (this broker does not tell its settings)")
    return Check("user-text", OK, f"cleanup.policy={policy}")


def redis(target: Target) -> Iterator[Check]:
    with state.client(target) as connection:
        before = time.time()
        seconds, microseconds = connection.time()
        skew = seconds + microseconds / 1e6 - (before + time.time()) / 2
        server = connection.info("server")
        yield Check("redis", OK, f"version {server.get('valkey_version') or server.get('redis_version')} answers")
        yield eviction(_setting(connection, "maxmemory-policy"))
        if _setting(connection, "appendonly") == "no":
            yield Check(
                "appendonly", WARN, "off: a restart of Redis loses all states, and they must be healed from the log",
                "Set appendonly yes and appendfsync everysec.",
            )  # fmt: skip
        yield clock(skew)


def _setting(connection: Any, name: str) -> str | None:
    """None where the server does not tell (a hosted Redis without CONFIG)."""
    from redis.exceptions import ResponseError

    try:
        found: dict[str, str] = connection.config_get(name)
    except ResponseError:
        return None
    return found.get(name)


def eviction(policy: str | None) -> Check:
    name = "maxmemory-policy"
    if policy is None:
        return Check(name, WARN, "this server does not tell", "Make sure that it is noeviction.")
    if policy != "noeviction":
        return Check(
            name, FAIL, f"{policy}: Redis would throw users away unnoticed; workers refuse to start",
            "Set maxmemory-policy to noeviction.",
        )  # fmt: skip
    return Check(name, OK, policy)


def clock(skew_seconds: float) -> Check:
    """skew_seconds: Redis' clock minus this machine's."""
    text = f"{abs(skew_seconds):.2f} s {'behind' if skew_seconds > 0 else 'ahead of'} Redis' machine"
    size = abs(skew_seconds)
    if size < SKEW_WARN_SECONDS:
        return Check("clock", OK, "agrees with Redis' machine to the second")
    return Check(
        "clock", FAIL if size > SKEW_FAIL_SECONDS else WARN, text, "Run a time service (NTP) on both machines."
    )


def encoder(_target: Target) -> Iterator[Check]:
    """Loads it for real: a damaged download or a missing wheel shows here and not in a worker's log."""
    chosen = settings(ConnectionSettings)
    from model.encoder.load import load_encoder
    from model.errors import ModelError

    started = time.monotonic()
    try:
        loaded = load_encoder(chosen.encoder, device=chosen.device, backend=chosen.backend, cache=chosen.cache)
    except ModelError as error:
        yield Check("encoder", FAIL, f"{chosen.encoder}: {error}", "See KINDRED_ENCODER in docs/configuration.md.")
        return
    seconds = time.monotonic() - started
    text = f"{chosen.encoder}: {loaded.dimension} dimensions on {loaded.backend}, loaded in {seconds:.1f} s"
    yield Check("encoder", OK, text)
