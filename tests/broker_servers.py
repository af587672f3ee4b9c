"""The Kafka brokers that tests run on, as processes that can be killed, frozen, woken and started again.

KINDRED_TEST_BROKER says which one the contract, fault and e2e suites use: `embedded` (the default) or `apache`. What
a broker cannot do is an ability that it lacks; a test that cannot be without one is marked `needs(ability)`. A broker
that cannot be had skips the test at home and fails it in CI, where both must be there. Logs stay in the test's
directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest

from ops.errors import MissingExtra
from ops.stack import apache
from ops.stack.ports import HOST, answers, claim
from ops.stack.programs import Program, broker
from schemas.settings import ConnectionSettings

Kind = Literal["embedded", "apache"]

KIND: Final[Kind] = "apache" if os.environ.get("KINDRED_TEST_BROKER") == "apache" else "embedded"
START_S: Final = 90.0
"""Apache Kafka takes 2 s on two idle cores; tests may leave it a small part of them."""
END_S: Final = 20.0
JVM_OPTIONS: Final = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""It starts in half the time with one compiler and one collecting thread; a test is over before more would pay."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """keeps_log: what it held is there again after a restart. keeps_notes: a commit's metadata comes back.
    tells_policy: it tells how a topic is cleaned up. finds_by_own_time: offsets are found by the records' own
    timestamps, else by the time of their arrival. isolates_transactions: a read_committed consumer sees no aborted
    record. keeps_slots: a member that comes back under its group.instance.id has its partitions again, without a
    rebalance. adds_partitions: to a topic that is there."""

    keeps_log: bool
    keeps_notes: bool
    tells_policy: bool
    finds_by_own_time: bool
    isolates_transactions: bool
    keeps_slots: bool
    adds_partitions: bool


EMBEDDED: Final = Abilities(
    keeps_log=False,
    keeps_notes=False,
    tells_policy=False,
    finds_by_own_time=False,
    isolates_transactions=False,
    keeps_slots=False,
    adds_partitions=False,
)
APACHE: Final = Abilities(
    keeps_log=True,
    keeps_notes=True,
    tells_policy=True,
    finds_by_own_time=True,
    isolates_transactions=True,
    keeps_slots=True,
    adds_partitions=True,
)
ABILITIES: Final[Mapping[Kind, Abilities]] = {"embedded": EMBEDDED, "apache": APACHE}


@dataclass(slots=True)
class BrokerServer:
    """One broker process on one port. address: host:port where clients are told to connect."""

    program: Program
    address: str
    log: Path
    abilities: Abilities
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.program.port

    def start(self) -> None:
        """Returns when it listens. Raises RuntimeError with the end of its log."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Without waiting: a node of a cluster listens only once most of the others do."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.program.arguments, stdout=log, stderr=subprocess.STDOUT)

    def wait(self) -> None:
        assert self.process is not None, "it was not launched"
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                end = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the broker did not start, see {self.log}, which ends:\n{end}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, also of a frozen one, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """SIGTERM: it hands over what it leads and ends in order."""
        assert self.process is not None, "it was not started"
        self.process.terminate()
        self.process.wait(END_S)
        self.process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self.process is not None, "it was not started"
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self.process is not None, "it was not started"
        self.process.send_signal(signal.SIGCONT)

    def mend(self) -> None:
        """Running and awake again, whatever a test has done to it."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.wake()


@contextmanager
def broker_server(
    directory: Path,
    kind: Kind = KIND,
    *,
    advertised: str | None = None,
    extra: Mapping[str, str] | None = None,
    format_options: Sequence[str] = (),
) -> Iterator[BrokerServer]:
    """A running broker on a free port, killed at the end.

    directory: for its files and log, made if it is not there. advertised: the host:port of a proxy through which
    clients shall come. extra, format_options: of Apache Kafka only, see ops/stack/apache.py. Where `extra` has
    listeners of its own, {port} and {controller_port} in its values stand for the ports.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = claim(0, "broker", set())
    if kind == "embedded":
        server = _embedded(directory, port, advertised)
    else:
        (server,) = _apache(directory, [port], advertised, extra or {}, format_options)
    server.start()
    sys.stdout.write(f"broker log: {server.log}\n")
    try:
        yield server
    finally:
        server.kill()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three nodes that keep every record three times and take a write that two have."""

    nodes: Sequence[BrokerServer]

    @property
    def address(self) -> str:
        """All of them, separated by commas."""
        return ",".join(node.address for node in self.nodes)


@contextmanager
def apache_cluster(directory: Path, *, extra: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Three running nodes of Apache Kafka, killed at the end. Skips or fails as `broker_server`."""
    directory.mkdir(parents=True, exist_ok=True)
    taken: set[int] = set()
    nodes = _apache(directory, [claim(0, "broker", taken) for _ in range(3)], None, extra or {}, ())
    with ExitStack() as ends:
        for node in nodes:
            ends.callback(node.kill)
            node.launch()
        for node in nodes:
            node.wait()
        yield Cluster(nodes)


def apache_libs() -> Path:
    """The jars of Apache Kafka, fetched if they are not there. Skips or fails as `broker_server`."""
    with _required():
        apache.java()
        return apache.fetch(ConnectionSettings().cache)


@contextmanager
def _required() -> Iterator[None]:
    """Skips the test, or fails it in CI, where the broker cannot be had."""
    try:
        yield
    except MissingExtra as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def _embedded(directory: Path, port: int, advertised: str | None) -> BrokerServer:
    with _required():
        program = broker(port)
    if advertised is not None:
        told = program.arguments.index("--advertised-listener-url") + 1
        arguments = (*program.arguments[:told], f"tcp://{advertised}", *program.arguments[told + 1 :])
        program = Program(program.name, arguments, port)
    return BrokerServer(program, advertised or f"{HOST}:{port}", directory / f"broker-{port}.log", EMBEDDED)


def _apache(
    directory: Path,
    client_ports: Sequence[int],
    advertised: str | None,
    extra: Mapping[str, str],
    format_options: Sequence[str],
) -> list[BrokerServer]:
    """The nodes of a cluster, prepared but not started."""
    libs = apache_libs()
    taken, cluster = set(client_ports), apache.new_cluster()
    nodes = []
    for number, port in enumerate(client_ports, 1):
        controller_port = claim(0, "controller", taken)
        own = {
            # Kafka's own default, which only shows what makes a topic by mistake.
            "auto.create.topics.enable": "true",
            # Records of tests are as old as a test wants them.
            "log.retention.ms": "-1",
            "offsets.topic.num.partitions": "2",
            "transaction.state.log.num.partitions": "2",
            **{
                name: value.replace("{port}", str(port)).replace("{controller_port}", str(controller_port))
                for name, value in extra.items()
            },
        }
        home = directory / f"kafka-{port}"
        nodes.append(apache.Node(home, port, controller_port, number, advertised, own))
    for node in nodes:
        apache.prepare(libs, node, nodes, cluster=cluster, format_options=format_options, log_level="INFO")
    return [
        BrokerServer(
            apache.program(libs, node, jvm_options=JVM_OPTIONS),
            advertised or f"{HOST}:{node.port}",
            directory / f"broker-{node.port}.log",
            APACHE,
        )
        for node in nodes
    ]
