"""Text as users send it → text as the encoder reads it. Knows nothing of tokens, languages or topics.

What is done, and what is left alone on purpose:

- HTML: comments, scripts, styles and the tags of HTML's own elements go; `List<String>`, `a < b` and `<3` stay, as they
  are no tags. Entities with their semicolon are decoded, however often they were escaped, and what they spell is
  treated like any other text: `&lt;b&gt;` is a tag too.
- Links (`http://`, `https://`, `ftp://`, `www.`), mail addresses and handles (`@name`, `@name@host`) become a space.
  All of them end at the first CJK character. `x@y` is neither a handle nor an address and stays; so does `example.org`.
- Control characters, lone surrogates, zero-width and direction marks go. The joiners inside a word or an emoji stay.
- A letter or sign more than three times in a row is cut to three; digits never are (1000000 is a number).
- NFKC; every run of white space is one space, none at the ends. Case and emoji are kept.

Every step takes time linear in the text, whatever the text is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from html import unescape
from html.entities import html5
from typing import Final

CLEANING_VERSION: Final = 1
"""Part of the space: raise it with every change below that changes the result for some text."""

_PASSES: Final = 4
"""What one pass uncovers (`<<b>b>`, `&am&#112;;`) the next one treats. Real texts are done after two."""

_MAX_MARKS: Final = 8
"""Combining marks on one letter. NFKC sorts the marks of a letter in quadratic time; no language stacks so many."""

_CJK: Final = (
    "\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
)
_INLINE: Final = (
    "abbr|acronym|a|bdi|bdo|big|b|cite|code|data|del|dfn|em|font|ins|i|kbd|mark|q|samp|small|span|strike|strong|sub|sup|s|"
    "time|tt|u|var|wbr"
)
_BLOCK: Final = (
    "address|area|article|aside|audio|base|blockquote|body|br|button|canvas|caption|center|colgroup|col|datalist|dd|"
    "details|dialog|div|dl|dt|embed|fieldset|figcaption|figure|footer|form|frameset|frame|h[1-6]|header|head|hr|html|"
    "iframe|img|input|label|legend|link|li|main|map|menu|meta|nav|noscript|object|ol|optgroup|option|output|param|"
    "picture|pre|progress|p|rp|rt|ruby|script|section|select|source|style|summary|svg|table|tbody|td|template|textarea|"
    "tfoot|thead|th|title|track|tr|ul|video"
)
# Possessive quantifiers (`++`, `*+`) and bounds keep every pattern below from scanning a stretch of text twice.
_INLINE_TAG: Final = re.compile(rf"</?(?:{_INLINE})(?=[\s/>])[^<>]*+>", re.IGNORECASE)
_BLOCK_TAG: Final = re.compile(rf"</?(?:{_BLOCK}|!doctype|\?xml)(?=[\s/>?])[^<>]*+>", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"<!--|<(script|style)(?=[\s/>])[^<>]*+>", re.IGNORECASE)
_HIDDEN_END: Final = {
    "": re.compile("-->"),
    "script": re.compile(r"</script\s*+>", re.IGNORECASE),
    "style": re.compile(r"</style\s*+>", re.IGNORECASE),
}
_ESCAPED_AMP: Final = re.compile(r"&(?:amp;|AMP;|#0{0,5}38;|#[xX]0{0,5}26;)++")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINK: Final = re.compile(rf"(?:https?://|ftp://|www\.)[^\s<>\"“”{_CJK}]*[^\s<>\"“”{_CJK}.,;:!?)\]'’]", re.IGNORECASE)
_WORD: Final = rf"[^\W{_CJK}]"
_MAIL: Final = re.compile(
    rf"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_.+-]{{1,64}}+@{_WORD}{{1,63}}+(?:[.-]{_WORD}{{1,63}}+){{1,8}}+"
)
_HANDLE: Final = re.compile(rf"(?<![A-Za-z0-9_.@])@{_WORD}++(?:[.-]{_WORD}++)*+(?:@{_WORD}++(?:[.-]{_WORD}++)*+)?+")
_REPEATED: Final = re.compile(r"([^\W\d]|_|[^\w\s\U0001f1e6-\U0001f1ff])\1{3,}+")
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff]+"
)
_JOINERS: Final = re.compile("([\u200c\u200d])[\u200c\u200d]++")
_LOOSE_JOINER: Final = re.compile(r"(?<!\S)[\u200c\u200d]|[\u200c\u200d](?!\S)")
_PERHAPS_MARKS: Final = re.compile(rf"[^\w\s]{{{_MAX_MARKS + 1}}}")
_WIDE: Final = tuple((wide, unicodedata.normalize("NFKC", wide)) for wide in "，！？：；（）～…")
_NOT_PLAIN: Final = re.compile(r"[^\w\s]")


def clean(text: str) -> str:
    """Any text → cleaned text; `clean(clean(text)) == clean(text)`. Empty where nothing is left, never an error."""
    text = " ".join(text.split())
    for _ in range(_PASSES):
        cleaned = _once(text)
        if cleaned == text:
            return text
        text = cleaned
    # Markup hidden in markup, level under level, is an attack and no sentence: only its words are kept.
    return _shorten(" ".join(_NOT_PLAIN.sub(" ", _normalise(text)).split()))


def _once(text: str) -> str:
    """One pass over text whose white space is single spaces; the cheap conditions are what makes plain text fast."""
    before = text
    if not text.isascii():
        text = _normalise(text)
    if "&" in text:
        text = _ENTITY.sub(_decode, _ESCAPED_AMP.sub("&", text))
    if "<" in text:
        text = _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", _drop_hidden(text)))
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    if "://" in text or "www." in text.lower():
        text = _LINK.sub(" ", text)
    if "@" in text:
        text = _MAIL.sub(" ", _HANDLE.sub(" ", text))
    text = _shorten(text)
    return text if text == before else " ".join(text.split())


def _normalise(text: str) -> str:
    """NFKC, without zero-width characters and loose joiners. For most texts the quick check is all there is to do; the
    punctuation of every Chinese text is replaced first, because normalising a whole text takes 150 ns a character."""
    for wide, narrow in _WIDE:
        text = text.replace(wide, narrow)
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    if _PERHAPS_MARKS.search(text):
        text = _marks().sub(r"\1", text)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    if "\u200c" in text or "\u200d" in text:
        text = _LOOSE_JOINER.sub("", _JOINERS.sub(r"\1", text))
    return text


@cache
def _marks() -> re.Pattern[str]:
    """More than `_MAX_MARKS` combining marks in a row. Built once, from this Python's Unicode tables (20 ms)."""
    codes = [code for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code))]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    marks = "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)
    return re.compile(f"([{marks}]{{{_MAX_MARKS}}})[{marks}]++")


def _decode(entity: re.Match[str]) -> str:
    name = entity[0][1:]
    return unescape(entity[0]) if name.startswith("#") else html5.get(name, entity[0])


def _drop_hidden(text: str) -> str:
    """Without comments, scripts and styles. One that is never closed stays, and is looked for only once."""
    kept: list[str] = []
    end, unclosed = 0, set[str]()
    for opening in _HIDDEN.finditer(text):
        kind = (opening[1] or "").lower()
        if opening.start() < end or kind in unclosed:
            continue
        closing = _HIDDEN_END[kind].search(text, opening.end())
        if closing is None:
            unclosed.add(kind)
            continue
        kept.append(text[end : opening.start()])
        end = closing.end()
    if not kept:
        return text
    return " ".join([*kept, text[end:]])


def _shorten(text: str) -> str:
    """Runs of more than three of a letter or sign, cut to three."""
    return _REPEATED.sub(r"\1\1\1", text) if _has_run(text) else text


def _has_run(text: str) -> bool:
    """Whether four equal characters may stand in a row: the text as one number, xor itself shifted by a character, has
    three characters of zeros there. 2 µs for 600 ASCII characters, where the pattern takes 20."""
    if text.isascii():
        width, data = 1, text.encode("ascii")
    else:
        width, data = 4, text.encode("utf-32-le", "surrogatepass")
    number = int.from_bytes(data, "little")
    difference = number ^ (number >> (8 * width))
    return bytes(3 * width) in difference.to_bytes(len(data), "little")
