from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli.app import app

COMMANDS = [
    ["up"], ["down"], ["worker"], ["demo"], ["produce"], ["watch"], ["ask"], ["user", "show"], ["user", "forget"],
    ["topics", "create"], ["doctor"], ["dlq", "list"], ["dlq", "accept"], ["dlq", "redrive"], ["offsets", "show"],
    ["offsets", "skip"], ["model", "list"], ["model", "show"], ["model", "promote"], ["model", "rollback"],
    ["model", "import"], ["bench"], ["evaluate"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "CONFIG"):
        monkeypatch.delenv(f"KINDRED_{name}", raising=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["produce", "-"], ["watch"], ["ask", "a"], ["user", "show", "u"], ["user", "forget", "u", "--yes"],
        ["topics", "create"], ["doctor"], ["dlq", "list"], ["dlq", "accept", "0", "--to", "1"], ["dlq", "redrive"],
        ["offsets", "show"], ["offsets", "skip", "0", "--to", "1"], ["worker"], ["model", "promote", "r"],
        ["model", "rollback"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_without_a_stack_every_command_says_how_to_get_one(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "Error: No stack is running in .kindred." in result.stderr
    assert "kindred up --detach" in result.stderr


def test_down_without_a_stack_is_no_error() -> None:
    result = CliRunner().invoke(app, ["down"])
    assert result.exit_code == 0
    assert "No stack was running" in result.stdout


def test_an_encoder_that_is_not_imported_is_refused_by_name() -> None:
    result = CliRunner().invoke(app, ["model", "import", "nope"])
    assert result.exit_code == 2
    assert "bge-small-zh" in result.stderr


def test_a_release_directory_without_releases_says_when_one_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["model", "list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "kindred up" in result.stderr


def test_a_kafka_that_does_not_answer_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    result = CliRunner().invoke(app, ["topics", "create"])
    assert result.exit_code == 1
    assert "Nothing answers at 127.0.0.1:1" in result.stderr
    assert "kindred doctor" in result.stderr


def test_doctor_reports_what_does_not_answer_and_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("KINDRED_REDIS_URL", "redis://:hush@127.0.0.1:1/0")
    result = CliRunner().invoke(app, ["doctor", "--no-encoder"])
    assert result.exit_code == 1
    assert "Nothing answers at 127.0.0.1:1" in result.stdout
    assert "Redis did not do what was asked" in result.stdout
    assert "hush" not in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["up", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"from ops.cli import main; sys.argv[1:] = {arguments!r}\ntry: main()\nexcept SystemExit: pass"
    assert _imported_by(code) == []


def test_asking_never_loads_torch_or_transformers() -> None:
    heavy = _imported_by("import ops.cli.ask, ops.cli.target, ops.cli.render")
    assert "torch" not in heavy
    assert "transformers" not in heavy


def _imported_by(code: str) -> list[str]:
    watched = ["torch", "transformers", "kafka", "redis", "numpy"]
    program = f"import sys\n{code}\nprint('HEAVY', [m for m in {watched} if m in sys.modules])"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("HEAVY ")
    return [name for name in watched if f"'{name}'" in last]
