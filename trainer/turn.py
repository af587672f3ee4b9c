"""One trainer at a time for a stack: the one that holds the partition of `model-releases` in the trainers' group.

A thread keeps the membership up while the others fit. A trainer that froze, and was replaced, is told so by the broker
when it would announce: it shows its generation of the group, and an old one is refused. Where the broker has
transactions the announcement is one with that proof; without them milliseconds lie between the two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from model.kafka.base import BrokerUnavailable
from model.kafka.client import CALL_TIMEOUT_MS, asked, keep_joining, making_no_topics, polled
from schemas.access import KafkaAccess
from trainer.errors import Stopped, TurnLost

log = logging.getLogger(__name__)

Proof = tuple[Mapping[TopicPartition, OffsetAndMetadata], Any]
"""What a broker takes: offsets to commit, and the membership that may."""

SESSION_MS: Final = 10_000
"""How long a trainer may be silent before another one's turn comes."""
HEARTBEAT_MS: Final = 1_000
PROOF_S: Final = 30.0
"""While another trainer joins nobody's generation is settled, for up to 10 s on the embedded broker."""
_POLL_S: Final = 0.2
ALONE_S: Final = 30.0
"""A group on the embedded broker whose only member left while another one joined never settles again. Trainers of one
stack there share a directory, whose lock keeps them from it."""
_LOOK_S: Final = 3.0
_UUID: Final = len("-00000000-0000-0000-0000-000000000000")


class Turn:
    """Membership in the group, from `take` to `close`. client_id: who the others are told to be waiting for."""

    def __init__(self, access: KafkaAccess, group: str, topic: str, client_id: str) -> None:
        self.group = group
        self._access = access
        self._place = TopicPartition(topic, 0)
        self._client_id = client_id
        self._consumer: Any = None
        self._ended = threading.Event()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._keep, name="turn", daemon=True)

    def take(self, stop: Callable[[], bool]) -> None:
        """Wait for this trainer's turn, and say for whom.

        Raises Stopped where `stop` says so first, BrokerUnavailable where no broker is found or it lets nobody have a
        turn (one that goes away later is waited for), BrokerRefused.
        """
        self._consumer = asked(self._member, "consumer")
        asked(lambda: self._consumer.subscribe([self._place.topic]), "subscribe")
        self._thread.start()
        told: list[str] = []
        alone_since = time.monotonic()
        look_at = alone_since + _LOOK_S
        while not self._holds():
            if stop() or self._ended.is_set():
                raise Stopped("stopped while another trainer was at work")
            if (now := time.monotonic()) > look_at:
                look_at = now + _LOOK_S
                others = self._others()
                if others != []:
                    alone_since = now
                if others and others != told:
                    log.info(
                        "another trainer is at work, waiting for it to end; besides this one: %s", ", ".join(others)
                    )
                    told = others
                if now > alone_since + ALONE_S:
                    raise BrokerUnavailable(
                        f"the group {self.group} gives its only member no turn; where the broker is the embedded one, "
                        "start the stack anew"
                    )
            self._ended.wait(_POLL_S)

    def show(self, to: Callable[[Mapping[TopicPartition, OffsetAndMetadata], Any], None]) -> None:
        """Call `to` with the proof that it is this trainer's turn, again while the group is being rearranged.

        to: has a broker check it, and raises CommitFailedError or RebalanceInProgressError where it does not hold.
        Raises TurnLost, and whatever else `to` raises.
        """
        deadline = time.monotonic() + PROOF_S
        while True:
            proof = self._proof()
            try:
                return to(*proof)
            except (CommitFailedError, RebalanceInProgressError) as error:
                if time.monotonic() > deadline:
                    raise _lost(str(error)) from error
            self._ended.wait(_POLL_S)

    def commit(self) -> None:
        """Show the proof to the broker by itself, where no announcement can be one with it. Raises TurnLost and
        KafkaError."""
        self.show(lambda offsets, _: self._consumer.commit(offsets, timeout_ms=CALL_TIMEOUT_MS))

    def close(self) -> None:
        """The next one's turn comes at once. Whether it was taken or not."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._consumer is not None:
            self._consumer.close()

    def _member(self) -> Any:
        return KafkaConsumer(
            **self._access.arguments(),
            group_id=self.group,
            client_id=self._client_id,
            kafka_client=making_no_topics,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            partition_assignment_strategy=[CooperativeStickyAssignor],  # whoever holds it keeps it when others join
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )

    def _keep(self) -> None:
        """Poll for as long as this object lives: the group takes a member that does not for gone."""
        while not self._ended.is_set():
            try:
                keep_joining(self._consumer._coordinator)
                polled(self._consumer, _POLL_S, 100)
            except BrokerUnavailable as error:
                log.debug("%s", error)  # its place in the group lasts a while; the proof tells
                self._ended.wait(_POLL_S)
            except Exception as error:
                self._trouble = error
                return

    def _holds(self) -> bool:
        """Raises what has ended the membership."""
        if self._trouble is not None:
            raise self._trouble
        return self._place in self._consumer.assignment()

    def _proof(self) -> Proof:
        # The membership first: whoever falls out of the group loses its partitions before it is a member again.
        membership = self._consumer.group_metadata()
        if membership.generation_id < 0 or not self._holds():
            raise _lost("it is no member any more")
        return {self._place: OffsetAndMetadata(0, "", -1)}, membership

    def _others(self) -> list[str] | None:
        """The other members of the group; None while Kafka does not tell."""
        try:
            admin = KafkaAdminClient(**self._access.arguments(), request_timeout_ms=CALL_TIMEOUT_MS)
            # 3.0.12 always asks for rights too, and cannot read what the embedded broker answers.
            admin._process_acl_operations = dict
            with closing(admin):
                members = admin.describe_groups([self.group])[self.group]["members"]
        except KafkaError as error:
            log.debug("the trainer at work is not known: %s", error)
            return None
        # A member's id is its client's and a UUID; the embedded broker tells no client's by itself.
        return sorted({str(member["member_id"])[:-_UUID] for member in members} - {self._client_id})


def _lost(why: str) -> TurnLost:
    return TurnLost(
        f"this trainer did not answer Kafka for too long, and another one's turn may have come ({why}): nothing is "
        "announced. Its release is kept, and the next refit of this window announces it where it is still better than "
        "what serves then"
    )
