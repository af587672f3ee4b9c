from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ops.errors import MissingExtra, StackFailed
from ops.stack import apache
from ops.stack.apache import ARTIFACTS, Node


class Maven:
    """Leaves the jars that it is asked for, but for one that it may be told to leave out."""

    def __init__(self, without: str = "") -> None:
        self.runs = 0
        self.pom = ""
        self._without = without

    def __call__(self, command: Sequence[str], directory: Path) -> None:
        self.runs += 1
        self.pom = (directory / "pom.xml").read_text()
        (target,) = (word.split("=")[1] for word in command if word.startswith("-DoutputDirectory="))
        Path(target).mkdir()
        for _, name, version in ARTIFACTS:
            if name != self._without:
                (Path(target) / f"{name}-{version}.jar").touch()


def test_kafka_is_fetched_once(tmp_path: Path) -> None:
    maven = Maven()
    home = apache.fetch(tmp_path / "cache", maven)
    assert apache.fetch(tmp_path / "cache", maven) == home
    assert maven.runs == 1
    assert {path.name for path in home.iterdir()} == {f"{name}-{version}.jar" for _, name, version in ARTIFACTS}
    assert all(f"<artifactId>{name}</artifactId><version>{version}<" in maven.pom for _, name, version in ARTIFACTS)


def test_a_fetch_that_left_something_out_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="left no kafka-tools"):
        apache.fetch(tmp_path, Maven(without="kafka-tools"))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    apache.fetch(tmp_path, Maven())


def test_without_maven_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="mvn is not installed") as caught:
        apache.fetch(tmp_path / "cache")
    assert "--kafka embedded" in caught.value.remedy


def test_a_fetch_that_failed_says_what_maven_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "mvn", "echo '[ERROR] no such host'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StackFailed, match=r"ended with 1 while it fetched Kafka: .ERROR. no such host") as caught:
        apache.fetch(tmp_path / "cache")
    assert "network" in caught.value.remedy


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_a_java_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    program = _program(tmp_path / "bin" / "java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert apache.java() == str(program)


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "16"])
def test_a_java_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _program(tmp_path / "bin" / "java", f"""echo 'openjdk version "{version}" 2019-01-15' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingExtra, match="needs Java 17 or newer") as caught:
        apache.java()
    assert "Install Java 17" in caught.value.remedy


def test_a_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingExtra, match="needs Java, and java is not there"):
        apache.java()


def test_one_node_keeps_every_record_once_and_listens_on_this_machine_only(tmp_path: Path) -> None:
    node = Node(tmp_path, 9092, 9093)
    found = apache.properties(node, [node])
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert (found["default.replication.factor"], found["min.insync.replicas"]) == ("1", "1")
    assert found["auto.create.topics.enable"] == "false"


def test_three_nodes_keep_every_record_three_times_and_take_what_two_have(tmp_path: Path) -> None:
    nodes = [Node(tmp_path / str(n), 9000 + n, 9100 + n, n) for n in (1, 2, 3)]
    found = apache.properties(nodes[1], nodes)
    assert found["node.id"] == "2"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:9101,2@127.0.0.1:9102,3@127.0.0.1:9103"
    for name in ("default.replication.factor", "offsets.topic.replication.factor"):
        assert found[name] == "3"
    for name in ("min.insync.replicas", "transaction.state.log.min.isr"):
        assert found[name] == "2"


def test_properties_of_the_caller_win(tmp_path: Path) -> None:
    node = Node(tmp_path, 1, 2, advertised="proxy:9", extra={"log.retention.ms": "-1", "node.id": "7"})
    found = apache.properties(node, [node])
    assert (found["log.retention.ms"], found["node.id"]) == ("-1", "7")
    assert found["advertised.listeners"] == "PLAINTEXT://proxy:9"


def test_the_id_of_a_new_cluster_is_another_each_time_and_never_looks_like_an_option() -> None:
    made = {apache.new_cluster() for _ in range(500)}
    assert len(made) == 500
    assert all(len(text) == 22 and not text.startswith("-") for text in made)


@pytest.mark.apache
def test_a_directory_is_formatted_once_and_keeps_its_cluster(apache_libs: Path, tmp_path: Path) -> None:
    apache.prepare(apache_libs, Node(tmp_path, 19092, 19093))
    first = apache.cluster_of(Node(tmp_path, 19092, 19093))
    moved = Node(tmp_path, 19094, 19095)
    apache.prepare(apache_libs, moved)
    assert apache.cluster_of(moved) == first
    assert "127.0.0.1:19094" in (tmp_path / "server.properties").read_text()


@pytest.mark.apache
def test_a_directory_that_cannot_be_formatted_says_why(apache_libs: Path, tmp_path: Path) -> None:
    node = Node(tmp_path, 19092, 19093, extra={"process.roles": "neither"})
    with pytest.raises(StackFailed, match=r"Kafka could not make its log .*process\.roles"):
        apache.prepare(apache_libs, node)


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
