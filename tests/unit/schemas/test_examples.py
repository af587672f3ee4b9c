"""Every example file is fed to the decoder of its topic, and to the topic's JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from jsonschema import Draft202012Validator

from schemas import asyncapi
from schemas.codec import (
    decode_item,
    decode_recommendation,
    decode_release_announcement,
    decode_user_interests,
    decode_user_text,
)
from schemas.dead_letter import read_dead_letter
from schemas.errors import BadRecord, DeadLetterError, Reason
from schemas.examples import DIRECTORY, Example, examples
from schemas.topics import DEAD_LETTERS, TOPICS

DECODERS: Final[dict[str, Callable[[Example], object]]] = {
    "user-text": lambda e: decode_user_text(e.value, e.key, e.timestamp, e.headers),
    "items": lambda e: decode_item(e.value, e.key, e.headers),
    "recommendations": lambda e: decode_recommendation(e.value, e.key, e.headers),
    "model-releases": lambda e: decode_release_announcement(e.value, e.key, e.headers),
    "user-interests": lambda e: decode_user_interests(e.value, e.key, e.headers),
    "user-text.dlq": lambda e: read_dead_letter(e.headers, e.key, e.value),
}
ALL: Final = [(topic.name, example) for topic in TOPICS for example in examples(topic.name)]
GOOD: Final = [pytest.param(topic, e, id=f"{topic}/{e.name}") for topic, e in ALL if e.reason is None]
BAD: Final = [
    pytest.param(topic, e, id=f"{topic}/{e.name}")
    for topic, e in ALL
    if e.reason is not None and topic != DEAD_LETTERS.name
]
NO_DEAD_LETTERS: Final = [
    pytest.param(e, id=e.name) for topic, e in ALL if e.reason is not None and topic == DEAD_LETTERS.name
]
# What JSON Schema can see of a value on its own: no bytes, keys, headers or record timestamps.
SEEN_BY_JSON_SCHEMA: Final = {
    Reason.WRONG_SHAPE,
    Reason.MISSING_FIELD,
    Reason.MISTYPED_FIELD,
    Reason.NAIVE_TIME,
    Reason.EMPTY_USER_ID,
    Reason.EMPTY_ITEM_ID,
    Reason.EMPTY_EVENT_ID,
    Reason.EMPTY_LABEL,
    Reason.TOO_MANY_LABELS,
}


def schema_of(topic: str) -> Draft202012Validator:
    schema = json.loads((asyncapi.DIRECTORY / f"{topic}.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize(("topic", "example"), GOOD)
def test_a_good_example_is_read(topic: str, example: Example) -> None:
    DECODERS[topic](example)


@pytest.mark.parametrize(("topic", "example"), BAD)
def test_a_bad_example_is_refused_for_the_reason_in_its_name(topic: str, example: Example) -> None:
    with pytest.raises(BadRecord) as caught:
        DECODERS[topic](example)
    assert caught.value.reason == example.reason
    assert 0 < len(caught.value.detail) < 200


@pytest.mark.parametrize("example", NO_DEAD_LETTERS)
def test_what_is_no_dead_letter_is_refused(example: Example) -> None:
    with pytest.raises(DeadLetterError):
        DECODERS[DEAD_LETTERS.name](example)


@pytest.mark.parametrize(("topic", "example"), [p for p in GOOD if p.values[0] != DEAD_LETTERS.name])
def test_a_good_example_fits_its_json_schema(topic: str, example: Example) -> None:
    if example.value is not None:
        schema_of(topic).validate(json.loads(example.value))


@pytest.mark.parametrize(("topic", "example"), BAD)
def test_json_schema_refuses_what_it_can_see(topic: str, example: Example) -> None:
    if example.reason in SEEN_BY_JSON_SCHEMA and example.value is not None:
        assert not schema_of(topic).is_valid(json.loads(example.value))


def test_every_reason_has_an_example() -> None:
    assert {example.reason for topic, example in ALL if topic == "user-text"} - {None} == set(Reason)


def test_every_topic_has_good_and_bad_examples() -> None:
    assert {topic for topic, example in ALL if example.reason is None} == {topic.name for topic in TOPICS}
    assert {topic for topic, example in ALL if example.reason is not None} == {topic.name for topic in TOPICS}


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS])
def test_records_json_names_only_files_that_exist(topic: str) -> None:
    named = json.loads((DIRECTORY / topic / "records.json").read_bytes())
    assert [name for name in named if name != "default" and not Path(DIRECTORY, topic, name).exists()] == []
