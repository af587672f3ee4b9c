from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.errors import StackError
from ops.stack import endpoints
from ops.stack.endpoints import Endpoints

FOUND = Endpoints(
    kafka="127.0.0.1:1", redis="redis://127.0.0.1:2/0", metrics=("http://127.0.0.1:3/metrics",), pids={"worker-0": 4}
)


def test_the_file_has_the_fields_that_other_programs_rely_on(tmp_path: Path) -> None:
    endpoints.write(tmp_path, FOUND)
    body = json.loads((tmp_path / "endpoints.json").read_text())
    assert body == {
        "kafka": "127.0.0.1:1",
        "redis": "redis://127.0.0.1:2/0",
        "metrics": ["http://127.0.0.1:3/metrics"],
        "pids": {"worker-0": 4},
    }


def test_what_is_written_is_read_back_and_no_draft_is_left(tmp_path: Path) -> None:
    endpoints.write(tmp_path, FOUND)
    endpoints.write(tmp_path, FOUND)
    assert endpoints.read(tmp_path) == FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]


def test_no_file_and_no_directory_mean_no_stack(tmp_path: Path) -> None:
    assert endpoints.read(tmp_path) is None
    assert endpoints.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kafka": "a"}', '{"kafka": 1, "redis": 2, "pids": 3}', "\x00"])
def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "endpoints.json").write_text(text)
    with pytest.raises(StackError, match="kindred down"):
        endpoints.read(tmp_path)
