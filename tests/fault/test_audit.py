"""`kindred audit` finds what is wrong: each kind of damage is done by hand and must be named, and nothing else with it.

One stack serves all tests. Its workers were killed and its Redis emptied on the way, and it is healthy; then they are
gone, so that nothing is mended. Redis is put back after each test; what was written to a topic stays, so a test counts
what came on top of what was found before it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import pack, unpack
from typing import Any, Final

import pytest

from model.encoder.dummy import DummyEncoder
from ops.audit.findings import MEANING, Kind
from schemas.dead_letter import REASON
from schemas.recommendation import recommendation_id
from schemas.state import hash64, pack_position, unpack_position, unpack_state
from schemas.topics import RECOMMENDATIONS, USER_INTERESTS
from tests.broker_servers import BrokerServer
from tests.fault.audit_scene import SHARDS, Scene, healthy
from tests.fault.comparison import KEY, assert_equals_reference, audited
from tests.fault.load import START_MS, Sending
from worker.broker.base import Record
from worker.store.keys import ShardKeys, hash_bytes, meta_key, shard_of_hash, shard_of_user

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]

LATER_MS: Final = START_MS + 10_000_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, lasting_broker: BrokerServer) -> Iterator[Scene]:
    with healthy(tmp_path_factory.mktemp("audit"), lasting_broker) as made:
        yield made


def _new(scene: Scene, **rules: Any) -> Counter[Kind]:
    report = audited(scene.stack, **rules)
    new = report.findings.counts - scene.counts
    assert all(report.findings.examples[kind] for kind in new)
    scene.counts = report.findings.counts
    return new


def test_a_healthy_stack_that_was_killed_and_healed_passes(scene: Scene) -> None:
    report = assert_equals_reference(scene.stack)
    checked = report.checked
    assert (checked.records, checked.answers > 0, checked.erased > 0) == (612, True, True)
    assert checked.users + checked.erased > 60
    assert checked.dead_letters >= checked.bad_records > 2


@dataclass(frozen=True, slots=True)
class Damage:
    """also: kinds that come with it."""

    kind: Kind
    do: Callable[[Scene], object]
    also: frozenset[Kind] = frozenset()


def _moved_position(scene: Scene) -> None:
    ((partition, offset),) = unpack_position(scene.value(scene.plain, "p")).items()
    scene.put(scene.key(scene.plain), "p", pack_position({partition: offset - 1}))


def _ahead(scene: Scene) -> None:
    ((partition, offset),) = unpack_position(scene.value(scene.plain, "p")).items()
    scene.put(scene.key(scene.plain), "p", pack_position({partition: offset + 10_000}))


def _other_vector(scene: Scene) -> None:
    vector = unpack_state(scene.value(scene.plain, "s")).vector.copy()
    vector[0] += 0.01
    scene.change(vector=vector)


def _stranger(scene: Scene) -> None:
    user = next(name for name in map(str, range(100)) if shard_of_user(KEY(name), SHARDS) == 0)
    for part in "ps":
        scene.put(scene.key(user), part, scene.value(scene.plain, part))


def _in_another_space(scene: Scene) -> None:
    namespace, other = scene.stack.namespace, "f" * 64
    scene.put(meta_key(namespace, other), "shards", b"1")
    scene.put(ShardKeys.of(namespace, other, 0).user + KEY(scene.erased).hex().encode(), "s", b"anything")


def _feed(scene: Scene) -> bytes:
    return scene.shard(shard_of_user(KEY(scene.erased), SHARDS)).feed


def _aggregate(popularity: float, users: float) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        key, item = scene.item()
        found: Any = scene.redis.hget(key.decode(), item.decode("latin-1")) or scene.redis.hmget(key, [item])[0]
        weight, holders = unpack("<dd", found)
        scene.put(key, item, pack("<dd", weight + popularity, holders + users))

    return do


def _label(scene: Scene, part: str, value: bytes) -> None:
    label = hash64("chess")
    home = shard_of_hash(label, SHARDS)
    scene.put(getattr(scene.shard(home), part), hash_bytes(label), value)


def _name(part: str, item: str, value: bytes | None) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        number = hash64(item)
        key = getattr(scene.shard(shard_of_hash(number, SHARDS)), part)
        if value is None:
            scene.redis.hdel(key, hash_bytes(number))
        else:
            scene.put(key, hash_bytes(number), value)

    return do


IN_REDIS: Final = {
    "a user is deleted": Damage(Kind.LOST_USER, lambda s: s.redis.delete(s.key(s.plain))),
    "a user is erased": Damage(Kind.LOST_USER, lambda s: s.redis.hdel(s.key(s.plain).decode(), "s")),
    "a user that nobody wrote as": Damage(Kind.UNKNOWN_USER, _stranger),
    "a stranger in the feed": Damage(Kind.UNKNOWN_USER, lambda s: s.redis.zadd(_feed(s), {b"u" + b"x" * 16: 1.0})),
    "a value is cut off": Damage(
        Kind.UNREADABLE_USER, lambda s: s.put(s.key(s.plain), "s", s.value(s.plain, "s")[:-1])
    ),
    "a position falls": Damage(Kind.POSITION, _moved_position),
    "a position runs ahead": Damage(Kind.POSITION, _ahead),
    "one event more": Damage(Kind.COUNT, lambda s: s.change(count=unpack_state(s.value(s.plain, "s")).count + 1)),
    "other first events": Damage(Kind.FIRST_EVENTS, lambda s: s.change(first=((0, 1),))),
    "other items": Damage(Kind.FACTS, lambda s: s.change(items=unpack_state(s.value(s.plain, "s")).items[::-1])),
    "other labels": Damage(Kind.FACTS, lambda s: s.change(labels={1: 1.0})),
    "other event ids": Damage(Kind.FACTS, lambda s: s.change(event_ids=())),
    "another time": Damage(Kind.FACTS, lambda s: s.change(last_time=1)),
    "another weight": Damage(Kind.FACTS, lambda s: s.change(weight=1.0)),
    "another vector": Damage(Kind.VECTOR, _other_vector),
    "an erased user comes back": Damage(
        Kind.NOT_ERASED, lambda s: s.put(s.key(s.erased), "s", s.value(s.plain, "s"))
    ),
    "an erased user in another space": Damage(Kind.NOT_ERASED, _in_another_space),
    "an erased user's marker is gone": Damage(Kind.LOST_MARKER, lambda s: s.redis.delete(s.key(s.erased))),
    "workers never hear of an erasure": Damage(Kind.FEED, lambda s: s.redis.zrem(_feed(s), b"u" + KEY(s.erased))),
    "the feed's head falls": Damage(Kind.FEED, lambda s: s.put(s.shard(0).head, "last", b"1")),
    "an item grows popular": Damage(Kind.POPULARITY, _aggregate(0.001, 0)),
    "an item gains a user": Damage(Kind.USERS_PER_ITEM, _aggregate(0, 1)),
    "a label grows heavy": Damage(Kind.LABEL_WEIGHT, lambda s: _label(s, "label_weights", pack("<d", 1e6))),
    "a label is renamed": Damage(Kind.LABEL_NAME, lambda s: _label(s, "label_names", b"checkers")),
    "an item is renamed": Damage(Kind.ITEM_NAME, _name("titles", "item-0", b"nothing that was said")),
    "an item loses its id": Damage(Kind.ITEM_NAME, _name("item_ids", "item-0", None)),
    "an item of no event": Damage(Kind.ITEM_NAME, _name("item_ids", "never heard of", b"never heard of")),
    "a watermark falls": Damage(Kind.WATERMARK, lambda s: s.put(s.shard(2).watermarks, "0", b"3")),
    "the state of another log": Damage(
        Kind.OTHER_LOG, lambda s: s.put(meta_key(s.stack.namespace, DummyEncoder().space), "topic_id", b"another")
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_REDIS)
def test_damage_in_redis_is_found_and_named(scene: Scene, what: str) -> None:
    damage = IN_REDIS[what]
    before = scene.counts.copy()
    damage.do(scene)
    try:
        assert set(_new(scene)) == {damage.kind, *damage.also}
    finally:
        scene.restore()
        scene.counts = before


def _not_among_the_first(scene: Scene) -> None:
    seen: Counter[bytes | None] = Counter()
    for record in scene.log:
        seen[record.key] += 1
        if record.key == scene.plain.encode() and seen[record.key] > 6:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "event_id": "x"}
            own = recommendation_id(scene.plain, record.topic, record.partition, record.offset)
            scene.forge(trigger=place, recommendation_id=own)
            return
    raise AssertionError("the user has too few events")


def _sentence(scene: Scene) -> None:
    items = scene.said()["items"]
    items[0]["reasons"][0]["text"] = f"{_another(scene)} took part in this"
    scene.forge(items=items)


def _another(scene: Scene) -> str:
    return next(user for record in scene.answers if (user := (record.key or b"").decode()) != scene.plain)


IN_TOPICS: Final = {
    "another id": Damage(Kind.OTHER_ID, lambda s: s.forge(recommendation_id=recommendation_id("x", "y", 0, 0))),
    "under another key": Damage(Kind.WRONG_USER, lambda s: s.forge(key=b"another")),
    "under another user's name": Damage(
        Kind.WRONG_USER, lambda s: s.forge(key=_another(s).encode(), user_id=_another(s))
    ),
    "another nth": Damage(Kind.WRONG_NTH, lambda s: s.forge(nth=s.said()["nth"] + 1)),
    "another event id": Damage(Kind.WRONG_TRIGGER, lambda s: s.forge(trigger=s.said()["trigger"] | {"event_id": "x"})),
    "no recommendation": Damage(Kind.UNREADABLE_ANSWER, lambda s: s.send(RECOMMENDATIONS, b"x", b"{}")),
    "an answer to another topic": Damage(
        Kind.UNASKED_ANSWER, lambda s: s.forge(trigger=s.said()["trigger"] | {"topic": "elsewhere"})
    ),
    "an answer to a later event": Damage(Kind.UNASKED_ANSWER, _not_among_the_first),
    "an item twice": Damage(Kind.REPEATED_ITEM, lambda s: s.forge(items=[s.said()["items"][0]] * 2)),
    "a withdrawn item": Damage(Kind.WITHDRAWN_ITEM, lambda s: s.recommend("withdrawn", "item_text")),
    "an expired item": Damage(Kind.EXPIRED_ITEM, lambda s: s.recommend("expired", "item_text")),
    "an item outside of the catalogue": Damage(
        Kind.UNLISTED_ITEM, lambda s: s.recommend("never heard of"), frozenset({Kind.TOO_FEW_DONORS})
    ),
    "an item that nobody had": Damage(Kind.TOO_FEW_DONORS, lambda s: s.recommend("nobody's")),
    "a list of donors": Damage(Kind.LEAKED_USER, lambda s: s.forge(donor_ids=[_another(s)])),
    "a donor in a header": Damage(Kind.LEAKED_USER, lambda s: s.forge([("near", _another(s).encode())])),
    "a donor in a sentence": Damage(Kind.LEAKED_USER, _sentence),
    "a donor's hash": Damage(Kind.LEAKED_USER, lambda s: s.forge(release=KEY(_another(s)).hex())),
    "a dead letter of a good record": Damage(
        Kind.UNDESERVED_LETTER, lambda s: s.letter(kindred_partition=b"0", kindred_offset=_good(s))
    ),
    "a dead letter from elsewhere": Damage(Kind.UNDESERVED_LETTER, lambda s: s.letter(kindred_topic=b"elsewhere")),
    "another reason": Damage(Kind.WRONG_REASON, lambda s: s.letter(**{REASON.replace("-", "_"): b"text_too_long"})),
    "another value in a dead letter": Damage(Kind.ALTERED_LETTER, lambda s: s.letter(value=b"something else")),
    "interests of an erased user": Damage(
        Kind.KEPT_INTERESTS, lambda s: s.send(USER_INTERESTS, s.erased.encode(), b"{}")
    ),
    "interests of a stranger": Damage(Kind.KEPT_INTERESTS, lambda s: s.send(USER_INTERESTS, b"stranger", b"{}")),
    "an event that was committed unread": Damage(
        Kind.MISSING_ANSWER,
        lambda s: s.commit_unread(Sending(0, b"new", b'{"user_id": "new", "text": "owls"}', LATER_MS)),
        frozenset({Kind.WATERMARK, Kind.LOST_USER}),
    ),
    "a bad record that was committed unread": Damage(
        Kind.MISSING_LETTER, lambda s: s.commit_unread(Sending(1, b"bad", b"{", LATER_MS)), frozenset({Kind.WATERMARK})
    ),
}  # fmt: skip


def _good(scene: Scene) -> bytes:
    bad = {(letter_partition, offset) for letter_partition, offset in _places(scene)}
    return next(b"%d" % r.offset for r in scene.log if r.partition == 0 and (0, r.offset) not in bad)


def _places(scene: Scene) -> Iterator[tuple[int, int]]:
    for record in scene.letters:
        headers = dict(record.headers)
        yield int(headers["kindred-partition"] or 0), int(headers["kindred-offset"] or 0)


@pytest.mark.parametrize("what", IN_TOPICS)
def test_damage_in_a_topic_is_found_and_named(scene: Scene, what: str) -> None:
    damage = IN_TOPICS[what]
    damage.do(scene)
    assert set(_new(scene)) == {damage.kind, *damage.also}


def test_an_item_of_the_newcomers_own_is_found(scene: Scene) -> None:
    own = next(
        (json.loads(record.value or b""), found)
        for record in scene.answers
        if (found := _item_of_the_first_event(scene, record)) is not None
    )
    said, item = own
    reason = {"part": "popularity", "share": 1.0, "count": 1, "phrases": [], "text": "because"}
    said["items"] = [{"item_id": item, "title": "x", "score": 1.0, "reasons": [reason]}]
    scene.send(RECOMMENDATIONS, said["user_id"].encode(), json.dumps(said).encode())
    assert set(_new(scene)) == {Kind.SEEN_ITEM}


def _item_of_the_first_event(scene: Scene, answer: Record) -> str | None:
    trigger = json.loads(answer.value or b"")["trigger"]
    place = (trigger["partition"], trigger["offset"])
    event = next(record for record in scene.log if (record.partition, record.offset) == place)
    found: str | None = json.loads(event.value or b"").get("item_id")
    return found


def test_repeats_are_found_where_nothing_may_be_there_twice(scene: Scene) -> None:
    scene.forge()
    scene.letter()
    assert not _new(scene), "a repeat under the same id is what at-least-once means"
    found = audited(scene.stack, exactly_once=True).findings.counts - scene.counts
    assert set(found) == {Kind.DOUBLED_ANSWER, Kind.DOUBLED_LETTER}


def test_every_kind_of_finding_was_caused_by_some_damage() -> None:
    caused = {damage.kind for damage in (*IN_REDIS.values(), *IN_TOPICS.values())}
    caused |= {Kind.SEEN_ITEM, Kind.DOUBLED_ANSWER, Kind.DOUBLED_LETTER}
    assert caused == set(MEANING) == set(Kind)
