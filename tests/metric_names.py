"""The names under which metrics stand in Prometheus, by their declarations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from trainer.metrics import TrainerMetrics
from worker.metrics import Metrics

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def series() -> set[str]:
    """Of all of a worker's metrics, those without a value yet included."""
    return _named(Metrics().registry)


def trainer_series() -> set[str]:
    """Of all of a trainer's."""
    return _named(TrainerMetrics().registry)


def _named(registry: CollectorRegistry) -> set[str]:
    return {f"{family.name}{suffix}" for family in registry.collect() for suffix in SUFFIXES[family.type]}


def named_in(query: str) -> set[str]:
    """What a PromQL expression reads of Kindred: series, and recorded ones (with a colon)."""
    return set(re.findall(r"\bkindred[_:][a-z0-9_:]+", query))
