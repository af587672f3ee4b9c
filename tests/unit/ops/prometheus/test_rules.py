"""Alerts and recording rules, read as they are; tests/compose runs them."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import ops
from tests.metric_names import named_in, series, trainer_series

OPS: Final = Path(ops.__path__[0])


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((OPS / "prometheus" / file).read_text())["groups"]
    return list(chain.from_iterable(group["rules"] for group in groups))


ALERTS: Final = rules("alerts.yml")
RECORDED: Final = rules("rules.yml")
CASES: Final = yaml.safe_load((OPS / "prometheus" / "tests.yml").read_text())["tests"]


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", (OPS / "runbook.md").read_text(), re.MULTILINE)
    assert sections == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_how_urgent_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"ops/runbook.md#{alert['alert'].lower()}"


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDED], ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_only_what_a_service_tells_or_another_rule_records(rule: dict[str, Any]) -> None:
    assert named_in(rule["expr"]) <= series() | trainer_series() | {rule["record"] for rule in RECORDED}


def test_every_alert_has_a_case_in_the_rules_tests() -> None:
    fired = {test["alertname"] for case in CASES for test in case["alert_rule_test"] if test["exp_alerts"]}
    assert fired == {alert["alert"] for alert in ALERTS}
