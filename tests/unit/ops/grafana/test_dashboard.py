"""The dashboard, read as it is; tests/compose runs its queries."""

from __future__ import annotations

import yaml

from ops.grafana.dashboard import FILE, PANELS, SOURCE, TRAINER_PANELS, text
from tests.metric_names import named_in, series, trainer_series
from tests.unit.ops.prometheus.test_rules import CASES, RECORDED


def test_the_file_is_what_the_panels_say() -> None:
    assert FILE.read_text() == text(), "run `python -m ops.grafana.dashboard`"


def test_panels_read_only_what_a_service_tells_or_a_rule_records() -> None:
    read = set().union(*(named_in(query) for panel in PANELS for query, _ in panel.queries))
    assert read <= series() | {rule["record"] for rule in RECORDED}
    theirs = set().union(*(named_in(query) for panel in TRAINER_PANELS for query, _ in panel.queries))
    assert theirs <= trainer_series()


def test_what_a_trainers_panels_ask_is_asked_in_the_rules_tests() -> None:
    """tests/compose, which asks for the other panels' data, has a stack without a trainer."""
    asked = {test["expr"] for case in CASES for test in case.get("promql_expr_test", ())}
    assert {query for panel in TRAINER_PANELS for query, _ in panel.queries} <= asked


def test_panels_ask_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((FILE.parent / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
