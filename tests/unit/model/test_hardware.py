"""Cores, bf16 and the machine's identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.hardware import available_cores, machine_id, native_bf16


@pytest.mark.parametrize(("quota", "most"), [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2)])
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, quota: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert 1 <= available_cores(tmp_path / "cpu.max") <= most


@pytest.mark.parametrize("quota", ["max 100000", "nonsense", ""])
def test_without_a_quota_all_allowed_cores_are_used(tmp_path: Path, quota: str) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cores(tmp_path / "cpu.max") == available_cores(tmp_path / "missing") >= 1


def test_a_measurement_is_remembered_for_this_kind_of_machine() -> None:
    assert machine_id() == machine_id()
    assert ("no bf16" not in machine_id()) is native_bf16()
