"""The number of partitions is raised while workers run, and producers do not agree on who goes where."""

from __future__ import annotations

import json
from random import Random
from zlib import crc32

import pytest
from kafka.partitioner.default import murmur2

from tests.fault.counts import LOSSES, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import START_MS, WORDS, Load, Sending
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(LOSSES, 60))]


def test_partitions_that_are_added_are_read_from_their_beginning(stack: Stack, number: int, tally: Tally) -> None:
    load, pick = Load(number, partitions=PARTITIONS), Random(number)
    row = tally("partitions added while running, producers with different partitioners")
    stack.worker()
    stack.worker()
    for turn in range(LOSSES):
        with feeding(stack, load):
            stack.wait_committed(sum(stack.committed().values()) + 150)
            before = len(stack.ends)
            stack.add_partitions(before + 2)
            row.happened()
        # At once: nobody may begin behind what was written before it was noticed.
        stack.produce(_of_many_producers(turn, before, before + 2, pick))
        stack.wait_done()

    row.audit(stack)


def _of_many_producers(turn: int, before: int, after: int, pick: Random) -> list[Sending]:
    """Users with at most three events, each placed by another partitioner: Kafka's own, librdkafka's, a random one; of
    producers that know of the new partitions and of those that do not yet."""
    sendings = []
    for n in range(150):
        key = f"p{turn}-{n}".encode()
        for nth in range(pick.randint(1, 3)):
            known = pick.choice([before, after])
            place = pick.choice([(murmur2(key) & 0x7FFFFFFF) % known, crc32(key) % known, pick.randrange(known)])
            text = " ".join(pick.choices(WORDS, k=5))
            value = {"user_id": key.decode(), "text": text, "item_id": f"item-{pick.randrange(40)}"}
            sendings.append(Sending(place, key, json.dumps(value).encode(), START_MS + 1000 * (nth + 1)))
    return sendings
