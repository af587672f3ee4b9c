"""Sums over users (popularity, users of an item, label weights) and the names of items and labels, against the log's.

Only where every event of the log is in them: the log is whole, and nothing is under way. Sums that the order between
partitions decides (see Replay.loosen) are left out; of a space that was filled beside another one, the events of users
who were erased may be in them or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, log2
from typing import Final

from model.index import MAX_KNOWN_LABELS
from ops.audit.expected import ItemSum
from ops.audit.findings import Findings, Kind
from ops.audit.held import Held, HeldItem
from ops.audit.spill import Spill
from schemas.state import hash64

GAP: Final = 1e-8
"""Of sums of doubles that were added in another order; popularity is a log2, so this is relative."""

Names = set[tuple[str, str]]
"""(id, title) of an item, as events gave them."""


def check_items(spill: Spill, held: Held, findings: Findings) -> Iterator[int]:
    """Yields how many items were compared since."""
    for piece in spill.items():
        found = held.items([item.item for item in piece])
        names = spill.titles([item.item for item in piece])
        loose = spill.loose(item.item for item in piece)
        erasable = spill.erasable_of(item.item for item in piece)
        for want, have in zip(piece, found, strict=True):
            called = names.get(want.item, set())
            where = _place(want.item, called)
            if want.item not in loose:
                _sums(want, have, erasable.get(want.item, (-inf, 0.0))[0], where, findings)
            _name(want, have, called, where, findings)
        yield len(piece)
    for items in held.item_hashes():
        for item in set(items) - spill.known_items(items):
            findings.add(Kind.ITEM_NAME, f"item {item:016x}", "is known to Redis, and no event names it")
        yield 0


def check_labels(spill: Spill, held: Held, findings: Findings) -> Iterator[int]:
    """Yields how many labels were compared since."""
    # Workers learn no more names than these.
    all_named = spill.label_count() <= MAX_KNOWN_LABELS
    for piece in spill.labels():
        found = held.labels([label for label, _, _ in piece])
        loose = spill.loose(label for label, _, _ in piece)
        erasable = spill.erasable_of(label for label, _, _ in piece)
        for (label, weight, name), (have, called) in zip(piece, found, strict=True):
            where = f"label {label:016x}"
            least = weight - erasable.get(label, (-inf, 0.0))[1]
            if label not in loose and not least - _gap(least) <= have <= weight + _gap(weight):
                findings.add(Kind.LABEL_WEIGHT, where, f"weighs {have:.6g}, in the log {weight:.6g}")
            if called != name and (called is not None or all_named):
                findings.add(Kind.LABEL_NAME, where, f"is called {called!r}, in the log {name!r}")
        yield len(piece)
    for labels in held.label_hashes():
        for label in set(labels) - spill.label_names(labels).keys():
            findings.add(Kind.LABEL_NAME, f"label {label:016x}", "is known to Redis, and no event carries it")
        yield 0


def _sums(want: ItemSum, have: HeldItem, erasable: float, where: str, findings: Findings) -> None:
    # Equal where both are nothing.
    if have.popularity != want.popularity and not _least(want.popularity, erasable) <= have.popularity <= (
        want.popularity + GAP
    ):
        said = f"log2 of its popularity is {have.popularity:.9g}, in the log {want.popularity:.9g}"
        findings.add(Kind.POPULARITY, where, said)
    if not want.users <= have.users <= want.users + want.spare:
        findings.add(Kind.USERS_PER_ITEM, where, f"{have.users} users have it, in the log {want.users}")


def _least(popularity: float, erasable: float) -> float:
    """log2 of what is left without the erasable part; both are log2."""
    share = 2.0 ** min(0.0, erasable - popularity)
    # Where next to nothing is left, rounding decides what.
    return -inf if share > 1 - GAP else popularity + log2(1 - share) - GAP


def _gap(value: float) -> float:
    return GAP * max(1.0, abs(value))


def _name(want: ItemSum, have: HeldItem, names: Names, where: str, findings: Findings) -> None:
    if have.item_id is None or hash64(have.item_id) != want.item:
        findings.add(Kind.ITEM_NAME, where, f"its id in Redis is {have.item_id!r}")
    titles = {title for _, title in names if title}
    if (have.title or "") not in (titles or {""}):
        findings.add(Kind.ITEM_NAME, where, f"its title in Redis is {have.title!r}, which no event gave")


def _place(item: int, names: Names) -> str:
    item_id = next((item_id for item_id, _ in names), None)
    return f"item {item:016x}" if item_id is None else f"item {item_id}"
