from __future__ import annotations

import json
from typing import Any

import pytest

from ops.audit.leaks import hashes, suspects
from tests.unit.ops.audit.stories import answer


def said(**changes: Any) -> Any:
    return json.loads(answer("me", 0, **changes).value or b"")


def item(text: str, phrases: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    reason = {"part": "donors", "share": 1.0, "count": 12, "phrases": list(phrases), "text": text}
    return {"item_id": "item-7", "title": "u1 and u2", "score": 1.0, "reasons": [reason | more]}


def test_an_answer_as_it_should_be_holds_nothing_but_its_release() -> None:
    sentence = "Close to what you wrote, such as “u3 u4”: 12 people took part in “u1 and u2”"
    clean = said(items=[item(sentence, ("u3 u4",))], points=["u5"], interests=[{"label": "u6", "score": 1.0}])
    assert suspects(clean, [("schema", b"recommendations/1")]) == {"built-in", "recommendations/1"}


@pytest.mark.parametrize(
    "leaking",
    [
        said(donor_ids=["u9"]),
        said(donors={"count": 1, "mean_similarity": 0.1, "u9": 0.5}),
        said(trigger={"topic": "t", "partition": 0, "offset": 0, "event_id": "e", "near": {"users": ["u9"]}}),
        said(items=[item("u9 took part in this")]),
        said(items=[item("x", who="u9")]),
        said(release="u9"),
    ],
    ids=["field", "name of a field", "nested", "sentence", "reason", "release"],
)
def test_somebody_elses_id_is_suspected_wherever_no_public_word_stands(leaking: Any) -> None:
    assert "u9" in suspects(leaking, [])


def test_a_header_may_leak_too() -> None:
    assert "u9" in suspects(said(), [("near", b"u9"), ("none", None)])


def test_a_hash_is_told_by_its_length() -> None:
    user = "0123456789abcdef" * 2
    assert hashes(f'"{user}" "{user}{user}" "{user[:31]}"'.encode()) == {bytes.fromhex(user)}
