"""What an audit has found, for people and for machines. Reads nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from ops.audit.findings import MEANING, Findings
from ops.audit.window import Window
from ops.cli.render import plain_table

SHOWN: Final = 3
"""Examples of a kind in the table; JSON has more."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at. records: of the log; encoded: texts; users: those of whom something had to be in Redis;
    vectors: of them, whose vector was computed; repeated_answers: published again under the same id."""

    records: int
    events: int
    encoded: int
    users: int
    vectors: int
    erased: int
    roaming: int
    bad_records: int
    answers: int
    repeated_answers: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Report:
    """not_checked: what could not be judged, in words."""

    findings: Findings
    windows: tuple[Window, ...]
    checked: Checked
    not_checked: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.counts

    def as_json(self) -> dict[str, Any]:
        found = self.findings
        return {
            "ok": self.ok,
            "windows": [asdict(window) for window in self.windows],
            "checked": asdict(self.checked),
            "findings": [
                {
                    "kind": str(kind),
                    "count": count,
                    "meaning": MEANING[kind],
                    "examples": [asdict(example) for example in found.examples[kind]],
                }
                for kind, count in sorted(found.counts.items())
            ],
            "not_checked": list(self.not_checked),
            "seconds": round(self.seconds, 3),
        }


def rendered(report: Report) -> RenderableType:
    """For a terminal, also a narrow one."""
    checked = report.checked
    parts: list[RenderableType] = [
        Text(
            f"{checked.records} records, {checked.users} users ({checked.vectors} vectors, {checked.erased} erased), "
            f"{checked.answers} answers, {checked.dead_letters} dead letters in {report.seconds:.1f} s"
        )
    ]
    parts += [Text(f"not checked: {what}", style="yellow") for what in report.not_checked]
    if report.ok:
        parts.append(Text("Nothing found.", style="green"))
        return Group(*parts)
    table = plain_table("found", "times", "what and where")
    table.columns[0].no_wrap = True
    table.columns[1].justify = "right"
    for kind, count in sorted(report.findings.counts.items()):
        examples = report.findings.examples[kind][:SHOWN]
        lines = [Text(MEANING[kind], style="bold")]
        lines += [Text(f"{example.where}: {example.said}", style="dim") for example in examples]
        if count > len(examples):
            lines.append(Text(f"and {count - len(examples)} more", style="dim"))
        table.add_row(Text(kind, style="red"), str(count), Group(*lines))
    return Group(*parts, Text(), table)
