"""The dashboard as data: `python -m ops.grafana.dashboard` writes kindred.json, and a test compares.

Knows the names of metrics and recording rules, nothing of Grafana beyond the few fields below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("kindred.json")
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
"""As ops/grafana/provisioning names it."""
COLUMNS: Final = 3
WIDTH: Final = 24 // COLUMNS
HEIGHT: Final = 7


@dataclass(frozen=True, slots=True)
class Panel:
    """queries: (PromQL, legend). unit: in Grafana's words. kind: of panel."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"


PANELS: Final = (
    Panel(
        "Events and answers",
        "Records read a second, and recommendations acknowledged by their strategy.",
        (("kindred:events:rate1m", "events"), ("kindred:recommendations:rate1m", "{{strategy}}")),
        "cps",
    ),
    Panel(
        "Event to recommendation",
        "From the event's Kafka timestamp to its recommendation's acknowledgement, last 5 minutes.",
        (("kindred:recommendation_seconds:p50", "median"), ("kindred:recommendation_seconds:p99", "99 %")),
        "s",
    ),
    Panel(
        "Lag",
        "Events between the committed offset and the log's end, by partition.",
        (("sum by (partition) (kindred_consumer_lag)", "partition {{partition}}"),),
    ),
    Panel("Workers", "Those that answer.", (('sum(up{job="kindred-worker"})', "up"),), kind="stat"),
    Panel(
        "Partitions",
        "By state. Paused ones wait for an operator.",
        (("sum by (state) (kindred_partitions)", "{{state}}"),),
    ),
    Panel(
        "Services that do not answer",
        "1 while the workers repeat their calls; how often they did so a second.",
        (
            ("max by (service) (kindred_unavailable)", "{{service}} away"),
            ("sum by (service) (rate(kindred_retries_total[1m]))", "{{service}} retries"),
        ),
    ),
    Panel(
        "Time of a step",
        "Mean seconds of a batch in each step.",
        (("kindred:stage_seconds:mean1m", "{{step}}"),),
        "s",
    ),
    Panel(
        "Batches that wait",
        "Before each stage. The first full one is the bottleneck.",
        (("sum by (stage) (kindred_stage_queue)", "{{stage}}"),),
    ),
    Panel(
        "Batches",
        "How full they are, how much of them is padding, and how many tokens the encoder does not know.",
        (
            ("sum(rate(kindred_batch_fill_sum[1m])) / sum(rate(kindred_batch_fill_count[1m]))", "fill"),
            ("avg(kindred_padding_share)", "padding"),
            ("avg(kindred_unknown_token_share)", "unknown tokens"),
        ),
        "percentunit",
    ),
    Panel(
        "Donors",
        "Users in the index of each worker.",
        (("kindred_donors", "{{instance}}"),),
    ),
    Panel("Index", "Memory of the donor index.", (("kindred_index_bytes", "{{instance}}"),), "bytes"),
    Panel(
        "Index staleness",
        "Since the donor index last followed Redis.",
        (("kindred_index_staleness_seconds", "{{instance}}"),),
        "s",
    ),
    Panel(
        "Healing",
        "Events still to be replayed into Redis, also into another space that is filled, and how long that will take.",
        (
            ("sum(kindred_healing_remaining)", "events"),
            ("max(kindred_healing_eta_seconds)", "seconds"),
            ("sum(kindred_backfill_remaining)", "another space: events"),
            ("max(kindred_backfill_eta_seconds)", "another space: seconds"),
        ),
    ),
    Panel(
        "Records that changed nothing",
        "A second: replayed or repeated, bad by reason, refused by Redis, tombstones.",
        (
            ("sum by (reason) (rate(kindred_events_skipped_total[1m]))", "{{reason}}"),
            ("sum by (reason) (rate(kindred_events_dead_total[1m]))", "dead: {{reason}}"),
            ("sum(rate(kindred_writes_refused_total[1m]))", "write refused"),
            ("sum(rate(kindred_users_erased_total[1m]))", "user erased"),
        ),
        "cps",
    ),
    Panel(
        "Release",
        "What each worker serves.",
        (("sum by (release, space, backend) (kindred_release_info)", "{{release}} {{backend}}"),),
        kind="stat",
    ),
    Panel(
        "Swaps of releases",
        "In the last hour: exchanged while running, refused by reason, announcements that cannot be read.",
        (
            ("sum(increase(kindred_swaps_total[1h]))", "swaps"),
            ("sum by (reason) (increase(kindred_releases_refused_total[1h]))", "refused: {{reason}}"),
            ("sum by (reason) (increase(kindred_announcements_bad_total[1h]))", "unreadable: {{reason}}"),
        ),
    ),
)
TRAINER_PANELS: Final = (
    Panel(
        "Refits",
        "In the last day, by how they ended; the step that one is at.",
        (
            ("sum by (outcome) (increase(kindred_trainer_refits_total[1d]))", "{{outcome}}"),
            ("max(kindred_trainer_step)", "step"),
        ),
    ),
    Panel(
        "The last refit's candidate",
        "nDCG@10 on newcomers, mean over the folds, beside what serves and the plain methods.",
        (('max by (contestant) (kindred_trainer_score{metric="ndcg@10"})', "{{contestant}}"),),
    ),
    Panel(
        "What answers led to",
        "hit@10 of first answers, judged by what newcomers took after them, by release; popularity's on the same.",
        (
            ("kindred_online_hit_rate", "{{release}}"),
            ("kindred_online_popular_hits / kindred_online_questions", "popularity beside {{release}}"),
        ),
        "percentunit",
    ),
)
"""Without data where no trainer runs; ops/prometheus/tests.yml asks for theirs."""


def dashboard() -> dict[str, Any]:
    """What kindred.json holds."""
    return {
        "uid": "kindred",
        "title": "Kindred",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": list(_placed()),
    }


def _placed() -> Iterator[dict[str, Any]]:
    for number, panel in enumerate(PANELS + TRAINER_PANELS):
        row, column = divmod(number, COLUMNS)
        yield {
            "id": number + 1,
            "title": panel.title,
            "description": panel.description,
            "type": panel.kind,
            "datasource": SOURCE,
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
                for place, (query, legend) in enumerate(panel.queries)
            ],
        }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
