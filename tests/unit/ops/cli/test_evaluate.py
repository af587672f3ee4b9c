from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.cli.app import app
from ops.cli.evaluate import names_of, shares
from ops.errors import BadInput
from tests.evaluations import write_file


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", os.environ.get("OPENBLAS_NUM_THREADS", "1"))
    monkeypatch.delenv("KINDRED_CONFIG", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments, "--encoder", "dummy"])


def test_a_file_of_one_s_own_gives_a_table_of_80_columns(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl")
    result = run("mine.jsonl", "--field", "occurred_at=ts")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(result.stdout.split())
    assert "mine" in lines[0]
    assert "240 events of 60 users" in text
    for name in ("Kindred", "refitted", "recent popularity", "TF-IDF kNN", "raw kNN", "co-occurrence", "EASE"):
        assert name in text
    assert "Kindred over the best single baseline" in text
    assert "after first refit" in text
    assert "…" not in text


def test_a_long_label_takes_no_number_s_place(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl", labels=["a-label/with-a-name-that-goes-on-and-on"])
    result = run("mine.jsonl", "--field", "occurred_at=ts")
    rows = [line.rstrip() for line in result.stdout.splitlines() if "a-label" in line]
    assert rows
    assert all(row.endswith(")") and len(row) <= 80 for row in rows)


def test_several_sets_have_a_summary_and_one_picture(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl")
    other = write_file(tmp_path / "other.jsonl", item_id=None)
    (tmp_path / "other.jsonl.gz").write_bytes(gzip.compress(other.read_bytes()))
    result = run("mine.jsonl", "other.jsonl.gz", "--field", "occurred_at=ts", "--picture", "both.png")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "All sets" in result.stdout
    assert "not judged" in result.stdout
    assert "no event has an item" in result.stdout
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_all_that_stands_on_standard_output_and_a_second_run_says_the_same(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl")
    first, second = (run("mine.jsonl", "--field", "occurred_at=ts", "--json") for _ in range(2))
    assert first.exit_code == 0, first.output
    documents = [json.loads(result.stdout) for result in (first, second)]
    for document in documents:
        assert document.keys() == {"format", "sets"}
        assert document["sets"][0].pop("seconds") >= 0
    assert documents[0] == documents[1]
    assert documents[0]["sets"][0]["file"] == "mine.jsonl"
    assert len(list(Path(".kindred/evaluate").iterdir())) == 1


def test_a_file_without_anything_to_ask_for_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl", item_id=None, labels=None)
    result = run("mine.jsonl", "--field", "occurred_at=ts")
    assert result.exit_code == 2
    assert "Nothing in mine.jsonl can be judged. Items are not judged: no event has an item." in result.stderr
    assert "--field item_id=SOURCE" in result.stderr


def test_a_file_with_too_few_users_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl", users=8)
    result = run("mine.jsonl", "--field", "occurred_at=ts")
    assert result.exit_code == 2
    assert "mine.jsonl cannot be evaluated" in result.stderr
    assert "at least 10 must" in result.stderr


def test_bad_lines_are_named_and_counted(tmp_path: Path) -> None:
    file = write_file(tmp_path / "mine.jsonl")
    file.write_text("{\n" + file.read_text())
    refused = run("mine.jsonl", "--field", "occurred_at=ts")
    assert refused.exit_code == 2
    assert "Line 1 of mine.jsonl: is not JSON" in refused.stderr
    passed = run("mine.jsonl", "--field", "occurred_at=ts", "--skip-bad", "--json")
    assert passed.exit_code == 0
    assert "mine.jsonl, line 1: is not JSON" in passed.stderr
    assert "1 bad lines are passed over" in passed.stderr
    json.loads(passed.stdout)


def test_of_a_long_file_the_newest_events_are_taken_and_that_is_said(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl")
    result = run("mine.jsonl", "--field", "occurred_at=ts", "--newest", "200", "--json")
    assert "only the newest 200 of 240 events" in result.stderr
    assert json.loads(result.stdout)["sets"][0]["events"] == 200


def test_an_unknown_encoder_and_a_picture_in_no_directory_are_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "mine.jsonl")
    result = CliRunner().invoke(app, ["evaluate", "mine.jsonl", "--encoder", "what?"])
    assert result.exit_code == 2
    assert "The encoder cannot be used" in result.stderr
    result = run("mine.jsonl", "--picture", "nowhere/a.png")
    assert result.exit_code == 2
    assert "directory does not exist" in result.stderr


def test_shares_of_refits() -> None:
    assert shares(".4,.6, .8", 0.2) == (0.4, 0.6, 0.8)
    assert shares(".5", 0.2) == (0.5,)
    assert shares("none", 0.2) == ()
    for given in ("a", "", ".8,.4", ".1", "1", ".4,.4", "nan"):
        with pytest.raises(BadInput, match="--refit-at"):
            shares(given, 0.2)


def test_sets_are_called_as_their_files_or_directories(tmp_path: Path) -> None:
    files = ["a/beer.jsonl.gz", "coffee/events.jsonl.gz", "b/beer.jsonl", "events.jsonl"]
    assert names_of(files) == ["beer", "coffee", "beer (2)", tmp_path.name]
