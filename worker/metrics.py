"""Every metric of the worker, declared once. Names are part of the contract: alerts and dashboards use them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Metrics:
    """One registry a worker, so that tests can run several in a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events_in = Counter("kindred_events_in", "Records read from user-text.", registry=registry)
        self.events_applied = Counter(
            "kindred_events_applied", "Events that changed a user's state.", registry=registry
        )
        self.events_skipped = Counter(
            "kindred_events_skipped",
            "Events that changed nothing.",
            # replayed: at or below the position; repeated: a known event_id; forgotten: older than the user's erasure;
            # operator: offsets skip
            ["reason"],
            registry=registry,
        )
        self.events_dead = Counter(
            "kindred_events_dead", "Records sent to user-text.dlq.", ["reason"], registry=registry
        )
        self.items_bad = Counter(
            "kindred_items_bad", "Records of the items topic that cannot be read.", ["reason"], registry=registry
        )
        self.events_unrecoverable = Counter(
            "kindred_events_unrecoverable", "Events that healing needed and the log no longer has.", registry=registry
        )
        self.users_erased = Counter("kindred_users_erased", "Tombstones applied.", registry=registry)
        self.recommendations = Counter(
            "kindred_recommendations",
            "Recommendations published and committed.",
            ["strategy"],
            registry=registry,
        )
        self.writes_refused = Counter(
            "kindred_writes_refused", "Users' writes that Redis refused: another writer was ahead.", registry=registry
        )
        self.batch_fill = Histogram(
            "kindred_batch_fill", "Events of a batch / its limit.", buckets=_SHARES, registry=registry
        )
        self.padding_share = Gauge("kindred_padding_share", "Computed tokens that were padding.", registry=registry)
        self.unknown_token_share = Gauge(
            "kindred_unknown_token_share",
            "Tokens that the encoder's vocabulary lacks, last batches.",
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "kindred_stage_seconds", "Time of a step for one batch.", ["step"], buckets=_SECONDS, registry=registry
        )
        self.stage_queue = Gauge("kindred_stage_queue", "Batches waiting before a stage.", ["stage"], registry=registry)
        self.consumer_lag = Gauge(
            "kindred_consumer_lag",
            "Events between the committed position and the log's end.",
            ["partition"],
            registry=registry,
        )
        self.recommendation_seconds = Histogram(
            "kindred_recommendation_seconds",
            "From the event's Kafka timestamp until its recommendation is published and committed.",
            buckets=(*_SECONDS, 60.0, 300.0),
            registry=registry,
        )
        self.donors = Gauge("kindred_donors", "Users in the donor index.", registry=registry)
        self.index_bytes = Gauge("kindred_index_bytes", "Memory of the donor index.", registry=registry)
        self.index_staleness = Gauge(
            "kindred_index_staleness_seconds", "Since the donor index last followed Redis' feed.", registry=registry
        )
        self.healing_remaining = Gauge(
            "kindred_healing_remaining", "Events still to be replayed.", ["partition"], registry=registry
        )
        self.healing_eta = Gauge("kindred_healing_eta_seconds", "Estimated time until healed.", registry=registry)
        self.partitions = Gauge(
            "kindred_partitions", "Partitions of this worker by state.", ["state"], registry=registry
        )
        self.retries = Counter(
            "kindred_retries", "Calls repeated because a service did not answer.", ["service"], registry=registry
        )
        self.unavailable = Gauge(
            "kindred_unavailable", "1 while a service does not answer.", ["service"], registry=registry
        )
        self.release = Info("kindred_release", "The release in service.", registry=registry)
        self.swaps = Counter(
            "kindred_swaps", "Releases that took the place of another while running.", registry=registry
        )
        self.backfill_remaining = Gauge(
            "kindred_backfill_remaining",
            "Events until another space, filled beside the one in service, takes its place.",
            registry=registry,
        )
        self.backfill_eta = Gauge("kindred_backfill_eta_seconds", "Estimated time until then.", registry=registry)
        self.swap_seconds = Histogram(
            "kindred_swap_seconds",
            "From reading a release's announcement until it is in service.",
            buckets=(*_SECONDS, 60.0),
            registry=registry,
        )
        self.swap_ack_gap = Gauge(
            "kindred_swap_ack_gap_seconds",
            "Longest wait for an acknowledgement from the last announcement until its release had answered.",
            registry=registry,
        )
        self.releases_refused = Counter(
            "kindred_releases_refused", "Announced releases that are not served.", ["reason"], registry=registry
        )
        self.announcements_bad = Counter(
            "kindred_announcements_bad",
            "Records of the model-releases topic that cannot be read.",
            ["reason"],
            registry=registry,
        )
