"""Apache Kafka that lets nobody in without TLS, a login and a right: one broker, an authority made for the test, users
with SCRAM passwords. Also the rights that a worker and the commands need, as docs/security.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kafka
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from schemas.access import KafkaAccess, tls_context
from tests.broker_servers import BrokerServer, broker_server

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "security.md"
ADMIN: Final = "admin"
WORKER: Final = "kindred-worker"
OPERATOR: Final = "kindred-operator"
PASSWORDS: Final = {
    ADMIN: "adm1n-s3cret-9f2c",
    WORKER: "w0rker-s3cret-51ae",
    OPERATOR: "0perator-s3cret-c07d",
}
"""User → password; nothing else in any output looks like them."""


@dataclass(frozen=True, slots=True)
class Right:
    """One line of the page's tables. name: of the resource, `*` behind it for a prefix."""

    operation: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def rights(table: str, **names: str) -> list[Right]:
    """The rights in the page's table under this heading. names: what stands for `NAMESPACE` and `GROUP`."""
    section = PAGE.read_text(encoding="utf-8").split(f"### {table}\n", 1)[1].split("\n#", 1)[0]
    found = []
    for resource, name, operations in re.findall(r"^\| (\w+) \| `([^`]+)` \| ([\w, ]+) \|", section, re.MULTILINE):
        for placeholder, value in names.items():
            name = name.replace(placeholder, value)
        found += [Right(operation.strip(), resource, name) for operation in operations.split(",")]
    assert found, f"{PAGE.name} has no table of rights under {table}"
    return found


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """ca: PEM file of the authority that signed the broker's certificate. other_ca: of one that did not."""

    server: BrokerServer
    ca: Path
    other_ca: Path

    @property
    def address(self) -> str:
        return self.server.address

    def settings(self, user: str, password: str | None = None, ca: Path | None = None) -> dict[str, str]:
        """KINDRED_ variables of somebody who may log in."""
        return {
            "KINDRED_KAFKA_BOOTSTRAP": self.address,
            "KINDRED_KAFKA_SECURITY": "SASL_SSL",
            "KINDRED_KAFKA_USER": user,
            "KINDRED_KAFKA_PASSWORD": PASSWORDS[user] if password is None else password,
            "KINDRED_KAFKA_CA": str(ca or self.ca),
        }

    def access(self, user: str = ADMIN) -> KafkaAccess:
        return KafkaAccess(
            self.address,
            {
                "security_protocol": "SASL_SSL",
                "ssl_context": tls_context(self.ca, None, None),
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": user,
                "sasl_plain_password": PASSWORDS[user],
            },
        )

    def grant(self, user: str, wanted: Sequence[Right]) -> None:
        with self._admin() as admin:
            admin.create_acls([_acl(user, right) for right in wanted])

    def revoke_all(self, user: str) -> None:
        anything = ACLFilter(
            f"User:{user}",
            "*",
            ACLOperation.ANY,
            ACLPermissionType.ANY,
            ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
        )
        with self._admin() as admin:
            admin.delete_acls([anything])

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        client = kafka.KafkaAdminClient(**self.access().arguments())
        try:
            yield client
        finally:
            client.close()


def _acl(user: str, right: Right) -> ACL:
    prefixed = right.name.endswith("*") and right.name != "*"
    pattern = ResourcePattern(
        ResourceType[_constant(right.resource)],
        right.name.rstrip("*") if prefixed else right.name,
        ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL,
    )
    operation = ACLOperation[_constant(right.operation)]
    return ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, pattern)


def _constant(name: str) -> str:
    """DescribeConfigs → DESCRIBE_CONFIGS"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


@contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """A running broker, killed at the end. Skips or fails as `broker_server`."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, other = trustme.CA(), trustme.CA()
    ca, other_ca, keystore = directory / "ca.pem", directory / "other-ca.pem", directory / "broker.pem"
    authority.cert_pem.write_to_path(ca)
    other.cert_pem.write_to_path(other_ca)
    issued = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    # Kafka reads keys in PKCS #8 only.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    keystore.write_bytes(pem + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    extra = {
        "listeners": "SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": "SASL_SSL://127.0.0.1:{port}",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f'{login} username="{ADMIN}" '
        f'password="{PASSWORDS[ADMIN]}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The controller's own listener has no login; it is not open to clients.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    users = [
        part
        for user, word in PASSWORDS.items()
        for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={word}]")
    ]
    with broker_server(directory, "apache", extra=extra, format_options=users) as server:
        yield SecuredKafka(server, ca, other_ca)
