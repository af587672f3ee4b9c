"""What a broker can do beyond reading and writing, from what it tells of itself. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

WRITE_TXN_MARKERS: Final = 27
LIST_TRANSACTIONS: Final = 66
EMBEDDED: Final = "tansu_cluster"
"""The cluster id of the broker that `kindred up` starts; it takes transactional requests and isolates nothing."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """name: for people. transactions: aborted ones are kept from readers, so that exactly_once can be kept.
    keeps_log: over its own end. keeps_notes: a commit's metadata comes back, so that two stacks in one group are
    noticed. static_members: a worker that is started again has its partitions back at once."""

    name: str
    transactions: bool
    keeps_log: bool
    keeps_notes: bool
    static_members: bool


def abilities(cluster_id: str, api_keys: Collection[int]) -> Abilities:
    """api_keys: the requests that the broker answers, by their number in Kafka's protocol. Whoever isolates
    transactions writes markers into the log or lists them."""
    if cluster_id == EMBEDDED:
        return Abilities(
            "the embedded broker", transactions=False, keeps_log=False, keeps_notes=False, static_members=False
        )
    transactions = WRITE_TXN_MARKERS in api_keys or LIST_TRANSACTIONS in api_keys
    return Abilities("Kafka", transactions=transactions, keeps_log=True, keeps_notes=True, static_members=True)
