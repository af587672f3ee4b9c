"""Published interests: only of users who are known. An erased user's last record must be a null."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from model.users import user_key
from ops.audit.findings import Findings, Kind
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from ops.audit.window import Bounds, topic_pieces
from ops.cli.target import Target
from schemas.topics import USER_INTERESTS


def check_interests(
    target: Target, rules: Rules, of: Bounds, spill: Spill, findings: Findings, *, whole: bool
) -> Iterator[int]:
    """whole: the log has all users, so that one it lacks is known to nobody. Yields how many records were read
    since."""
    key = partial(user_key, secret=rules.secret)
    for piece in topic_pieces(target, USER_INTERESTS, of):
        for record in piece:
            user = key((record.key or b"").decode(errors="replace"))
            spill.publish_interests(user, record.partition, record.offset, gone=record.value is None)
        yield len(piece)
    for rows in spill.interests():
        users = [user for user, _, _ in rows]
        alive, known = spill.alive(users), spill.known(users)
        for user, partition, offset in rows:
            if user not in alive and (whole or user in known):
                where = f"user-interests {partition}/{offset}"
                findings.add(
                    Kind.KEPT_INTERESTS,
                    where,
                    f"of user {user.hex()}, who is {'erased' if user in known else 'unknown'}",
                )
