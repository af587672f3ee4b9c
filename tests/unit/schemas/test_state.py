from __future__ import annotations

import struct
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.errors import SchemaError
from schemas.state import (
    FORMAT,
    MAX_EVENT_IDS,
    MAX_FIRST,
    MAX_ITEMS,
    MAX_LABELS,
    StateFormatError,
    UserState,
    hash64,
    pack_position,
    pack_state,
    unpack_place,
    unpack_position,
    unpack_state,
)

PARTITIONS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
HASHES = st.integers(0, 2**64 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)
STATES = st.builds(
    UserState,
    vector=arrays(np.float16, st.integers(0, 512), elements=st.floats(width=16, allow_nan=False)),
    weight=st.floats(allow_nan=False),
    last_time=TIMES,
    seen_at=TIMES,
    count=st.integers(0, 2**32 - 1),
    first=st.lists(st.tuples(PARTITIONS, OFFSETS), max_size=MAX_FIRST).map(tuple),
    items=st.lists(HASHES, max_size=MAX_ITEMS, unique=True).map(tuple),
    labels=st.dictionaries(HASHES, st.floats(width=32, allow_nan=False), max_size=MAX_LABELS),
    event_ids=st.lists(HASHES, max_size=MAX_EVENT_IDS).map(tuple),
)
FULL = UserState(
    vector=np.linspace(-1, 1, 384).astype(np.float16),
    weight=3.5,
    last_time=1,
    seen_at=2,
    count=99,
    first=((0, 7), (3, 1)),
    items=tuple(range(MAX_ITEMS)),
    labels={n: float(n) for n in range(MAX_LABELS)},
    event_ids=tuple(range(MAX_EVENT_IDS)),
)


@given(STATES)
def test_a_state_comes_back_as_it_was(state: UserState) -> None:
    back = unpack_state(pack_state(state))
    for field in fields(UserState):
        if field.name != "vector":
            assert getattr(back, field.name) == getattr(state, field.name), field.name
    assert back.vector.dtype == np.float16
    assert back.vector.tobytes() == state.vector.tobytes()
    assert list(back.labels) == list(state.labels)


@given(STATES)
def test_packing_twice_gives_the_same_bytes(state: UserState) -> None:
    packed = pack_state(state)
    assert pack_state(unpack_state(packed)) == packed


@given(st.dictionaries(PARTITIONS, OFFSETS))
def test_a_position_comes_back_and_its_bytes_do_not_depend_on_order(position: dict[int, int]) -> None:
    packed = pack_position(position)
    assert unpack_position(packed) == position
    assert pack_position(dict(reversed(position.items()))) == packed


def test_a_user_never_seen_has_an_empty_position() -> None:
    assert pack_position({}) == b""
    assert unpack_position(b"") == {}


@pytest.mark.parametrize("position", [{}, {0: 5}, {3: 1, 1: 1 << 40}])
def test_a_position_keeps_the_time_and_partition_of_the_last_erasure(position: dict[int, int]) -> None:
    packed = pack_position(position, (1_767_225_600_123, 77))
    assert unpack_place(packed) == (position, (1_767_225_600_123, 77))
    assert unpack_position(packed) == position
    assert unpack_place(pack_position(position)) == (position, None)


def test_a_state_of_any_other_length_is_refused() -> None:
    packed = pack_state(FULL)
    for length in range(len(packed)):
        with pytest.raises(StateFormatError, match="cut off"):
            unpack_state(packed[:length])
    with pytest.raises(StateFormatError, match="behind"):
        unpack_state(packed + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_a_format_error(data: bytes) -> None:
    try:
        unpack_state(data)
    except StateFormatError as error:
        assert isinstance(error, SchemaError)  # noqa: PT017


@pytest.mark.parametrize("length", [1, 8, 10_000])
def test_another_format_version_is_named_however_long_it_is(length: int) -> None:
    with pytest.raises(StateFormatError, match=f"format {FORMAT + 1}, this version reads {FORMAT}; upgrade the worker"):
        unpack_state(bytes([FORMAT + 1]) * length)


def test_a_position_that_was_cut_off_is_refused() -> None:
    with pytest.raises(StateFormatError, match="11 bytes"):
        unpack_position(pack_position({1: 2})[:-1])


def test_a_full_state_of_384_dimensions_leaves_room_for_redis_own_bytes_in_2_kb() -> None:
    full = UserState(
        **{**{field.name: getattr(FULL, field.name) for field in fields(UserState)}, "first": ((0, 7),) * 3}
    )
    assert len(pack_state(full)) + len(pack_position({0: 1, 1: 2})) < 1_800


def test_the_vector_is_little_endian_float16_at_the_end() -> None:
    packed = pack_state(UserState(np.array([1.0, -2.0], np.float16)))
    assert packed[-4:] == struct.pack("<2e", 1.0, -2.0)


def test_hashes_never_change_between_versions() -> None:
    assert hash64("beer:1") == 15_521_333_651_725_790_182
    assert hash64("小明") == 6_114_392_744_517_719_184
