"""Step 7 on Kafka, for a trainer in its turn: nothing is announced over what stood not there when it was judged.

Where the broker has transactions the announcement is one with the proof of the turn (trainer/turn.py).
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Final

import kafka

from model.kafka.abilities import abilities
from model.kafka.client import CALL_TIMEOUT_MS, asked, making_no_topics
from schemas.access import KafkaAccess
from schemas.announcement import ReleaseAnnouncement
from trainer.announce import announce, announce_in_turn, announced
from trainer.errors import TurnLost
from trainer.turn import Turn

TRANSACTION_MS: Final = 10_000
"""For so long a trainer that was killed while announcing keeps what comes after it from the workers."""


class Announcer:
    """topic: of the announcements. Every call raises BrokerUnavailable and BrokerRefused."""

    def __init__(self, access: KafkaAccess, topic: str, client_id: str) -> None:
        self._access = access
        self._topic = topic
        self._client_id = client_id

    def standing(self) -> ReleaseAnnouncement | None:
        """The announcement that stands now."""
        consumer = asked(
            lambda: kafka.KafkaConsumer(
                **self._access.arguments(),
                group_id=None,
                client_id=self._client_id,
                kafka_client=making_no_topics,
                enable_auto_commit=False,
                isolation_level="read_committed",
            ),
            "consumer",
        )
        with closing(consumer):
            return asked(lambda: announced(consumer, self._topic), "announcement")

    def announce(self, turn: Turn, after: ReleaseAnnouncement | None, told: ReleaseAnnouncement) -> None:
        """after: what stood when told was judged. Raises TurnLost where another trainer, or an operator, has acted
        meanwhile."""
        now = self.standing()
        if now != after:
            raise TurnLost(
                f"{now.release if now else 'nothing'} is announced by now, and {told.release} was judged against what "
                "stood before: nothing is announced. The next refit judges against what stands now; `kindred model "
                "promote` announces by hand"
            )
        transactions = self._has_transactions()
        options = {"transactional_id": turn.group, "transaction_timeout_ms": TRANSACTION_MS} if transactions else {}
        producer = asked(
            lambda: kafka.KafkaProducer(
                **self._access.arguments(),
                **options,
                acks="all",
                client_id=self._client_id,
                kafka_client=making_no_topics,
            ),
            "producer",
        )
        with closing(producer):
            if transactions:
                asked(producer.init_transactions, "begin transactions")
                asked(lambda: turn.show(partial(announce_in_turn, producer, self._topic, told)), "announce")
            else:
                asked(turn.commit, "turn")
                asked(lambda: announce(producer, self._topic, told), "announce")

    def _has_transactions(self) -> bool:
        admin = asked(
            lambda: kafka.KafkaAdminClient(**self._access.arguments(), request_timeout_ms=CALL_TIMEOUT_MS), "admin"
        )
        with closing(admin):
            cluster = asked(admin.describe_cluster, "describe cluster")
            versions = asked(admin.api_versions, "api versions")
        return abilities(cluster["cluster_id"], {int(key) for key in versions}).transactions
