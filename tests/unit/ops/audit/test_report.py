from __future__ import annotations

import json

from rich.console import Console

from ops.audit.findings import Findings, Kind
from ops.audit.report import Checked, Report, rendered
from ops.audit.window import Window

CHECKED = Checked(
    records=100, events=98, encoded=98, users=20, vectors=20, erased=1, roaming=0, bad_records=1, answers=40,
    repeated_answers=2, dead_letters=1,
)  # fmt: skip


def report(findings: Findings, *not_checked: str) -> Report:
    return Report(findings, (Window(0, 0, 100, 100, whole=True),), CHECKED, not_checked, 1.5)


def shown(what: Report, width: int) -> str:
    console = Console(width=width, record=True, quiet=True, force_terminal=False)
    with console.capture() as captured:
        console.quiet = False
        console.print(rendered(what))
    return captured.get()


def some() -> Findings:
    findings = Findings()
    for number in range(5):
        findings.add(Kind.LOST_USER, f"user {number:032x}", "has 3 events in the log and nothing in Redis")
    findings.add(Kind.WATERMARK, "shard 2", "has seen partition 0 up to 3, the group has committed 9")
    return findings


def test_nothing_found_says_so_and_what_was_not_looked_at() -> None:
    text = shown(report(Findings(), "7 records behind the committed offsets"), 80)
    assert "Nothing found." in text
    assert "not checked: 7 records behind the committed offsets" in text
    assert "100 records" in text


def test_each_kind_stands_in_the_table_also_in_a_narrow_window() -> None:
    for width in (40, 60, 100):
        text = shown(report(some()), width)
        assert all(len(line) <= width for line in text.splitlines())
        words = " ".join(text.split())
        assert "lost_user 5" in words
        assert "watermark 1" in words
        assert "and 2 more" in words


def test_json_has_what_a_machine_needs() -> None:
    found = json.loads(json.dumps(report(some(), "x").as_json()))
    assert (found["ok"], found["not_checked"], found["checked"]["users"]) == (False, ["x"], 20)
    kinds = {row["kind"]: row for row in found["findings"]}
    assert (kinds["lost_user"]["count"], len(kinds["lost_user"]["examples"])) == (5, 5)
    assert set(kinds["watermark"]["examples"][0]) == {"where", "said"}
    assert report(Findings()).as_json()["ok"] is True
