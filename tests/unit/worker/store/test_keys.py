from __future__ import annotations

from dataclasses import astuple
from fnmatch import fnmatchcase

import pytest

from model.users import user_key
from worker.store.keys import (
    ShardKeys,
    hash_bytes,
    meta_key,
    notes_key,
    shard_of_hash,
    shard_of_user,
    user_of,
    users_pattern,
)

SPACE = "0123456789abcdef" * 4


def test_a_user_is_named_by_sixteen_bytes_that_only_the_secret_gives() -> None:
    assert len(user_key("anna", b"secret")) == 16
    assert user_key("anna", b"secret") == user_key("anna", b"secret")
    assert len({user_key("anna", b"secret"), user_key("anna", b"other"), user_key("bo", b"secret")}) == 3
    assert user_key("安娜", b"") != user_key("anna", b"")


def test_users_spread_evenly_over_the_shards() -> None:
    counts = [0] * 7
    for n in range(7000):
        counts[shard_of_user(user_key(str(n), b"s"), 7)] += 1
    assert min(counts) > 850


def test_all_keys_of_a_shard_share_a_hash_tag_and_differ() -> None:
    names = astuple(ShardKeys.of("shop", SPACE, 3))
    assert len(set(names)) == len(names)
    assert all(name.startswith(b"kindred:shop:0123456789ab:{s03}:") for name in names)


def test_spaces_and_namespaces_share_no_key() -> None:
    names = [
        *astuple(ShardKeys.of("a", SPACE, 0)), *astuple(ShardKeys.of("b", SPACE, 0)),
        *astuple(ShardKeys.of("a", "f" * 40, 0)), meta_key("a", SPACE), meta_key("b", SPACE),
        notes_key("a"), notes_key("b"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)


def test_a_namespace_with_a_brace_is_refused() -> None:
    with pytest.raises(ValueError, match="brace"):
        ShardKeys.of("a{b}", SPACE, 0)


def test_the_pattern_finds_users_of_every_shard_and_nothing_else() -> None:
    pattern = users_pattern("shop", SPACE).decode()
    shard = ShardKeys.of("shop", SPACE, 12)
    assert fnmatchcase((shard.user + b"ab" * 16).decode(), pattern)
    assert not fnmatchcase(shard.feed.decode(), pattern)
    assert not fnmatchcase((ShardKeys.of("shopping", SPACE, 0).user + b"ab").decode(), pattern)


def test_glob_characters_of_a_namespace_are_escaped() -> None:
    assert users_pattern("a*[b]", SPACE).startswith(rb"kindred:a\*\[b\]:")


def test_a_key_gives_its_user_back() -> None:
    user = user_key("anna", b"")
    assert user_of(ShardKeys.of("n", SPACE, 0).user + user.hex().encode()) == user


def test_hashes_keep_all_bits() -> None:
    assert hash_bytes(2**64 - 1) == b"\xff" * 8
    assert int.from_bytes(hash_bytes(2**63 + 1), "little") == 2**63 + 1
    assert shard_of_hash(2**64 - 1, 4) == 3
