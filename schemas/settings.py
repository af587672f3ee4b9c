"""What every service is told from outside about where things are: Kafka, Redis, releases, the encoder.

Values come from, first wins: arguments of the program, `KINDRED_…` environment variables, `.env`, files in the
directory that `KINDRED_SECRETS` names (one a setting, called as the variable in lower case), a TOML file (`--config
FILE` or `KINDRED_CONFIG`), the defaults below. docs/configuration.md is generated from the descriptions.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Self, Union, get_args, get_origin

from pydantic import AwareDatetime, Field, SecretStr, model_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.access import KafkaAccess


class ConnectionSettings(BaseSettings):
    """Settings that worker, trainer and commands share."""

    model_config = SettingsConfigDict(env_prefix="KINDRED_", env_file=".env", extra="ignore", frozen=True)

    kafka_bootstrap: str = Field("localhost:9092", description="Kafka brokers, host:port, separated by commas.")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How Kafka is spoken to: SSL is TLS, SASL is a login with user and password."
    )
    kafka_sasl: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512",
        description="Mechanism of the login to Kafka; PLAIN sends the password as it is.",
    )
    kafka_user: str | None = Field(None, description="User of the login to Kafka.")
    kafka_password: SecretStr | None = Field(None, description="Password of the login to Kafka.")
    kafka_ca: Path | None = Field(
        None, description="PEM file of the authority that signed the brokers' certificates; none for the system's."
    )
    kafka_certificate: Path | None = Field(None, description="PEM file of this client's certificate, for mutual TLS.")
    kafka_key: Path | None = Field(None, description="PEM file of its private key.")
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        description="Redis, as a redis:// or rediss:// URL; may hold user and password, and TLS options such as "
        "`?ssl_ca_certs=FILE`.",
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

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        sasl = self.kafka_security.startswith("SASL")
        if sasl and not (self.kafka_user and self.kafka_password):
            raise ValueError(f"{self.kafka_security} needs KINDRED_KAFKA_USER and KINDRED_KAFKA_PASSWORD")
        if not sasl and (self.kafka_user or self.kafka_password):
            raise ValueError("a user or password for Kafka is given, but KINDRED_KAFKA_SECURITY is not SASL_…")
        if not self.kafka_security.endswith("SSL") and (self.kafka_ca or self.kafka_certificate):
            raise ValueError("a certificate for Kafka is given, but KINDRED_KAFKA_SECURITY is neither SSL nor SASL_SSL")
        if (self.kafka_certificate is None) != (self.kafka_key is None):
            raise ValueError("KINDRED_KAFKA_CERTIFICATE and KINDRED_KAFKA_KEY come together")
        return self

    def kafka(self) -> KafkaAccess:
        """How to reach Kafka, as these settings have it."""
        security: dict[str, Any] = {}
        if self.kafka_security != "PLAINTEXT":
            security["security_protocol"] = self.kafka_security
        if self.kafka_security.endswith("SSL"):
            files = {"cafile": self.kafka_ca, "certfile": self.kafka_certificate, "keyfile": self.kafka_key}
            security |= {f"ssl_{name}": str(path) for name, path in files.items() if path is not None}
        if self.kafka_password is not None:
            security |= {
                "sasl_mechanism": self.kafka_sasl,
                "sasl_plain_username": self.kafka_user,
                "sasl_plain_password": self.kafka_password.get_secret_value(),
            }
        return KafkaAccess(self.kafka_bootstrap, security)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - made below, where a directory is named
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = os.environ.get("KINDRED_CONFIG")
        files: tuple[PydanticBaseSettingsSource, ...] = ()
        if toml:
            files = (TomlConfigSettingsSource(settings_cls, Path(toml)),)
        secrets = os.environ.get("KINDRED_SECRETS")
        if secrets:
            files = (SecretsSettingsSource(settings_cls, Path(secrets)), *files)
        return (init_settings, env_settings, dotenv_settings, *files)


def described(settings: type[BaseSettings]) -> list[tuple[str, str, str, str]]:
    """(variable, type, default, description) of every setting, in order, for the page and `--help`."""
    rows: list[tuple[str, str, str, str]] = []
    for name, info in settings.model_fields.items():
        default: Any = None if info.default is PydanticUndefined else info.default
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
    bool: "true or false",
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
