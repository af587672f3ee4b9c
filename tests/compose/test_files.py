"""The compose files and Prometheus' rules, checked by the programs that read them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from shutil import which
from typing import Any, Final

import pytest
import yaml

from tests.compose.prometheus import RULES
from tests.docker_engine import ROOT, Compose, compose_command, require_engine
from worker.settings import WorkerSettings

pytestmark = pytest.mark.docker

ONCE: Final = ("topics", "demo")
OWN: Final = ("topics", "worker", "trainer", "demo")


def promtool(*arguments: str) -> None:
    """The one that is installed, else the one in Prometheus' image."""
    command: Sequence[str] = ["promtool"]
    if which("promtool") is None:
        require_engine()
        mount = f"{RULES}:{RULES}:ro"
        command = ["docker", "run", "--rm", "--volume", mount, "--entrypoint", "promtool", "prom/prometheus:latest"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_reads_the_configuration_and_the_rules() -> None:
    promtool("check", "config", str(RULES / "prometheus.yml"))


def test_the_rules_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", str(RULES / "tests.yml"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """As compose understands its file."""
    read = yaml.safe_load(Compose(compose_command(), "kindred-test", {})("--profile", "demo", "config"))
    return dict(read["services"])


def test_no_service_keeps_capabilities_or_takes_new_privileges(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_ports_are_published_on_this_machine_only_and_none_of_a_worker(services: dict[str, Any]) -> None:
    for name, service in services.items():
        ports = service.get("ports", [])
        assert not ports or name not in OWN
        for port in ports:
            host = port["host_ip"] if isinstance(port, dict) else port.partition(":")[0]
            assert host == "127.0.0.1", name


def test_a_worker_has_longer_to_end_than_it_takes_to_drain(services: dict[str, Any]) -> None:
    grace = float(services["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > WorkerSettings.model_fields["drain_seconds"].default


def test_every_service_is_bounded_and_started_again(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name


def test_who_answers_others_says_whether_it_is_well_and_nobody_starts_before(services: dict[str, Any]) -> None:
    for name in ("kafka", "redis", "worker", "prometheus"):
        assert services[name]["healthcheck"]["test"], name
    awaited = {name: service["condition"] for name, service in services["worker"]["depends_on"].items()}
    assert awaited == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
        "topics": "service_completed_successfully",
    }
    assert services["demo"]["depends_on"]["worker"]["condition"] == "service_healthy"


def test_the_gpu_file_builds_for_cuda_and_reserves_a_device() -> None:
    files = ("--file", str(ROOT / "docker-compose.yml"), "--file", str(ROOT / "docker-compose.gpu.yml"))
    told = yaml.safe_load(Compose(compose_command(), "kindred-test", {})(*files, "config"))["services"]
    assert told["worker"]["build"]["args"]["DEVICE"] == "cuda"
    (device,) = told["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] in (["gpu"], [["gpu"]])
    assert {told[name]["image"] for name in ("topics", "worker")} == {"kindred-stream:dev-cuda"}
