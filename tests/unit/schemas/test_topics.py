from __future__ import annotations

import re

import pytest

from schemas.topics import DEAD_LETTERS, ITEMS, MODEL_RELEASES, TOPICS, USER_INTERESTS, USER_TEXT, Topic, topic_name


def test_a_namespace_goes_in_front() -> None:
    assert topic_name(USER_TEXT) == "user-text"
    assert topic_name("user-text", "shop_1") == "shop_1.user-text"
    assert topic_name(DEAD_LETTERS, "shop") == "shop.user-text.dlq"


def test_the_record_of_everything_is_not_compacted() -> None:
    assert USER_TEXT.config["cleanup.policy"] == "delete"


@pytest.mark.parametrize("topic", [ITEMS, MODEL_RELEASES, USER_INTERESTS], ids=lambda topic: str(topic.name))
def test_topics_that_hold_the_last_word_on_each_key_are_compacted(topic: Topic) -> None:
    assert topic.config == {"cleanup.policy": "compact"}


def test_every_topic_has_a_name_that_kafka_takes_also_with_the_longest_namespace() -> None:
    for topic in TOPICS:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic_name(topic, "n" * 64))
        assert topic.partitions >= 1
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


def test_users_are_spread_over_equally_many_partitions_coming_and_going() -> None:
    assert len({topic.partitions for topic in TOPICS if topic.key == "user_id"}) == 1
