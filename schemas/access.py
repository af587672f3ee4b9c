"""How Kafka is reached: addresses, and what TLS and a login need beside them. (For Redis a URL says it all.)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """bootstrap: host:port, separated by commas. security: further arguments of every kafka-python client; may hold a
    password, so that it is in no repr."""

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def arguments(self) -> dict[str, Any]:
        """What every kafka-python client takes."""
        return {"bootstrap_servers": self.bootstrap.split(","), **self.security}
