from __future__ import annotations

from pathlib import Path

from ops.audit.findings import EXAMPLES, MEANING, Findings, Kind

DOCUMENTATION = Path(__file__).parents[4] / "docs" / "audit.md"


def test_all_are_counted_and_some_are_kept() -> None:
    findings = Findings()
    for number in range(EXAMPLES + 5):
        findings.add(Kind.VECTOR, f"user {number}", "")
    assert findings.counts == {Kind.VECTOR: EXAMPLES + 5}
    assert [example.where for example in findings.examples[Kind.VECTOR]] == [f"user {n}" for n in range(EXAMPLES)]


def test_what_was_found_aside_is_taken_over_whole() -> None:
    findings, aside = Findings(), Findings()
    for found in (findings, aside):
        for _ in range(EXAMPLES - 1):
            found.add(Kind.COUNT, "somewhere", "")
    aside.add(Kind.FEED, "shard 0", "")
    findings.merge(aside)
    assert findings.counts == {Kind.COUNT: 2 * EXAMPLES - 2, Kind.FEED: 1}
    assert len(findings.examples[Kind.COUNT]) == EXAMPLES
    assert len(findings.examples[Kind.FEED]) == 1


def test_every_kind_is_explained_and_documented() -> None:
    assert set(MEANING) == set(Kind)
    page = DOCUMENTATION.read_text(encoding="utf-8")
    assert [kind for kind in Kind if f"| `{kind}` |" not in page] == []
