from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ops.cli import events_file
from ops.cli.events_file import EventsFile, NoItems
from ops.errors import BadInput

FIELDS = ("occurred_at=ts",)


def write(path: Path, *lines: dict[str, Any] | str) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def event(day: int, **fields: Any) -> dict[str, Any]:
    return {"user_id": "u", "text": "a walk", "ts": f"2020-01-{day:02}T00:00:00Z"} | fields


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_file_is_a_log_of_one_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(events_file, "PIECE", 2)
    file = EventsFile(write(tmp_path / name, *(event(day) for day in range(1, 6))), FIELDS)
    assert (file.bounds()[0].begin, file.bounds()[0].end) == (0, 5)
    pieces = list(file.read({0: 1}, {0: 5}))
    assert [[record.offset for record in piece.records] for piece in pieces] == [[1, 2], [3, 4]]
    assert [piece.reached for piece in pieces] == [{0: 3}, {0: 5}]
    assert pieces[0].records[0].timestamp == 1_577_923_200_000
    assert file.offsets_at(1_577_923_200_000) == {0: 1}
    assert file.offsets_at(2 * 10**12) == {0: 5}


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    one = EventsFile(write(tmp_path / "a.jsonl", event(1)), FIELDS)
    same = EventsFile(write(tmp_path / "b.jsonl.gz", event(1)), FIELDS)
    other = EventsFile(write(tmp_path / "a.jsonl", event(2)), FIELDS)
    assert one.topic_id() == same.topic_id() != other.topic_id()


@pytest.mark.parametrize(
    ("lines", "fields", "said", "remedy"),
    [
        ((event(1), '{"user_id": "u", '), FIELDS, "Line 2 of {}: is not JSON", "--skip-bad"),
        ((event(1), "", "[1]"), FIELDS, "Line 3 of {}: must be a JSON object", "--skip-bad"),
        ((event(1, user_id=None),), FIELDS, "Line 1 of {}: user_id: must be a string", "--field"),
        ((event(1),), (), "Line 1 of {}: occurred_at: is missing; --field occurred_at=SOURCE", "--field"),
        ((event(1),), ("occurred_at=when",), "Line 1 of {}: when: is missing", "--field"),
        ((event(3), "", event(2)), FIELDS, "Line 3 of {} is older than line 1", "jq -sc"),
        ((), FIELDS, "{} has no event", "kindred produce"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line_and_a_remedy(
    tmp_path: Path, lines: tuple[dict[str, Any] | str, ...], fields: tuple[str, ...], said: str, remedy: str
) -> None:
    file = write(tmp_path / "mine.jsonl", *lines)
    with pytest.raises(BadInput) as found:
        EventsFile(file, fields)
    assert found.value.text.startswith(said.format(file))
    assert remedy in found.value.remedy


def test_bad_lines_are_passed_over_where_that_is_asked_for(tmp_path: Path) -> None:
    file = EventsFile(write(tmp_path / "mine.jsonl", "{", event(1), event(2, text=3)), FIELDS, skip_bad=True)
    assert [line.number for line in file.bad] == [1, 3]
    (piece,) = file.read({0: 0}, {0: 1})
    assert len(piece.records) == 1
    assert [line.number for line in file.bad] == [1, 3], "a second reading finds none anew"


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Give a file"):
        EventsFile("-")
    with pytest.raises(BadInput, match="cannot be read"):
        EventsFile(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "half.gz").write_bytes(gzip.compress(b'{"user_id": "u"}\n' * 1000)[:-9])
    with pytest.raises(BadInput, match="not a whole gzip file"):
        EventsFile(str(tmp_path / "half.gz"), skip_bad=True)


def test_there_is_no_catalogue() -> None:
    none = NoItems()
    assert (none.bounds(), none.offsets_at(0), list(none.read({}, {}))) == ({}, {}, [])
