"""Apache Kafka on this machine: fetched once with Maven, then nodes that are broker and controller in one (KRaft).

A node is a directory: its `server.properties`, its log (`data`), formatted once. This module runs Maven and Kafka's
own format tool, but no broker: `program` gives the command line to whoever supervises it. It knows neither topics nor
who connects; TLS, logins and ACLs come in as properties.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as once
from pathlib import Path
from typing import Final

from filelock import FileLock

from ops.errors import MissingExtra, StackFailed
from ops.stack.ports import HOST
from ops.stack.programs import BROKER, Program

VERSION: Final = "4.1.1"
ARTIFACTS: Final = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    # Without it Kafka says nothing at all: its modules log through slf4j.
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
)
OLDEST_JAVA: Final = 17
HEAP: Final = ("-Xmx512m",)
"""Plenty for one machine's topics: what Kafka reads and writes is in the page cache, not on the heap."""

_FETCH_S: Final = 1200
_FORMAT_S: Final = 60
_INTERNAL_PARTITIONS: Final = 8
"""Of the topics that hold offsets and transactions; Kafka's own 50 take seconds to make when the first group comes."""

_DEPENDENCY: Final = """
    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"""
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kindred</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{}
  </dependencies>
</project>
"""
_LOGGING: Final = """rootLogger.level = {level}
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %c{{1}} %m%n
"""
_JAVA_REMEDY: Final = (
    f"Install Java {OLDEST_JAVA} or newer (Debian: openjdk-17-jre-headless) and put it on the PATH or name it in "
    "JAVA_HOME; `--kafka embedded` needs none."
)
_MAVEN_REMEDY: Final = "Install Maven (Debian: maven), it fetches Kafka once (54 MB); `--kafka embedded` needs none."

Run = Callable[[Sequence[str], Path], None]
"""Runs a command in a directory; raises MissingExtra or StackFailed where it fails."""


@dataclass(frozen=True, slots=True)
class Node:
    """port: for clients; controller_port: for the nodes among themselves. advertised: host:port that clients are told,
    where it is not the port itself."""

    directory: Path
    port: int
    controller_port: int
    number: int = 1
    advertised: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further properties; they win over those that `properties` makes."""


def java() -> str:
    """The Java program to use. Raises MissingExtra where there is none, or only one that Kafka does not run on."""
    home = os.environ.get("JAVA_HOME")
    return _new_enough(str(Path(home) / "bin" / "java") if home else shutil.which("java") or "")


@once
def _new_enough(program: str) -> str:
    """Raises MissingExtra."""
    if not Path(program).is_file():
        raise MissingExtra(f"Apache Kafka needs Java, and {program or 'java'} is not there.", _JAVA_REMEDY)
    said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        version = found[1] if found else "of an unknown version"
        raise MissingExtra(f"Apache Kafka needs Java {OLDEST_JAVA} or newer, and {program} is {version}.", _JAVA_REMEDY)
    return program


def run_command(command: Sequence[str], directory: Path) -> None:
    """`Run` as a process of its own, at most 20 minutes."""
    if shutil.which(command[0]) is None:
        raise MissingExtra(f"{command[0]} is not installed.", _MAVEN_REMEDY)
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StackFailed(f"{command[0]} has not fetched Kafka in {_FETCH_S} s.", "Check the network.") from error
    if done.returncode:
        said = " / ".join(line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line)[:500]
        raise StackFailed(
            f"{command[0]} ended with {done.returncode} while it fetched Kafka: {said}.",
            "Check the network and Maven's settings.",
        )


def fetch(cache: Path, runner: Run = run_command) -> Path:
    """The directory with Kafka's jars under `cache`, fetched if it is not there. Raises MissingExtra, StackFailed."""
    home = cache / f"apache-kafka-{VERSION}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if home.is_dir():
            return home
        with tempfile.TemporaryDirectory(prefix=".fetch.", dir=home.parent) as name:
            work = Path(name)
            dependencies = "".join(_DEPENDENCY.format(*artifact) for artifact in ARTIFACTS)
            (work / "pom.xml").write_text(_POM.format(dependencies))
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={work / 'libs'}"]
            runner(["mvn", "--batch-mode", "--quiet", "--strict-checksums", *goal], work)
            jars = [f"{name}-{version}.jar" for _, name, version in ARTIFACTS]
            missing = [jar for jar in jars if not (work / "libs" / jar).is_file()]
            if missing:
                raise StackFailed(f"Maven ended well and left no {missing[0]}.", "Try again.")
            (work / "libs").rename(home)
    return home


def new_cluster() -> str:
    """An id for a cluster that is to be formatted: 16 random bytes as Kafka writes them, never like an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def properties(node: Node, nodes: Sequence[Node]) -> dict[str, str]:
    """server.properties of one of the nodes of a cluster: three or more keep every record three times, and take a write
    that two have."""
    copies, needed = (3, 2) if len(nodes) >= 3 else (1, 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(f"{each.number}@{HOST}:{each.controller_port}" for each in nodes),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.advertised or f'{HOST}:{node.port}'}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "log.dirs": str(node.directory.resolve() / "data"),
        # A reader of a topic that is not there must hear so, and not make it.
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(needed),
        "offsets.topic.replication.factor": str(copies),
        "offsets.topic.num.partitions": str(_INTERNAL_PARTITIONS),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(needed),
        "transaction.state.log.num.partitions": str(_INTERNAL_PARTITIONS),
        # Kafka waits 3 s for more members before it gives a group's first one its partitions.
        "group.initial.rebalance.delay.ms": "0",
        # A node that was killed may not come back before its last session has ended: 9 s, if nothing else is said.
        # The interval is also the patience of a starting broker with its controller, which a busy machine needs.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1500",
        **node.extra,
    }


def prepare(
    libs: Path,
    node: Node,
    nodes: Sequence[Node] | None = None,
    *,
    cluster: str | None = None,
    format_options: Sequence[str] = (),
    log_level: str = "WARN",
) -> None:
    """Write the node's configuration, and format its log if it has none yet.

    nodes: all of the cluster, by default this one alone. cluster: the id that a new log belongs to, the same for all
    nodes. format_options: for the format tool, such as `--add-scram` for the first users. Raises MissingExtra,
    StackFailed.
    """
    node.directory.mkdir(parents=True, exist_ok=True)
    file = _properties_file(node)
    file.write_text("".join(f"{name}={value}\n" for name, value in properties(node, nodes or [node]).items()))
    _logging_file(node).write_text(_LOGGING.format(level=log_level.lower()))
    if _identity_file(node).exists():
        return
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster or new_cluster(), "-c", str(file), *format_options]
    command = [*_jvm(libs, node, ("-XX:TieredStopAtLevel=1",)), *tool]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_S, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        why = next((line for line in lines if re.search(r"Exception|[Ee]rror:", line)), "".join(lines[-1:]))
        raise StackFailed(
            f"Kafka could not make its log in {node.directory}: {why[:500]}.",
            "Give the stack an empty data directory on a disk with space.",
        )


def cluster_of(node: Node) -> str:
    """The id of the cluster that a prepared node's log belongs to. Raises StackFailed where its file was damaged."""
    found = re.search(r"^cluster\.id=(\S+)$", _identity_file(node).read_text(), re.MULTILINE)
    if found is None:
        raise StackFailed(f"{_identity_file(node)} names no cluster.", f"Remove {node.directory}: its log is lost.")
    return found[1]


def program(libs: Path, node: Node, *, jvm_options: Sequence[str] = HEAP) -> Program:
    """The prepared node as a command line. Raises MissingExtra."""
    return Program(BROKER, (*_jvm(libs, node, jvm_options), "kafka.Kafka", str(_properties_file(node))), node.port)


def _jvm(libs: Path, node: Node, options: Sequence[str]) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={_logging_file(node)}"
    return [java(), *options, logging, "-cp", f"{libs.resolve()}/*"]


def _identity_file(node: Node) -> Path:
    return node.directory.resolve() / "data" / "meta.properties"


def _properties_file(node: Node) -> Path:
    return node.directory.resolve() / "server.properties"


def _logging_file(node: Node) -> Path:
    return node.directory.resolve() / "log4j2.properties"
