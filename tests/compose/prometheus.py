"""Prometheus as a test asks it, and its rules made impatient."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from tests.docker_engine import ROOT

RULES: Final = ROOT / "ops" / "prometheus"
INTERVAL: Final = "1s"
FOR: Final = "2s"


def impatient(directory: Path) -> Path:
    """A copy of ops/prometheus that looks each second and lets every alert fire after two; nothing else is changed."""
    copy = directory / "prometheus"
    shutil.copytree(RULES, copy)
    for file in copy.glob("*.yml"):
        content = yaml.safe_load(file.read_text())
        if file.name == "prometheus.yml":
            names = ("scrape_interval", "scrape_timeout", "evaluation_interval")
            content["global"] = dict.fromkeys(names, INTERVAL)
            for job in content["scrape_configs"]:
                for discovery in job["dns_sd_configs"]:
                    discovery["refresh_interval"] = INTERVAL
        for group in content.get("groups", ()):
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = FOR
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        file.chmod(0o644)
    copy.chmod(0o755)
    return copy


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Its HTTP API on this machine."""

    port: int

    def value(self, query: str) -> float | None:
        """Of a query that gives one number now; None where it gives nothing."""
        found = self._get("query", query=query)["result"]
        assert len(found) <= 1, f"{query} gives {len(found)} series"
        return float(found[0]["value"][1]) if found else None

    def samples(self, query: str, since: float, until: float) -> int:
        """How many the query gives between two times, second by second."""
        found = self._get("query_range", query=query, start=str(since), end=str(until), step=INTERVAL)["result"]
        return sum(len(series["values"]) for series in found)

    def names(self) -> set[str]:
        """Of all series that there ever were."""
        return set(self._get("label/__name__/values"))

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """Alerts that fire now."""
        return {rule["name"] for rule in self.rules() if rule.get("state") == "firing"}

    def answers(self) -> bool:
        try:
            return self.value("vector(1)") == 1
        except (OSError, ValueError):
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            body = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert body["status"] == "success", body.get("error")
        return body["data"]
