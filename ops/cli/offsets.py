"""Where the workers' group stands in `user-text`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from ops import broker
from ops.cli.render import plain_table
from ops.cli.target import Target
from ops.errors import BadInput, NoStack
from schemas.topics import USER_TEXT


@dataclass(frozen=True, slots=True)
class Standing:
    """begin: first offset that is still there; committed: None where the group has committed nothing; end: offset of
    the next record to be written; lag: records from the committed offset (or begin) to the end."""

    partition: int
    begin: int
    committed: int | None
    end: int
    lag: int


def standings(target: Target) -> list[Standing]:
    """One a partition. Raises NoStack where the topic is missing, Unreachable."""
    with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
        return ask_standings(target, admin, reader)


def ask_standings(target: Target, admin: Any, reader: Any) -> list[Standing]:
    """The same with clients that are open: an admin client, and a reader for nothing else."""
    topic = target.topic(USER_TEXT)
    parts = broker.partitions(admin, topic)
    if not parts:
        raise NoStack(f"The topic {topic} does not exist.", "Create the topics with `kindred topics create`.")
    begins = broker.beginnings(admin, parts)
    # Committed first: what is written in between may then count as lag, but no lag is ever negative.
    done = broker.committed(admin, target.group, parts)
    ends = broker.ends(admin, reader, parts)
    found = []
    for part in parts:
        at = done.get(part)
        lag = ends[part] - max(begins[part], begins[part] if at is None else at)
        found.append(Standing(part.partition, begins[part], at, ends[part], max(0, lag)))
    return found


def check_within(target: Target, partition: int, to: int) -> int:
    """The committed offset, from which `to` is not yet read. Raises BadInput where it is no such offset."""
    found = {standing.partition: standing for standing in standings(target)}
    if partition not in found:
        raise BadInput(f"user-text has no partition {partition}.", f"It has {min(found)} to {max(found)}.")
    standing = found[partition]
    start = standing.begin if standing.committed is None else standing.committed
    if not start <= to <= standing.end:
        raise BadInput(
            f"Offset {to} of partition {partition} is outside of what is still to be read.",
            f"Give an offset from {start} to {standing.end} (`kindred offsets show`).",
        )
    return start


def show(target: Target, *, as_json: bool) -> None:
    found = standings(target)
    if as_json:
        sys.stdout.write(json.dumps([asdict(standing) for standing in found]) + "\n")
        return
    table = plain_table("partition", "begin", "committed", "end", "lag")
    for column in table.columns:
        column.justify = "right"
    for standing in found:
        at = "-" if standing.committed is None else str(standing.committed)
        table.add_row(str(standing.partition), str(standing.begin), at, str(standing.end), str(standing.lag))
    Console().print(table)
