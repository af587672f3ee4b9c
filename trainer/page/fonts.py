"""Which fonts a picture is written in, so that no name makes a picture fail, warn, or come out wrong.

What no font of this machine has is drawn as a box.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of caches and of fonts that it does not find

from matplotlib import font_manager  # noqa: E402 (after its log is quiet)

LATIN: Final = "DejaVu Sans"
"""Comes with matplotlib."""
CHINESE: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Noto Serif CJK SC",
    "Noto Serif CJK JP",
    "AR PL UMing CN",
)
"""The first of them that a machine has is taken."""
BOX: Final = "\N{WHITE SQUARE}"
LONGEST: Final = 24
"""Characters of a name in a picture."""


@lru_cache(1)
def families() -> tuple[str, ...]:
    """Fonts in the order in which a character is looked for in them."""
    there = {entry.name for entry in font_manager.fontManager.ttflist}
    return (LATIN, *[name for name in CHINESE if name in there][:1])


@lru_cache(1)
def characters() -> frozenset[int]:
    found: set[int] = set()
    for name in families():
        found.update(font_manager.get_font(font_manager.findfont(name)).get_charmap())
    return frozenset(found)


def drawable(name: str) -> str:
    """A name as a picture can hold it: one line, not long, of characters that a font has."""
    line = " ".join(name.split())
    line = line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
    return "".join(each if each.isprintable() and ord(each) in characters() else BOX for each in line)
