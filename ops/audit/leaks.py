"""Whether an answer could name somebody else: the strings in it that might be a user's id or hash. Pure.

An id that is written where public words stand (titles, labels, item ids, the newcomer's own phrases) cannot be told
from such a word, nor one that is a plain word within a sentence; those are not looked at. Everything else is: fields
that the schema does not have, headers, the sentences' other parts, and a user's hash anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from schemas.headers import Headers
from schemas.interests import LabelScore
from schemas.recommendation import Donors, ItemReason, Recommendation, RecommendedItem, Trigger

_HASH: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_AROUND: Final = " .,;:!?()[]{}\"'“”‘’<>、。，；：！？（）"
_ANSWER: Final = frozenset(Recommendation.model_fields)
_TRIGGER: Final = frozenset(Trigger.model_fields)
_DONORS: Final = frozenset(Donors.model_fields)
_LABEL: Final = frozenset(LabelScore.model_fields)
_ITEM: Final = frozenset(RecommendedItem.model_fields)
_REASON: Final = frozenset(ItemReason.model_fields)


def hashes(value: bytes) -> set[bytes]:
    """16 bytes of everything that looks like a user's hash in hexadecimal digits."""
    return {bytes.fromhex(found.decode()) for found in _HASH.findall(value)}


def suspects(said: Mapping[str, Any], headers: Headers) -> set[str]:
    """Strings of an answer (JSON that is a Recommendation, with what the schema does not know) that would be a leak if
    they were a user's id."""
    found = {said["release"], *_unknown(said, _ANSWER)}
    found.update(content.decode(errors="replace") for _, content in headers if content)
    found.update(_unknown(said["trigger"], _TRIGGER))
    found.update(_unknown(said["donors"], _DONORS))
    for label in said["interests"]:
        found.update(_unknown(label, _LABEL))
    for item in said["items"]:
        found.update(_unknown(item, _ITEM))
        for reason in item["reasons"]:
            found.update(_unknown(reason, _REASON))
            found |= _words(reason["text"], tuple(reason.get("phrases", ())), item.get("title"), reason.get("count"))
    found.discard("")
    return found


def _unknown(value: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    """All strings below fields that the schema does not have."""
    if value.keys() <= known:
        return
    for name in value.keys() - known:
        yield name
        yield from _strings(value[name])


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield name
            yield from _strings(below)
    elif isinstance(value, list):
        for below in value:
            yield from _strings(below)
    elif isinstance(value, str | int):
        yield str(value)


@lru_cache(4096)
def _words(text: str, phrases: tuple[str, ...], title: str | None, count: int | None) -> frozenset[str]:
    """Of a sentence without its phrases, the item's title and its count: what looks like an id."""
    for public in (*phrases, title):
        if public:
            text = text.replace(public, " ")
    words = {word.strip(_AROUND) for word in text.split()} - {str(count)}
    return frozenset(word for word in words if not word.isalpha())
