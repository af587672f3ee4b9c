from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic_core import to_json

from model.index import Changes, Index
from model.item_table import ItemRow
from model.nearest import Floats
from model.transfer_weights import TransferWeights
from schemas.recommendation import Recommendation, recommendation_id
from schemas.state import UserState, hash64
from worker.answer import Question, answer, rounded_shares

DIMENSION = 8
EAST, NORTH = np.eye(DIMENSION, dtype=np.float32)[:2]
ZERO = np.zeros(DIMENSION, np.float32)
NOW = 1_800_000_000_000
WEIGHTS = TransferWeights.default()
ENGLISH = "I would like to know more about citra hops and pale ale."
CHINESE = "我想了解精酿啤酒和柑橘味酒花。"


@pytest.fixture
def index() -> Index:
    index = Index(DIMENSION, 1 << 20)
    text = EAST.astype(np.float16).tobytes()
    index.apply(
        Changes(
            (1.0,),
            items=[
                ItemRow(hash64(name), name, f"Title of {name}", popularity, 3, text if name == "d" else b"")
                for name, popularity in (("a", 0.0), ("b", 1.0), ("c", 2.0), ("d", -3.0))
            ],
            labels=[(hash64("beer"), "beer"), (hash64("Kaffee"), "Kaffee")],
        )
    )
    beer, coffee = {hash64("beer"): 1.0}, {hash64("Kaffee"): 1.0}
    index.put_users(
        [
            (b"donor-key-000001", known_state(EAST, ["a", "b"], beer)),
            (b"donor-key-000002", known_state(EAST, ["a"], beer)),
            (b"donor-key-000003", known_state(NORTH, ["c"], coffee)),
        ]
    )
    return index


def known_state(vector: Floats, items: Sequence[str], labels: dict[int, float]) -> UserState:
    return UserState(vector.astype(np.float16), 1.0, NOW, NOW, 1, (), tuple(hash64(item) for item in items), labels, ())


def question(text: str = ENGLISH, vector: Floats = EAST, items: Sequence[str] = (), offset: int = 7) -> Question:
    return Question(
        user_id="newcomer",
        user=b"newcomer-key-001",
        nth=1,
        topic="user-text",
        partition=2,
        offset=offset,
        event_id=f"user-text-2-{offset}",
        text=text,
        vector=vector,
        items=tuple(hash64(item) for item in items),
        labels={},
        created_at=NOW,
    )


def one(index: Index, asked: Question, **options: Any) -> dict[str, Any]:
    (result,) = answer([asked], index, WEIGHTS, release="r1", space="s1", **options)
    return result


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ""])
@pytest.mark.parametrize("vector", [EAST, ZERO])
@pytest.mark.parametrize("items", [(), ("a",), ("a", "c"), ("unknown",)])
def test_every_answer_is_a_valid_recommendation(index: Index, text: str, vector: Floats, items: Sequence[str]) -> None:
    encoded = to_json(one(index, question(text, vector, items)))
    recommendation = Recommendation.model_validate_json(encoded)
    assert set(json.loads(encoded)) == set(Recommendation.model_fields)
    assert 0 <= recommendation.confidence <= 1
    for item in recommendation.items:
        assert sum(reason.share for reason in item.reasons) == pytest.approx(1, abs=1e-6)
        assert item.item_id not in items
        assert all(reason.text for reason in item.reasons)
    scores = [item.score for item in recommendation.items]
    assert scores == sorted(scores, reverse=True)


def test_identity_and_trigger_are_those_of_the_event(index: Index) -> None:
    result = one(index, question())
    assert result["recommendation_id"] == recommendation_id("newcomer", "user-text", 2, 7)
    assert result["trigger"] == {"topic": "user-text", "partition": 2, "offset": 7, "event_id": "user-text-2-7"}
    assert (result["release"], result["space"], result["nth"]) == ("r1", "s1", 1)
    assert result["created_at"] == "2027-01-15T08:00:00.000Z"


def test_answers_come_in_the_order_of_the_questions(index: Index) -> None:
    asked = [question(offset=offset, vector=vector) for offset, vector in ((3, EAST), (1, ZERO), (2, NORTH))]
    together = answer(asked, index, WEIGHTS, release="r1", space="s1")
    assert [result["trigger"]["offset"] for result in together] == [3, 1, 2]
    assert together == [one(index, each) for each in asked]
    assert answer([], index, WEIGHTS, release="r1", space="s1") == []


def test_near_donors_give_their_items_and_labels(index: Index) -> None:
    result = one(index, question())
    item = next(item for item in result["items"] if item["item_id"] == "a")
    assert item["title"] == "Title of a"
    reason = next(reason for reason in item["reasons"] if reason["part"] == "donors")
    assert reason["count"] == 2
    assert reason["text"] == "2 people who write about similar things took part in this"
    assert result["interests"] == [{"label": "beer", "score": 1.0}]
    assert result["donors"] == {"count": 2, "mean_similarity": 1.0}
    assert result["strategy"] in ("transfer", "blend")


def test_an_item_of_ones_own_topic_is_explained_by_its_people_where_no_donor_is_near(index: Index) -> None:
    asked = replace(question(vector=ZERO), labels={hash64("Kaffee"): 1.0})
    item = next(item for item in one(index, asked)["items"] if item["item_id"] == "c")
    (reason,) = [reason for reason in item["reasons"] if reason["part"] == "donors"]
    assert reason["count"] == 3
    assert reason["text"] == "3 people who take part in this care for the same topics as you"
    (chinese,) = [
        reason
        for item in one(index, replace(asked, text=CHINESE))["items"]
        for reason in item["reasons"]
        if (item["item_id"], reason["part"]) == ("c", "donors")
    ]
    assert chinese["text"] == "有 3 位参与者与你关注相同的话题"


def test_a_text_without_a_vector_is_answered_from_popularity_and_says_so(index: Index) -> None:
    result = one(index, question("", ZERO))
    assert result["strategy"] == "popular"
    assert result["confidence"] == 0
    assert {item["item_id"] for item in result["items"]} >= {"a", "b", "c"}
    assert {reason["part"] for item in result["items"] for reason in item["reasons"]} == {"popularity"}


def test_confidence_falls_with_the_similarity_of_donors(index: Index) -> None:
    sure = [one(index, question(vector=(w * EAST + (1 - w) * -NORTH)))["confidence"] for w in (1.0, 0.5, 0.1)]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] > sure[2]


def test_a_shared_item_is_named_by_its_public_title(index: Index) -> None:
    result = one(index, question(vector=NORTH, items=["a"]))
    item = next(item for item in result["items"] if item["item_id"] == "b")
    reason = next(reason for reason in item["reasons"] if reason["part"] == "shared_items")
    assert reason["phrases"] == ["Title of a"]
    assert reason["text"] == "Someone who took part in “Title of a” took part in this"


def test_a_chinese_text_is_answered_in_chinese(index: Index) -> None:
    result = one(index, question(CHINESE))
    texts = [reason["text"] for item in result["items"] for reason in item["reasons"]]
    assert texts
    assert all(any("\u4e00" <= c <= "\u9fff" for c in text) for text in texts)


def test_no_name_of_a_donor_leaves(index: Index) -> None:
    encoded = to_json(answer([question(), question(items=["a"])], index, WEIGHTS, release="r1", space="s1")).decode()
    assert "donor-key" not in encoded
    assert "newcomer-key" not in encoded


def test_phrases_are_the_newcomers_own_words(index: Index) -> None:
    result = one(index, question())
    assert "citra hops" in result["points"]
    text_reasons = [r for item in result["items"] for r in item["reasons"] if r["part"] == "item_text"]
    assert text_reasons
    assert all(phrase in ENGLISH for reason in text_reasons for phrase in reason["phrases"])


def test_the_number_of_items_is_a_setting(index: Index) -> None:
    assert len(one(index, question(), limit=1)["items"]) == 1


def test_a_newcomer_already_in_the_index_is_not_a_donor(index: Index) -> None:
    asked = replace(question(), user=b"donor-key-000001")
    assert one(index, asked)["donors"]["count"] == 1


def test_rounded_shares_drop_what_is_too_small_and_add_up() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet([0.3] * 4, (50, 10)).astype(np.float32)
    shares[0, 0] = 0
    for row in rounded_shares(shares):
        for item in row:
            assert sum(item) == pytest.approx(1, abs=1e-9) or item == [0, 0, 0, 0]
            assert all(share == 0 or share > 0.01 for share in item)
