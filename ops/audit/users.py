"""Users: what Redis holds of each against what the log gives, and whether an erased one is gone from everywhere.

`differences` is pure. Where a user's order of events is not known (see ops/audit/replay.py) only what every order gives
is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from model.users import UserKey
from ops.audit.expected import History
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, HeldUser
from ops.audit.replay import ERASED, EXPIRED, PARTIAL, ROAMS, entangled
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from schemas.state import UserState, unpack_place, unpack_position
from worker.store.redis import GRACE_MS
from worker.store.save import FEED_US, MARKER_MS

COSINE_GAP: Final = 1e-3
"""1 - cosine that a text's vector may be off: the encoders promise a cosine of .999, and batches differ. A mean of such
vectors is off by at most as much: half the squared distance of unit vectors is 1 - cosine, and it is convex."""
ROUNDING: Final = 1e-5
"""The same of a mean in float16 where the events came in another order."""
FEED_MARGIN_MS: Final = 60_000

Difference = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Frame:
    """stops: partition → end of its window. exact: the encoder gives the same bits in every batch."""

    rules: Rules
    stops: Mapping[int, int]
    exact: bool


@dataclass(slots=True)
class UserCounts:
    """compared: users whose value was looked at. moved: not, because events behind the window were applied to them.
    expired: gone from Redis after their time to live."""

    compared: int = 0
    moved: int = 0
    expired: int = 0
    vectors: int = 0


def check_users(spill: Spill, held: Held, frame: Frame, findings: Findings, if_quiet: Findings) -> Iterator[UserCounts]:
    """Every user of the log; yields its counts after each piece. if_quiet: what is wrong only where nothing was under
    way meanwhile."""
    counts = UserCounts()
    for histories in spill.users():
        found = held.users([history.user for history in histories], MARKER_MS)
        for history, have in zip(histories, found, strict=True):
            if _moved(have, frame.stops):
                counts.moved += 1
                if_quiet.add(Kind.POSITION, name(history.user), f"stands at {have.position}, behind the window's end")
                continue
            if _may_be_gone(history, have, frame.rules):
                counts.expired += 1
                continue
            counts.compared += 1
            counts.vectors += frame.rules.sampled(history.user) and history.state is not None
            for kind, said in differences(history, have, frame):
                findings.add(kind, name(history.user), said)
        yield counts


def check_unknown(spill: Spill, held: Held, findings: Findings) -> Iterator[int]:
    """Users of Redis and of its feed that the log does not have; only where the log is whole. Yields how many keys and
    entries were looked at since."""
    for users in held.user_keys():
        for user in set(users) - spill.known(users):
            findings.add(Kind.UNKNOWN_USER, name(user), "has a key in Redis, and no event in the log")
        yield len(users)
    for shard, last, rows in held.feed():
        known = spill.known([user for user, _ in rows])
        for user, score in rows:
            if user not in known:
                findings.add(Kind.UNKNOWN_USER, name(user), f"is in the feed of shard {shard}, and not in the log")
            if score > last:
                findings.add(
                    Kind.FEED, f"shard {shard}", f"an entry has score {score:.0f}, the highest told is {last:.0f}"
                )
        yield len(rows)


def name(user: UserKey) -> str:
    return f"user {user.hex()}"


def differences(history: History, have: HeldUser, frame: Frame) -> Iterator[Difference]:
    """Between a user of the log and of Redis; nothing where they agree."""
    want = history.state
    if have.unreadable:
        yield Kind.UNREADABLE_USER, have.unreadable
        return
    if have.elsewhere and want is None:
        yield Kind.NOT_ERASED, "is erased, and has a state in another space"
    if have.position is None:
        if want is None:
            yield Kind.LOST_MARKER, "was erased less than the marker's 7 days ago"
        else:
            yield Kind.LOST_USER, f"has {want.count} events in the log and nothing in Redis"
        return
    if not _stands(history, have.position):
        yield Kind.POSITION, f"stands at {have.position}, the log at {unpack_position(history.position)}"
    if want is None and _was_erased_last(history):
        if have.state is not None:
            yield Kind.NOT_ERASED, f"has a state of {have.state.count} events, all older than the tombstone"
        return
    if entangled(history, frame.rules.user_ttl_ms):
        if have.state is not None and have.state.count > history.events and not history.flags & PARTIAL:
            yield Kind.COUNT, f"{have.state.count} events, the log has only {history.events}"
        return
    if want is None:
        if have.state is not None:
            yield Kind.NOT_ERASED, f"has a state of {have.state.count} events after the tombstone"
        elif not have.in_feed and have.age_ms is not None and have.age_ms < FEED_US // 1000 - FEED_MARGIN_MS:
            yield Kind.FEED, "was erased within the hour, and the feed does not say so"
        return
    if have.state is None:
        yield Kind.LOST_USER, f"has {want.count} events in the log and is erased in Redis"
    elif history.flags & PARTIAL:
        # The log's newest event may repeat one from before the log: then it was rightly skipped.
        if not history.ids and have.state.seen_at < want.seen_at:
            yield Kind.FACTS, "was seen earlier than the log's newest event"
    elif history.flags & ROAMS:
        yield from _any_order(want, have.state, frame, sampled=frame.rules.sampled(history.user))
    else:
        yield from _in_order(want, have.state, frame, sampled=frame.rules.sampled(history.user))


def _stands(history: History, position: Mapping[int, int]) -> bool:
    want = unpack_position(history.position)
    if history.flags & ROAMS and history.flags & (ERASED | EXPIRED):
        # Redis may have dropped all of the user in between: then only what came later is told.
        return all(want.get(partition) == offset for partition, offset in position.items())
    return position == want or bool(history.flags & PARTIAL and want.items() <= dict(position).items())


def _was_erased_last(history: History) -> bool:
    """Whether every order of the partitions ends with the user erased, and the order between them matters."""
    _, erased = unpack_place(history.position)
    return bool(history.flags & ROAMS) and erased is not None and erased[0] >= history.newest


def _in_order(want: UserState, have: UserState, frame: Frame, *, sampled: bool) -> Iterator[Difference]:
    if have.count != want.count:
        yield Kind.COUNT, f"{have.count} events, the log has {want.count}"
    if have.first != want.first:
        yield Kind.FIRST_EVENTS, f"{have.first}, in the log {want.first}"
    wrong = [
        what
        for what, same in (
            ("items", have.items == want.items),
            ("labels", list(have.labels.items()) == list(want.labels.items())),
            ("event ids", have.event_ids == want.event_ids),
            ("times", (have.last_time, have.seen_at) == (want.last_time, want.seen_at)),
            ("weight", not sampled or bool(np.isclose(have.weight, want.weight, rtol=1e-9))),
        )
        if not same
    ]
    if wrong:
        yield Kind.FACTS, f"{', '.join(wrong)}: not the log's"
    if sampled:
        yield from _vector(want, have, 0.0 if frame.exact else COSINE_GAP)


def _any_order(want: UserState, have: UserState, frame: Frame, *, sampled: bool) -> Iterator[Difference]:
    if have.count != want.count:
        yield Kind.COUNT, f"{have.count} events, the log has {want.count}"
    if not _could_be_first(have, frame.rules.newcomer_events):
        yield Kind.FIRST_EVENTS, f"{have.first} are no first {frame.rules.newcomer_events} events in any order"
    wrong = [
        what
        for what, same in (
            ("items", set(have.items) == set(want.items)),
            (
                "labels",
                have.labels.keys() == want.labels.keys()
                and np.allclose([have.labels[label] for label in want.labels], list(want.labels.values()), rtol=1e-5),
            ),
            ("event ids", set(have.event_ids) == set(want.event_ids)),
            ("times", (have.last_time, have.seen_at) == (want.last_time, want.seen_at)),
            ("weight", not sampled or bool(np.isclose(have.weight, want.weight, rtol=1e-9))),
        )
        if not same
    ]
    if wrong:
        yield Kind.FACTS, f"{', '.join(wrong)}: not the log's, in whatever order its partitions are read"
    if sampled:
        yield from _vector(want, have, ROUNDING + (0.0 if frame.exact else COSINE_GAP))


def _could_be_first(have: UserState, newcomer_events: int) -> bool:
    latest: dict[int, int] = {}
    for partition, offset in have.first:
        if offset <= latest.get(partition, -1):
            return False
        latest[partition] = offset
    return len(have.first) == min(newcomer_events, have.count)


def _vector(want: UserState, have: UserState, gap: float) -> Iterator[Difference]:
    if have.vector.shape != want.vector.shape:
        yield Kind.VECTOR, f"{have.vector.shape[0]} dimensions, not {want.vector.shape[0]}"
        return
    away = have.vector.astype(np.float64) - want.vector
    half = float(away @ away) / 2
    if not half <= gap:
        yield (
            Kind.VECTOR,
            f"half the squared distance to the texts' vector is {half:.2g}, at most {gap:.2g} is rounding",
        )


def _moved(have: HeldUser, stops: Mapping[int, int]) -> bool:
    return any(offset >= stops.get(partition, offset + 1) for partition, offset in (have.position or {}).items())


def _may_be_gone(history: History, have: HeldUser, rules: Rules) -> bool:
    """Redis counts from the last write, which is not before the record's time, clocks allowing."""
    if have.position is not None or have.elsewhere:
        return False
    lives = MARKER_MS if history.state is None else rules.user_ttl_ms + GRACE_MS
    return rules.now_ms - history.newest > lives
