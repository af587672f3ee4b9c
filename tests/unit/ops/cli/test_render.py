from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console, RenderableType

from ops.cli import render
from schemas.interests import LabelScore
from schemas.recommendation import Donors, ItemReason, Recommendation, RecommendedItem, Trigger

ITEM = RecommendedItem(
    item_id="beer:1",
    title="What is a citra hop, and how does it differ from other hops? " * 2,
    score=0.5,
    reasons=(
        ItemReason(part="popularity", share=0.2, text="many write about it"),
        ItemReason(part="donors", share=0.8, text="3 users with similar interests wrote about it"),
    ),
)


def answer(*items: RecommendedItem, user_id: str = "u" * 40) -> Recommendation:
    return Recommendation(
        recommendation_id="r", user_id=user_id, nth=1, created_at=datetime(2026, 1, 1, tzinfo=UTC), release="r",
        trigger=Trigger(topic="user-text", partition=0, offset=0, event_id="e"), space="s", strategy="transfer",
        confidence=0.5, interests=(LabelScore(label="beer/hops", score=0.9),), points=("citra hops",), items=items,
        donors=Donors(count=3, mean_similarity=0.7),
    )  # fmt: skip


def shown(what: RenderableType) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(what)
    return console.export_text()


def test_an_answer_shows_interests_items_and_reasons_within_80_columns() -> None:
    text = shown(render.recommendation(answer(ITEM)))
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("beer/hops 0.90", "citra hops", "What is a citra hop", "3 users with", "3 donors"):
        assert part in text


def test_the_table_of_newcomers_fits_80_columns() -> None:
    text = shown(render.newcomers([answer(ITEM), answer(user_id="short")]))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "short" in text
    assert "nothing yet" in text


def test_an_answer_without_items_says_so() -> None:
    assert "No items" in shown(render.recommendation(answer()))


def test_markup_in_titles_and_ids_is_text() -> None:
    item = ITEM.model_copy(update={"title": "[red]not[/] a colour [/x]"})
    assert "[red]not[/]" in shown(render.recommendation(answer(item)))
    assert "[/x]" in shown(render.newcomers([answer(user_id="[/x]")]))


def test_the_weightiest_reason_comes_first() -> None:
    assert render.why(ITEM, 1) == "3 users with similar interests wrote about it"


def test_a_line_for_pipes_has_five_fields() -> None:
    assert render.line(answer(ITEM)).count("\t") == 4
    assert "\n" not in render.line(answer(ITEM))
