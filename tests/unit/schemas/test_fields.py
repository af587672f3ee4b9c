from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from schemas.announcement import ReleaseAnnouncement
from schemas.interests import LabelScore, UserInterests
from schemas.item import Item
from schemas.user_text import default_event_id


def test_a_message_cannot_be_changed_after_it_was_made() -> None:
    item = Item(item_id="i", title="t")
    with pytest.raises(ValidationError, match="frozen"):
        item.title = "other"  # type: ignore[misc]


def test_a_time_without_a_zone_is_refused_also_from_python() -> None:
    with pytest.raises(ValidationError, match="must carry a zone"):
        Item(item_id="i", title="t", expires_at=datetime(2026, 1, 1))


def test_a_score_is_a_number_that_json_has() -> None:
    with pytest.raises(ValidationError, match="finite"):
        LabelScore(label="beer", score=float("nan"))


def test_interests_may_be_all_but_empty() -> None:
    interests = UserInterests(user_id="ada", release="r", updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert (interests.points, interests.labels, interests.summary) == ((), (), None)


def test_an_announcement_names_its_manifest_by_hash() -> None:
    with pytest.raises(ValidationError, match="sha256"):
        ReleaseAnnouncement(
            release="r",
            uri="u",
            sha256="latest",
            space="s",
            verdict="accept",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


def test_an_event_without_an_id_is_named_by_its_place_in_the_log() -> None:
    assert default_event_id("user-text", 3, 1842) == "user-text-3-1842"
