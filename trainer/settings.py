"""Settings of the trainer. They end at the composition root (`trainer/app.py`): everything below it is given values."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from schemas.settings import ConnectionSettings

PARTS = ("pretrain", "encoder", "blend", "head")
"""What can be fitted. The first two make another encoder, and with it another space: only when asked for."""


class TrainerSettings(ConnectionSettings):
    """What `python -m trainer` and `kindred trainer` are told."""

    user_key_secret: SecretStr = Field(
        SecretStr(""), description="Key of the hash that stands for a user_id; the same for every worker and trainer."
    )
    user_ttl_days: float = Field(
        365.0, gt=0, description="A user without an event for this long (by Kafka's timestamps) starts anew."
    )
    trainer_directory: Path = Field(
        Path(".kindred/trainer"),
        description="Where the trainer keeps its window of the log: texts in clear, readable by its owner only.",
    )
    window_days: float | None = Field(
        None, gt=0, description="How far back the trainer reads `user-text`, by the records' timestamps; none for all."
    )
    window_events: int = Field(
        1_000_000, ge=1, description="Newest records that the trainer reads at most; bounds its disk and memory."
    )
    least_events: int = Field(1_000, ge=1, description="Events below which nothing is fitted.")
    least_users: int = Field(100, ge=1, description="Users below which nothing is fitted.")
    least_users_with_two_items: int = Field(
        50, ge=1, description="Users with two items or more, the only ones that tell what a first text leads to."
    )
    fit: str = Field(
        "blend,head", description=f"What is fitted, separated by commas: {', '.join(PARTS)}; empty for nothing."
    )
    fit_minutes: float = Field(
        30.0, gt=0, description="Minutes that each of `pretrain` and `encoder` may take, where `fit` names it."
    )
    folds: int = Field(5, ge=2, le=20, description="Folds of the cross-validation, by user.")
    warm_up: float = Field(
        0.2, ge=0, lt=1, description="Share of the window's events before the first newcomer is asked after."
    )
    seed: int = Field(0, ge=0, description="Of folds, fits and bootstraps: the same window gives the same release.")
    group_margin: float = Field(
        0.05, ge=0, le=1, description="By what share of its score a group of 50 users or more may fall."
    )
    latency_margin: float = Field(
        0.5,
        ge=0,
        description="By what share answers may take longer than with the release in service; 1 ms a newcomer is always "
        "quick enough.",
    )
    release_megabytes: float = Field(2_000.0, gt=0, description="Megabytes of weights that a release may have.")
    keep_releases: int = Field(
        10, ge=1, description="Releases that are kept, besides the announced one and the one before it."
    )
    refit_hours: float = Field(
        24.0,
        gt=0,
        description="Hours from one refit to the next, where new events came. One that was killed is gone on with for "
        "so long.",
    )
    refit_events: int | None = Field(
        None, ge=1, description="New events that make a refit due before that; none for the hours alone."
    )
    refit_look_seconds: float = Field(30.0, gt=0, description="Seconds between two looks whether a refit is due.")
    online_days: float = Field(
        14.0,
        gt=0,
        le=365,
        description="Days of answers that are judged by what newcomers did after them; not with --once.",
    )
    online_horizon_hours: float = Field(
        24.0,
        gt=0,
        le=720,
        description="Hours after a newcomer's first event in which the answer to it can come true; figures are so old.",
    )
    online_events: int = Field(
        1_000_000,
        ge=1,
        description="Newest records of `user-text`, and of answers, that a trainer begins with at most.",
    )
    trainer_metrics_host: str = Field(
        "127.0.0.1", description="Address of the trainer's /metrics, /healthz and /readyz; not with --once."
    )
    trainer_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the same; 0 takes any free one and logs it."
    )

    fail_point: str | None = Field(
        None,
        pattern=r"^[1-7]:[1-9][0-9]*(:stop)?$",
        description="For fault tests of a trainer, STEP:COUNT: SIGKILL to itself when a step tells of its progress for "
        "the COUNTth time; with :stop behind it SIGSTOP.",
    )

    @field_validator("fit")
    @classmethod
    def _parts_are_known(cls, value: str) -> str:
        unknown = [part for part in value.split(",") if part and part not in PARTS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} cannot be fitted; there is {', '.join(PARTS)}")
        return value
