from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.audit.rules import Stretch
from ops.cli.app import app
from ops.cli.audit import stretch
from ops.errors import BadInput


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "CONFIG"):
        monkeypatch.delenv(f"KINDRED_{name}", raising=False)


def test_it_explains_itself() -> None:
    result = CliRunner().invoke(app, ["audit", "--help"])
    assert result.exit_code == 0
    assert "--sample" in result.output


def test_without_a_stack_it_says_how_to_get_one() -> None:
    result = CliRunner().invoke(app, ["audit"])
    assert result.exit_code == 1
    assert "No stack is running" in result.stderr


def test_a_stretch_names_a_partition_and_the_offsets_up_to_its_end() -> None:
    assert stretch("3:120-125") == Stretch(3, 120, 125)


@pytest.mark.parametrize("text", ["", "3", "3:120", "3:120-x", "3:9-9", "a:1-2"])
def test_what_is_no_stretch_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput):
        stretch(text)
