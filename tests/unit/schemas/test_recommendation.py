from __future__ import annotations

from uuid import uuid5

from schemas.recommendation import NAMESPACE, recommendation_id


def test_the_id_is_a_uuid5() -> None:
    for user, topic, partition, offset in [("ada", "user-text", 0, 0), ("小明/7", "a.user-text", 41, 2**60)]:
        name = f"{topic}/{partition}/{offset}/{user}"
        assert recommendation_id(user, topic, partition, offset) == str(uuid5(NAMESPACE, name))


def test_the_id_never_changes_between_versions() -> None:
    assert recommendation_id("ada", "user-text", 3, 1842) == "ac5b8e58-df2f-5e6b-8b86-29d2fcc10c67"


def test_events_that_differ_in_anything_have_different_ids() -> None:
    ids = {
        recommendation_id(user, topic, partition, offset)
        for user in ("ada", "1/ada")
        for topic in ("user-text", "x.user-text")
        for partition in (1, 11)
        for offset in (1, 11)
    }
    assert len(ids) == 16
