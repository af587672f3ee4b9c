from __future__ import annotations

from pathlib import Path

import pytest

from ops.stack.plan import StackPlan


@pytest.mark.parametrize("libs", [None, Path("the jars")])
def test_a_plan_reaches_a_detached_supervisor_unchanged(libs: Path | None) -> None:
    plan = StackPlan(Path("some dir"), 3, kafka_port=1, namespace="shop", kafka_libs=libs, worker_command=("a", "b c"))
    assert StackPlan.decode(plan.encode()) == plan
