"""What cleaning takes away, and what it leaves alone."""

from __future__ import annotations

import pytest

from model.clean import clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  two\t words\r\n", "two words"),
        ("Case and Emoji stay 🚀", "Case and Emoji stay 🚀"),
        ("<p>Hello <b>wor</b>ld</p><br/>again", "Hello world again"),
        ("a<script>alert('x < y')</script>b<style>p {}</style>c<!-- d -->e", "a b c e"),
        ("never <!-- closed", "never <!-- closed"),
        ("AT&amp;T &lt;3 &eacute;t&eacute; &#8364; &#x1F600;", "AT&T <3 été € 😀"),
        ("&amp;amp;lt;b&amp;gt;bold", "bold"),
        ("&unknown; &copy", "&unknown; &copy"),
        ("see https://example.org/a?b=c#d, or www.example.org.", "see , or ."),
        ("(http://example.org/x) HTTPS://EXAMPLE.ORG", "( )"),
        ("thanks @some_one and @one@host.social!", "thanks and !"),
        ("write to some.one+tag@mail.example.org now", "write to now"),
        ("soooooo good!!!!!!!", "sooo good!!!"),
        ("1000000 and 0000", "1000000 and 0000"),
        ("ﬁne Ｗｉｄｅ ①", "fine Wide 1"),
        ("NUL\x00 bell\x07 zero\u200bwidth \ufeffBOM \ud800", "NUL bell zerowidth BOM"),
    ],
)
def test_what_is_no_sentence_goes(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    "text",
    ["a < b and c > d", "List<String> <3", "x@y", "example.org", "R&D", "C++ #1 50% $5", "3 != 4", "snake_case", "a@b"],
)
def test_what_only_looks_like_markup_stays(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("看http://t.cn/Abc1这个视频", "看 这个视频"),
        ("看www.example.com。很好", "看 。很好"),
        ("谢谢@user你好", "谢谢 你好"),
        ("来信a.b@example.com谢谢", "来信 谢谢"),
        ("见@한국어", "见@한국어"),
        ("＠user，你好！！！！！", ",你好!!!"),
        ("哈哈哈哈哈哈", "哈哈哈"),
    ],
)
def test_a_link_or_handle_ends_where_the_chinese_sentence_goes_on(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("emoji", ["👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏳️‍🌈", "🇬🇬🇬🇬", "1️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"])
def test_an_emoji_of_several_characters_stays_whole(emoji: str) -> None:
    assert clean(f"so {emoji} it is {emoji}{emoji}") == f"so {emoji} it is {emoji}{emoji}"


def test_a_joiner_stays_inside_a_word_and_goes_beside_a_space() -> None:
    assert clean("می\u200cخواهم \u200d x\u200d y") == "می\u200cخواهم x y"


def test_marks_stacked_on_a_letter_are_cut_and_accents_stay() -> None:
    assert clean("cafe\u0301") == "café"
    assert len(clean("z" + "\u0301\u0316" * 500)) < 20
