"""What a probe and a scraper get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from model.health import Health, serve
from worker.metrics import Metrics


class Site:
    def __init__(self) -> None:
        self.metrics, self.health = Metrics(), Health()
        self.server = serve("127.0.0.1", 0, self.metrics.registry, self.health)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_worker_is_ready_when_it_runs_and_nothing_is_wrong() -> None:
    health = Health()
    assert health.report()[0] is False
    health.state = "running"
    assert health.report() == (True, {"ready": True, "state": "running", "reasons": []})


def test_trouble_is_new_once_and_goes_away_once() -> None:
    health = Health()
    health.state = "running"
    assert health.trouble("redis", "redis does not answer")
    assert not health.trouble("redis", "redis does still not answer")
    assert health.report()[1]["reasons"] == ["redis does still not answer"]
    assert health.clear("redis")
    assert not health.clear("redis")
    assert health.report()[0]


def test_a_notice_is_told_and_leaves_a_worker_ready() -> None:
    health = Health()
    health.state = "running"
    health.notice("release", "the announced release is not served")
    ready, said = health.report()
    assert ready
    assert said["notices"] == ["the announced release is not served"]
    health.take_back("release")
    health.take_back("release")
    assert "notices" not in health.report()[1]


def test_readyz_says_why_a_worker_is_not_ready(site: Site) -> None:
    site.health.state = "running"
    assert site.get("/readyz")[0] == 200
    site.health.trouble("redis", "redis does not answer")
    status, body = site.get("/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["redis does not answer"]


def test_a_worker_that_is_not_ready_is_alive(site: Site) -> None:
    assert site.get("/healthz")[0] == 200


def test_metrics_are_served_as_prometheus_reads_them(site: Site) -> None:
    site.metrics.events_in.inc(3)
    status, body = site.get("/metrics")
    assert status == 200
    assert b"kindred_events_in_total 3.0" in body


def test_any_other_path_says_what_there_is(site: Site) -> None:
    status, body = site.get("/")
    assert status == 404
    assert b"/readyz" in body


def test_a_port_in_use_is_an_error(site: Site) -> None:
    with pytest.raises(OSError):
        serve("127.0.0.1", site.server.server_port, site.metrics.registry, site.health)
