"""Which Kafka and Redis a command talks to.

First wins: `--data-dir DIR`; the settings KINDRED_KAFKA_BOOTSTRAP and KINDRED_REDIS_URL (variables, .env, TOML), when
at least one is given; the embedded stack in `.kindred`. Everything else (group, namespace, …) comes from the settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from ops.errors import BadInput, NoStack
from ops.stack import endpoints
from schemas.access import KafkaAccess
from schemas.settings import ConnectionSettings, ReleasePlace, SettingsError, read_settings
from schemas.topics import Topic, topic_name

DEFAULT_DATA_DIR: Final = Path(".kindred")

Settings = TypeVar("Settings", bound=ConnectionSettings)


@dataclass(frozen=True, slots=True)
class Target:
    """kafka: host:port; redis_url may hold a password; metrics: the workers' addresses, known for embedded stacks only;
    data_dir: of the embedded stack, None for servers that the settings name."""

    kafka: KafkaAccess
    redis_url: str = field(repr=False)
    group: str
    namespace: str
    releases: ReleasePlace
    metrics: tuple[str, ...] = ()
    data_dir: Path | None = None

    def topic(self, topic: Topic) -> str:
        return topic_name(topic, self.namespace)


def settings(kind: type[Settings]) -> Settings:
    """The settings of this kind. Raises BadInput naming the variable; the value may be a secret and is not printed."""
    try:
        return read_settings(kind)
    except SettingsError as error:
        raise BadInput(f"A setting is wrong. {error}.", "See docs/configuration.md for what each may be.") from None


def find(data_dir: Path | None) -> Target:
    """The stack that a command means. Raises NoStack and BadInput."""
    given = settings(ConnectionSettings)
    named = given.model_fields_set & {"kafka_bootstrap", "redis_url"}
    if data_dir is None and named:
        return Target(
            kafka=given.kafka(),
            redis_url=given.redis_url.get_secret_value(),
            group=given.group,
            namespace=given.namespace,
            releases=given.release_place,
        )
    directory = data_dir or DEFAULT_DATA_DIR
    found = endpoints.read(directory)
    if found is None:
        raise NoStack(
            f"No stack is running in {directory}.",
            "Start one with `kindred up --detach`, name another with --data-dir, or set KINDRED_KAFKA_BOOTSTRAP and "
            "KINDRED_REDIS_URL.",
        )
    return Target(
        kafka=KafkaAccess(found.kafka),
        redis_url=found.redis,
        group=given.group,
        namespace=given.namespace,
        releases=find_releases(directory),
        metrics=found.metrics,
        data_dir=directory,
    )


def find_releases(data_dir: Path | None) -> ReleasePlace:
    """Where releases are kept, also where no stack is running. Raises BadInput."""
    given = settings(ConnectionSettings)
    if data_dir is None or "releases" in given.model_fields_set:
        return given.release_place
    return ReleasePlace(data_dir / "releases")
