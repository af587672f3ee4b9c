"""What every service is told from outside about where things are: Kafka, Redis, releases, the encoder.

Values come from, first wins: arguments of the program, `KINDRED_…` environment variables, `.env`, files in the
directory that `KINDRED_SECRETS` names (one a setting, called as the variable in lower case), a TOML file (`--config
FILE` or `KINDRED_CONFIG`), the defaults below. An empty value stands for none. docs/configuration.md is generated from
the descriptions.

No error of a setting holds a value: it may be a secret, or the neighbour of one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Self, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from schemas.access import KafkaAccess, tls_context
from schemas.errors import SchemaError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")


class SettingsError(SchemaError):
    """Settings that a program cannot run with; the text names each variable or file and what it must be."""


@dataclass(frozen=True, slots=True)
class ReleasePlace:
    """Where releases are kept. directory: on this machine, where all of them are read from. url: what the directory
    holds copies of; None where the directory is all there is."""

    directory: Path
    url: str | None = None


class ConnectionSettings(BaseSettings):
    """Settings that worker, trainer and commands share."""

    model_config = SettingsConfigDict(
        env_prefix="KINDRED_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

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
    release_schemes: str = Field(
        "file",
        pattern=r"^[a-z][a-z0-9+.-]*(,[a-z][a-z0-9+.-]*)*$",
        description="URL schemes that releases may come from, separated by commas.",
    )
    releases: Path | str = Field(
        Path(".kindred/releases"),
        description="Directory of model releases, as a path or a file:// URL; or a URL that fsspec reads and writes, "
        "such as s3://bucket/releases, with its package installed (for s3: s3fs) and its scheme among "
        "KINDRED_RELEASE_SCHEMES. Copies are kept in KINDRED_CACHE then. Without user, password or query, which belong "
        "into fsspec's own configuration.",
    )
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

    @field_validator("releases", mode="before")
    @classmethod
    def _place_of_releases(cls, value: object, info: ValidationInfo) -> object:
        """A path as it is, a file:// URL as its path, any other URL of a scheme that is allowed as it is."""
        found = _SCHEME.match(value) if isinstance(value, str) else None
        if found is None or not isinstance(value, str):
            return Path(value) if isinstance(value, str) else value
        scheme, allowed = found[1].lower(), str(info.data.get("release_schemes", ""))
        if scheme not in allowed.split(","):
            raise ValueError(f"the scheme {scheme} is not among KINDRED_RELEASE_SCHEMES ({allowed})")
        url = urlsplit(value)
        if scheme == "file":
            if url.netloc not in ("", "localhost") or url.query or url.fragment:
                raise ValueError("a file:// URL has an absolute path and nothing else: file:///srv/releases")
            return Path(unquote(url.path))
        if "::" in value or "@" in value or url.query or url.fragment:
            raise ValueError("a URL of releases is a place and nothing else, such as s3://bucket/releases")
        return f"{scheme}://{value[found.end() :].rstrip('/')}"

    @field_validator("redis_url")
    @classmethod
    def _url_can_be_read(cls, value: SecretStr) -> SecretStr:
        """Checked here because others' errors tell what they could not read: of a password with a slash, its beginning
        is taken for the port."""
        try:
            url = urlsplit(value.get_secret_value())
            readable = url.scheme in ("redis", "rediss", "unix") and (url.port is None or url.scheme != "unix")
        except ValueError:
            readable = False
        if not readable:
            raise ValueError(
                "must look like redis://user:password@host:6379/0, rediss://… or unix://…; in a password / is written "
                "%2F, @ is %40, # is %23 and ? is %3F"
            ) from None
        return value

    @field_validator("kafka_ca", "kafka_certificate", "kafka_key")
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                value.open("rb").close()
            except OSError as error:
                raise ValueError(f"the file {value} cannot be read ({error.strerror})") from error
        return value

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
        if self.kafka_security.endswith("SSL"):
            tls_context(self.kafka_ca, self.kafka_certificate, self.kafka_key)  # says now what is wrong with a file
        return self

    def kafka(self) -> KafkaAccess:
        """How to reach Kafka, as these settings have it."""
        security: dict[str, Any] = {}
        if self.kafka_security != "PLAINTEXT":
            security["security_protocol"] = self.kafka_security
        if self.kafka_security.endswith("SSL"):
            security["ssl_context"] = tls_context(self.kafka_ca, self.kafka_certificate, self.kafka_key)
        if self.kafka_security.startswith("SASL") and self.kafka_password is not None:
            security |= {
                "sasl_mechanism": self.kafka_sasl,
                "sasl_plain_username": self.kafka_user,
                "sasl_plain_password": self.kafka_password.get_secret_value(),
            }
        return KafkaAccess(self.kafka_bootstrap, security)

    @property
    def release_place(self) -> ReleasePlace:
        """Where releases are kept, as these settings have it."""
        if isinstance(self.releases, Path):
            return ReleasePlace(self.releases)
        copies = hashlib.sha256(self.releases.encode()).hexdigest()[:16]
        return ReleasePlace(self.cache / "releases" / copies, self.releases)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - made below, where a directory is named
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files: list[PydanticBaseSettingsSource] = []
        # What is named and cannot be read is an error: without it a service would run on defaults, and say nothing.
        if secrets := os.environ.get("KINDRED_SECRETS"):
            if not os.access(secrets, os.R_OK | os.X_OK) or not Path(secrets).is_dir():
                raise SettingsError(f"KINDRED_SECRETS: {secrets} is not a directory that can be read")
            files.append(SecretsSettingsSource(settings_cls, Path(secrets)))
        if toml := os.environ.get("KINDRED_CONFIG"):
            files.append(_toml(settings_cls, Path(toml)))
        return (init_settings, env_settings, dotenv_settings, *files)


Settings = TypeVar("Settings", bound=ConnectionSettings)


def read_settings(kind: type[Settings], **given: Any) -> Settings:
    """The settings of this kind, `given` over all others. Raises SettingsError: each wrong one by its variable."""
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = (
            (f"KINDRED_{'_'.join(map(str, found['loc'])).upper()}: " if found["loc"] else "")
            + found["msg"].removeprefix("Value error, ")
            for found in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise SettingsError("; ".join(wrong)) from None
    except (SourceError, OSError, UnicodeDecodeError):
        raise SettingsError("a file of KINDRED_SECRETS, or .env, cannot be read as text in UTF-8") from None


def _toml(settings: type[BaseSettings], file: Path) -> TomlConfigSettingsSource:
    if not file.is_file():
        raise SettingsError(f"KINDRED_CONFIG: {file} is not a file")
    try:
        return TomlConfigSettingsSource(settings, file)
    except OSError as error:
        raise SettingsError(f"KINDRED_CONFIG: {file} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise SettingsError(f"KINDRED_CONFIG: {file} is not TOML: {where}") from None


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
