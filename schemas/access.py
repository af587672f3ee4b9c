"""How Kafka is reached: addresses, and what TLS and a login need beside them. (For Redis a URL says it all.)"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RECONNECT_MAX_MS: Final = 1000
"""Between two attempts to reach a broker that is away. With kafka-python's own 30 s, one that was away for a minute
would be back for half a minute before anyone noticed."""


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """bootstrap: host:port, separated by commas. security: further arguments of every kafka-python client; may hold a
    password, so that it is in no repr."""

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def arguments(self) -> dict[str, Any]:
        """What every kafka-python client takes."""
        return {
            "bootstrap_servers": self.bootstrap.split(","),
            "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
            **self.security,
        }

    @property
    def user(self) -> str | None:
        """Who logs in, for messages; None without a login."""
        return self.security.get("sasl_plain_username")

    @property
    def protocol(self) -> str:
        """What is spoken: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return str(self.security.get("security_protocol", "PLAINTEXT"))

    @property
    def tls(self) -> ssl.SSLContext | None:
        """None where TLS is not spoken."""
        return self.security.get("ssl_context")


def tls_context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer that checks the server's certificate and name: against this authority, or the system's where it
    is None; with a certificate of the client's own where there is one.

    Raises ValueError naming the file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{authority} holds no certificate of an authority in PEM ({_reason(error)})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        try:
            # An encrypted key would make OpenSSL ask on the terminal; with an empty password it fails instead.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"{certificate} and {key} are not a certificate and its unencrypted key in PEM ({_reason(error)})"
            ) from error
    return context


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else None) or error.strerror or type(error).__name__
