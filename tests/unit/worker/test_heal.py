"""Where reading begins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from worker.broker.base import Bounds
from worker.errors import WrongLog
from worker.heal import Plan, fell_back, of_partition, pack_note, plan, read_note


def made(
    committed: int | None,
    watermarks: Sequence[int | None],
    *,
    log: tuple[int, int] = (0, 1000),
    begin: int | None = None,
    began: int = 0,
) -> Plan:
    bounds = Bounds(*log)
    begin = bounds.begin if begin is None else begin
    return plan("t", 0, committed=committed, watermarks=watermarks, bounds=bounds, begin=begin, began=began)


def test_where_nothing_was_lost_reading_goes_on_at_the_committed_offset() -> None:
    found = made(500, [500, 500])
    assert found == Plan(500, 500, 0)
    assert not found.heals


def test_a_redis_that_is_ahead_is_not_read_ahead_of_the_committed_offset() -> None:
    assert made(500, [600, 600]) == Plan(500, 500, 0)


def test_the_lowest_shard_says_where_healing_begins() -> None:
    found = made(500, [500, 200, 400])
    assert found == Plan(200, 500, 0)
    assert found.heals


def test_a_shard_that_never_saw_the_partition_is_healed_from_the_beginning() -> None:
    assert made(500, [500, None]) == Plan(0, 500, 0)


def test_nothing_before_the_groups_own_beginning_is_healed() -> None:
    assert made(500, [None, None], began=300) == Plan(300, 500, 0)
    assert made(300, [None, None], began=300) == Plan(300, 300, 0)


def test_a_log_that_was_cut_is_read_from_where_it_begins_and_the_rest_counted() -> None:
    assert made(500, [100, 500], log=(250, 1000)) == Plan(250, 500, 150)


def test_a_log_that_was_cut_after_the_committed_offset_loses_what_was_never_read() -> None:
    assert made(500, [500], log=(700, 1000)) == Plan(700, 700, 200)


def test_a_group_that_began_where_a_cut_log_begins_misses_nothing() -> None:
    assert made(250, [None], log=(250, 1000), began=250) == Plan(250, 250, 0)


def test_a_new_group_begins_where_it_is_told() -> None:
    assert made(None, [None], log=(40, 1000)) == Plan(40, 40, 0)
    assert made(None, [None], begin=1000) == Plan(1000, 1000, 0)
    assert made(None, [800], begin=0) == Plan(0, 0, 0)


@pytest.mark.parametrize(("committed", "watermarks"), [(1001, [0]), (10, [10, 1001]), (None, [1001])])
def test_a_log_that_ends_before_what_was_read_is_another_log(committed: int | None, watermarks: list[int]) -> None:
    with pytest.raises(WrongLog, match="ends at offset 1000, but up to 1001"):
        made(committed, watermarks)


def test_any_shard_below_what_was_left_there_has_fallen_back() -> None:
    left = [{0: 5, 1: 7}, {0: 5}]
    assert not fell_back(left, [{0: 5, 1: 7}, {0: 9, 3: 1}])
    assert fell_back(left, [{0: 5, 1: 6}, {0: 5}])
    assert fell_back(left, [{0: 5, 1: 7}, {}])
    assert not fell_back([{}, {}], [{}, {}])


def test_a_partitions_watermarks_are_read_off_shard_by_shard() -> None:
    assert of_partition([{0: 5}, {1: 6}], 0) == [5, None]


def test_a_note_is_read_back() -> None:
    assert read_note(pack_note("abc", 17)) == ("abc", 17)


@pytest.mark.parametrize(
    ("metadata", "note"), [(None, (None, 0)), ("", (None, 0)), ("abc", ("abc", 0)), ("by hand", ("by", 0))]
)
def test_a_commit_without_our_note_is_nobodys_or_begins_at_0(
    metadata: str | None, note: tuple[str | None, int]
) -> None:
    assert read_note(metadata) == note
