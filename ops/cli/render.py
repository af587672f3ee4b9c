"""Recommendations and tables for a terminal of 80 columns. Reads nothing, asks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.recommendation import Recommendation, RecommendedItem

SHOWN_LABELS: Final = 5


def plain_table(*columns: str) -> Table:
    """A table without vertical lines, as wide as its content."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def title(item: RecommendedItem) -> str:
    return item.title or item.item_id


def why(item: RecommendedItem, parts: int = 2) -> str:
    """The sentences of the reasons with the largest shares."""
    reasons = sorted(item.reasons, key=lambda reason: -reason.share)[:parts]
    return "; ".join(reason.text for reason in reasons)


def labels(answer: Recommendation) -> str:
    return ", ".join(f"{found.label} {found.score:.2f}" for found in answer.interests[:SHOWN_LABELS])


def recommendation(answer: Recommendation) -> RenderableType:
    """One answer in full: interests, points, items with their reasons."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("interests", Text(labels(answer) or "none known yet"))
    if answer.points:
        facts.add_row("points", Text(", ".join(answer.points)))
    facts.add_row(
        "from",
        Text(
            f"{answer.strategy}, confidence {answer.confidence:.2f}; {answer.donors.count} donors, mean similarity "
            f"{answer.donors.mean_similarity:.2f}"
        ),
    )
    if not answer.items:
        return Group(facts, Text("No items: nobody has written about any yet.", style="yellow"))
    items = plain_table("#", "item", "score", "why")
    items.columns[1].ratio, items.columns[3].ratio = 2, 3
    items.expand = True
    for rank, item in enumerate(answer.items, start=1):
        items.add_row(str(rank), Text(title(item)), f"{item.score:.2f}", Text(why(item), style="dim"))
    return Group(facts, Text(), items)


def newcomers(answers: Iterable[Recommendation]) -> RenderableType:
    """Three lines an answer, cut at the width: who and what they care about, what they were given first, and why."""
    lines: list[Text] = []
    for answer in answers:
        about = ", ".join(found.label for found in answer.interests[:3])
        lines.append(_line((short(answer.user_id), "bold"), (f"  event {answer.nth}  ", "dim"), (about, "cyan")))
        if answer.items:
            lines.append(_line(("  → ", "green"), title(answer.items[0])))
            lines.append(_line("    ", (why(answer.items[0], 1), "dim")))
        else:
            lines.append(_line(("  → nothing yet", "yellow")))
    return Group(*lines)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def short(user_id: str, characters: int = 12) -> str:
    return user_id if len(user_id) <= characters else f"{user_id[: characters - 1]}…"


def line(answer: Recommendation) -> str:
    """One answer in one line, for pipes."""
    given = f"{title(answer.items[0])} ({why(answer.items[0], 1)})" if answer.items else "nothing yet"
    interests = ", ".join(found.label for found in answer.interests[:3])
    return f"{answer.user_id}\t{answer.nth}\t{answer.strategy}\t{interests}\t{given}"
