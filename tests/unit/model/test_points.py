from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.points import MAX_CHARACTERS, MAX_POINTS, READ_CHARACTERS, is_chinese, points


def test_phrases_stand_between_function_words() -> None:
    found = points("I have been learning cold brew coffee at home, and a burr grinder is what I need.")
    assert "learning cold brew coffee" in found
    assert "burr grinder" in found


def test_a_repeated_phrase_comes_first() -> None:
    assert (
        points("The old barn. Citra hops! We like the citra hops, because of all Citra hops give.")[0] == "Citra hops"
    )


def test_chinese_is_cut_at_function_characters_and_punctuation() -> None:
    found = points("今天和朋友去了火锅店，毛肚很新鲜。")
    assert "火锅店" in found
    assert "毛肚" in found
    assert all("了" not in phrase and "很" not in phrase for phrase in found)


def test_latin_words_inside_chinese_are_phrases_of_their_own() -> None:
    assert "Kafka Streams" in points("我最近在学习Kafka Streams，感觉不错")


@pytest.mark.parametrize("text", ["", "   ", "the of and", "!!! ???", "的了", "7 42 a"])
def test_a_text_without_content_has_no_phrases(text: str) -> None:
    assert points(text) == []


def test_only_the_beginning_of_a_text_is_read() -> None:
    text = "solar panels, " * 5000
    assert points(text) == points(text[:READ_CHARACTERS])


@given(st.text(max_size=300))
def test_phrases_are_few_short_and_made_of_the_text(text: str) -> None:
    found = points(text)
    assert len(found) <= MAX_POINTS
    for phrase in found:
        assert 0 < len(phrase) <= MAX_CHARACTERS
        assert all(word in text for word in phrase.split(" "))


def test_the_language_of_the_answer_follows_the_script() -> None:
    assert is_chinese("推荐一家 ramen 店")
    assert not is_chinese("Münchner Bier")
    assert not is_chinese("")
