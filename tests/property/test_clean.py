"""`clean` for any text: idempotent, linear, and nothing left that it promises to take away."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.clean import clean

_CHARACTERS = st.one_of(
    st.sampled_from("abAB yz09_.,:;!?-'\"/\\<>&#@=\n\t"),
    st.sampled_from("éßøИж你好世界。，！？：（）【】ーあアー안녕ﬁ㎏ＡＢ＜＞＆＠"),
    st.sampled_from(
        "\x00\x07\x1b\x85\xa0\u200b\u200c\u200d\u200e\u2028\u2029\u3000\ufeff\ufe0f\u0301\u0344\ud800\udc00"
    ),
    st.sampled_from("😂👍🏽👩🇬🇩🏴\U000e0067"),
    st.characters(),
)
_FRAGMENTS = (
    "<b> </b> <br/> <p> <script> </script> <style> </style> <!-- --> < &amp; &lt; &gt; &#38; &#x26; &#112; &#0; "
    "&#xd800; &nbsp; &notit; &am p; http:// https://x.y/z HTTP:// www. ftp://a @ @bob @a@b.c x@y.org ｗｗｗ． aaaa "
    "!!!!! 0000000 哈哈哈哈 👨‍👩‍👧 🇩🇪🇩🇪"
)
_PIECES = st.one_of(st.sampled_from([*_FRAGMENTS.split(), " ", "\n"]), st.text(_CHARACTERS, max_size=12))
_TEXTS = st.lists(_PIECES, max_size=24).map("".join)

_ATTACKS = {
    "opening tags": "<" * 65_536,
    "tags that never close": "<a " * 21_845,
    "comments that never close": "-->" + "<!--" * 16_000,
    "scripts that never close": "<script>" * 8_192,
    "script ends full of spaces": "<script>" + "</script " * 7_000,
    "spaces inside a script's end": "<script></script" + " " * 65_000,
    "ampersands": "&" * 65_536,
    "ampersands, escaped": "&" + "amp;" * 16_000,
    "entities inside entities": "&am&#1" * 5_000 + "12;;" * 5_000,
    "links": "http://" * 9_000,
    "one link of dots": "http://" + "." * 65_000,
    "www": "www." * 16_000,
    "mail that never comes": "a" * 65_000 + "@",
    "mail of dots": "a@" + "a." * 32_000,
    "handles": "@" * 65_536,
    "handles with dots": "@a." * 21_000,
    "letters": "a" * 65_536,
    "pairs of letters": "ab" * 32_000,
    "marks": "e" + "\u0301\u0316" * 16_000,
    "joiners": "\u200c\u200d" * 10_900 + "x",
    "ligatures that grow": "\ufdfa" * 21_845,
    "control characters": "\x00\x01" * 32_000,
    "tags in tags": "<<b>b>" * 10_000,
    "wide brackets": "＜b＞" * 10_000,
}


@settings(max_examples=400, deadline=None)
@given(_TEXTS)
@example("&am&#112;;lt;b&gt;")
@example("&am&am&am&am&am&#112;;;;;;lt;b>ﬁ")
@example("e\u0344\u0344\u0344\u0344\u0344\u0344\u0344\u0344\u0344\u0344")
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_no_control_character_no_surrogate_and_no_loose_space_is_left(text: str) -> None:
    cleaned = clean(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b\ufeff\ud800-\udfff]", cleaned)
    assert cleaned == " ".join(cleaned.split())
    cleaned.encode()


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abc ABC 019 你好世界 éß 😂👍 ,.?"), max_size=80))
def test_plain_text_keeps_every_letter_digit_and_emoji_in_its_case(text: str) -> None:
    def kept(value: str) -> str:
        return re.sub(r"(.)\1+", r"\1", re.sub(r"[\s,.?]", "", value))

    assert kept(clean(text)) == kept(text)


@pytest.mark.parametrize("attack", _ATTACKS.values(), ids=_ATTACKS.keys())
def test_64_kib_of_anything_take_a_time_that_grows_with_their_length_only(attack: str) -> None:
    short, long = (_seconds(attack[: len(attack) // parts]) for parts in (4, 1))
    # Four times the text: a quadratic step would take sixteen times as long.
    assert long < 9 * short + 0.1
    assert clean(clean(attack)) == clean(attack)


def _seconds(text: str) -> float:
    took = []
    for _ in range(3):
        start = time.process_time()
        clean(text)
        took.append(time.process_time() - start)
    return min(took)
