"""What every service is told from outside about where things are: Kafka, Redis, releases, the encoder.

Values come from, first wins: arguments of the program, `KINDRED_…` environment variables, `.env`, a TOML file
(`--config FILE` or `KINDRED_CONFIG`), the defaults below. docs/configuration.md is generated from the descriptions.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class ConnectionSettings(BaseSettings):
    """Settings that worker, trainer and commands share."""

    model_config = SettingsConfigDict(env_prefix="KINDRED_", env_file=".env", extra="ignore", frozen=True)

    kafka_bootstrap: str = Field("localhost:9092", description="Kafka brokers, host:port, separated by commas.")
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        description="Redis, as a redis:// or rediss:// URL (may hold a password).",
    )
    group: str = Field("kindred", min_length=1, description="Consumer group of the workers.")
    namespace: str = Field(
        "", pattern=r"^[A-Za-z0-9_-]{0,64}$", description="Prefix of all topics and Redis keys; empty for none."
    )
    releases: Path = Field(Path(".kindred/releases"), description="Directory of model releases.")
    cache: Path = Field(
        Path.home() / ".cache" / "kindred", description="Directory for converted encoders and measured backend choices."
    )
    encoder: str = Field(
        "minilm",
        description="Encoder of the built-in release: minilm, bge-small-zh, dummy, a directory, or a hub name.",
    )
    device: str = Field("auto", description="auto, cpu, or a torch device such as cuda:0.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="How much a service writes to stderr; never a text or a secret."
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="Encoder backend; auto takes the faster one that keeps cosine >= .999 to fp32."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = os.environ.get("KINDRED_CONFIG")
        files: tuple[PydanticBaseSettingsSource, ...] = ()
        if toml:
            files = (TomlConfigSettingsSource(settings_cls, Path(toml)),)
        return (init_settings, env_settings, dotenv_settings, *files)


def described(settings: type[BaseSettings]) -> list[tuple[str, str, str, str]]:
    """(variable, type, default, description) of every setting, in order, for the page and `--help`."""
    rows: list[tuple[str, str, str, str]] = []
    for name, info in settings.model_fields.items():
        default: Any = info.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path):
            default = str(default).replace(str(Path.home()), "~")
        kind = _in_words(info.annotation)
        rows.append((f"KINDRED_{name.upper()}", kind, "" if default is None else str(default), info.description or ""))
    return rows


_WORDS: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    Path: "path",
    SecretStr: "secret text",
    AwareDatetime: "time with a zone",
    type(None): "",
}


def _in_words(annotation: Any) -> str:
    """A field's type for people: `auto`, `torch` or `openvino`; text; time with a zone."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(filter(None, map(_in_words, get_args(annotation))))
    return _WORDS.get(annotation, str(annotation))
