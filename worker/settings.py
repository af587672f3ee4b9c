"""Settings of the worker. They end at the composition root (`worker/app.py`): everything below it is given values."""

from __future__ import annotations

from datetime import datetime
from socket import gethostname
from typing import Literal

from pydantic import AwareDatetime, Field, SecretStr, field_validator

from schemas.settings import ConnectionSettings
from schemas.state import MAX_FIRST


class WorkerSettings(ConnectionSettings):
    """What `python -m worker` and `kindred worker` are told."""

    name: str = Field(
        default_factory=lambda: gethostname()[:64],
        min_length=1,
        max_length=64,
        description="This worker's slot, in logs, dead letters and transactions; no two workers of a group have the "
        "same. By default the name of the machine or container.",
    )
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once",
        description="Of recommendations. at_least_once: a replay may publish the same recommendation_id again. "
        "exactly_once: outputs and offsets go in one transaction, for consumers that read committed records only; the "
        "broker must have transactions.",
    )
    transaction_timeout_ms: int = Field(
        10_000, ge=1_000, description="With exactly_once: after so long the broker aborts a worker's open transaction."
    )
    static_membership: bool = Field(
        False,
        description="Join the group as a static member named KINDRED_NAME: a worker that is started again within the "
        "session timeout has its partitions back at once. Needs a broker that knows static members.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of the same; 0 takes any free one and logs it.")
    newcomer_events: int = Field(
        3, ge=1, le=MAX_FIRST, description="K: a user's first K events are each answered with a recommendation."
    )
    start: Literal["earliest", "latest"] | AwareDatetime = Field(
        "earliest", description="Where a new consumer group begins: earliest, latest, or a time with a zone."
    )
    answer_after: AwareDatetime | None = Field(
        None, description="Newcomers' events whose record is older than this are learned from, not answered."
    )
    user_key_secret: SecretStr = Field(
        SecretStr(""), description="Key of the hash that stands for a user_id; the same for every worker and trainer."
    )
    shards: int = Field(4, ge=1, le=1024, description="Shards of the state in Redis; fixed once anything is stored.")
    user_ttl_days: float = Field(
        365.0, gt=0, description="A user without an event for this long (by Kafka's timestamps) starts anew."
    )
    batch_max_events: int = Field(256, ge=1, description="A batch is closed at this many events.")
    batch_max_tokens: int = Field(16_384, ge=1, description="A batch is closed at this many padded tokens.")
    batch_max_age_ms: float = Field(20.0, ge=0, description="A batch is closed when its oldest event waited this long.")
    batches_in_flight: int = Field(
        2,
        ge=1,
        le=16,
        description="Closed batches that may wait before each stage; a full stage pauses its partitions.",
    )
    session_timeout_ms: int = Field(10_000, ge=1_000, description="Kafka session timeout of the consumer.")
    drain_seconds: float = Field(20.0, gt=0, description="On SIGTERM or a rebalance: time for batches in flight.")
    retry_max_seconds: float = Field(5.0, gt=0, description="Longest pause between two tries at Redis or the broker.")
    refresh_seconds: float = Field(
        1.0, gt=0, description="How often the donor index follows Redis' feed and the watermarks are checked."
    )
    backfill_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the time that filling another space may encode while the space in service has work to "
        "do; 1 for as fast as it goes.",
    )
    space_ttl_days: float = Field(
        7.0, gt=0, description="States of a space that no worker has served or filled for this long leave Redis."
    )
    index_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Byte budget of the donor index; the least recently active donors go first. While another space "
        "is filled there are two.",
    )
    donor_min_events: int = Field(1, ge=1, description="Events a user needs to be a donor.")
    min_donors: int = Field(
        1,
        ge=1,
        description="Known users an item needs before it is recommended on their account; raise it for private items.",
    )
    items_per_answer: int = Field(10, ge=1, le=100, description="Items in a recommendation.")
    max_record_bytes: int = Field(
        1_000_000, ge=10_000, description="Largest record the broker takes (max.message.bytes), with room for headers."
    )
    dead_letters_in_a_row: int = Field(
        100, ge=1, description="So many bad records in a row pause their partition."
    )  # fmt: skip
    dead_letters_window: int = Field(1_000, ge=1, description="Records of a partition over which bad ones are counted.")
    dead_letters_share: float = Field(
        0.5, gt=0, le=1, description="This share of bad records in a full window pauses the partition."
    )

    fail_point: str | None = Field(
        None,
        pattern=r"^1?[0-8]:[1-9][0-9]*(:stop)?$",
        description="For fault tests, STEP:COUNT: SIGKILL to itself after that step was done COUNT times, 0 being the "
        "middle of a swap of releases, 11 to 18 the steps of a back-fill; with :stop behind it SIGSTOP, as a machine "
        "that freezes.",
    )

    @field_validator("start", mode="before")
    @classmethod
    def _word_or_time(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("earliest", "latest"):
            return datetime.fromisoformat(value)
        return value
