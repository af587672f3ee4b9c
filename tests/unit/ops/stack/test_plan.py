from __future__ import annotations

from pathlib import Path

from ops.stack.plan import StackPlan


def test_a_plan_reaches_a_detached_supervisor_unchanged() -> None:
    plan = StackPlan(Path("some dir"), workers=3, kafka_port=1, namespace="shop", worker_command=("a", "b c"))
    assert StackPlan.decode(plan.encode()) == plan
