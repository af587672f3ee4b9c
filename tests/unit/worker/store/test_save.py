from __future__ import annotations

import struct

import pytest

from model.item_table import ItemEntry
from model.users import UserWrite
from schemas.state import hash64
from tests.stores import UNSEEN, at, batch, event, user, user_in
from worker.store.base import FellBack, Write
from worker.store.keys import ShardKeys
from worker.store.save import Lifetimes, SaveCall, pack_changes, read_answer, save_calls

SHARDS = [ShardKeys.of("n", "s" * 12, shard) for shard in range(4)]
LIFETIMES = Lifetimes(users_ms=5)


def test_a_shard_without_users_gets_its_watermarks_all_the_same() -> None:
    calls = save_calls(Write({7: 12, 9: 1}, at(11, partition=7)), SHARDS, LIFETIMES)
    assert [call.arguments[3:] for call in calls] == [
        [b"1", b"2", b"0", b"0", b"7", b"11", b"7", b"12", b"9", b"1"],
    ] * 4
    assert all(len(call.keys) == 9 for call in calls)


def test_each_user_goes_to_its_own_shard_with_its_place_in_the_batch() -> None:
    users = [user_in(2), user_in(0), user_in(2)]
    calls = save_calls(batch(*(event(key, 1) for key in users), upto=2), SHARDS, LIFETIMES)
    assert [call.indices for call in calls] == [[1], [], [0, 2], []]
    assert calls[0].keys[9:] == [SHARDS[0].user + users[1].hex().encode()]
    assert all(key.startswith(b"kindred:n:ssssssssssss:{s02}:") for key in calls[2].keys)


def test_items_and_labels_go_to_the_shard_of_their_hash() -> None:
    write = Write({}, UNSEEN, items=[ItemEntry(6, "film", None, b"v")], labels=[(2**64 - 1, "红")])
    arguments = [call.arguments[7:] for call in save_calls(write, SHARDS, LIFETIMES)]
    assert arguments == [[], [], [b"\6" + bytes(7), b"film", b"", b"v"], [b"\xff" * 8, "红".encode()]]


def test_changes_are_packed_in_the_order_that_the_script_reads() -> None:
    write = UserWrite(user("a"), b"", b"p", None, (1,), (2, hash64("x")), ((3, -1.5),), ((4, 2.0), (5, 0.5)))
    assert pack_changes(write) == user("a") + struct.pack(
        "<4I3QQdQdQd", 1, 2, 1, 2, 1, 2, hash64("x"), 3, -1.5, 4, 2.0, 5, 0.5
    )


def test_a_user_key_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="user key of 4 bytes"):
        save_calls(batch(event(b"anna", 1), upto=2), SHARDS, LIFETIMES)


def test_refused_users_are_named_by_their_place_in_the_batch() -> None:
    answer = read_answer([b"1700000000000001", 0, 2], SaveCall([], [], [4, 5, 9]), shard=1)
    assert answer.refused == [4, 9]
    assert answer.score == 1700000000000001.0
    assert read_answer([b""], SaveCall([], [], []), shard=1).score == 0


def test_a_fallback_names_shard_partition_and_both_offsets() -> None:
    with pytest.raises(FellBack, match="shard 3: watermark of partition 7 is nothing, this worker left 12"):
        read_answer([b"FELLBACK", b"7", b"nothing", b"12"], SaveCall([], [], []), shard=3)
