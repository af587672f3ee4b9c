from __future__ import annotations

from trainer.in_time import InTime


def test_partitions_that_are_read_one_after_the_other_come_in_the_order_of_time() -> None:
    merged = InTime[str]()
    for offset, at in enumerate((10, 30, 50)):
        merged.put((0, 0), offset, at, f"first {at}")
    for offset, at in enumerate((20, 30, 60)):
        merged.put((0, 1), offset, at, f"second {at}")
    assert [said for _, said in merged.until(50)] == ["first 10", "second 20", "first 30", "second 30"]
    assert [said for _, said in merged.until(100)] == ["first 50", "second 60"]
    assert list(merged.until(100)) == []


def test_within_a_partition_the_logs_order_stands_whatever_the_timestamps() -> None:
    merged = InTime[str]()
    for offset, at in enumerate((10, 40, 20)):
        merged.put((0, 0), offset, at, str(at))
    merged.put((1, 0), 0, 30, "other")
    assert list(merged.until(100)) == [(10, "10"), (30, "other"), (40, "40"), (40, "20")]
    assert merged.clock((0, 0)) == 40
    assert merged.clock((0, 7)) == 0


def test_what_there_is_no_room_for_waits_no_longer() -> None:
    merged = InTime[int](room=2)
    for offset in range(5):
        merged.put((0, 0), offset, offset, offset)
    assert [said for _, said in merged.until(0)] == [0, 1, 2]
