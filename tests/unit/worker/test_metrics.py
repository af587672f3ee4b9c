"""Names and help texts are part of the contract."""

from __future__ import annotations

from worker.metrics import Metrics


def test_every_metric_has_the_prefix_and_says_what_it_is() -> None:
    families = list(Metrics().registry.collect())
    assert len(families) > 20
    for family in families:
        assert family.name.startswith("kindred_")
        assert family.documentation.endswith(".")


def test_two_workers_in_a_process_do_not_share_numbers() -> None:
    one, two = Metrics(), Metrics()
    one.events_in.inc()
    assert two.registry.get_sample_value("kindred_events_in_total") == 0
