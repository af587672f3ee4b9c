from __future__ import annotations

import pytest

from trainer.page.fonts import BOX, CHINESE, LONGEST, drawable, families


def test_a_name_becomes_one_line_that_is_not_too_long() -> None:
    assert drawable(" of\nmany\tlines ") == "of many lines"
    long = drawable("x" * 100)
    assert len(long) == LONGEST
    assert long.endswith("…")


def test_what_no_font_has_is_a_box() -> None:
    assert drawable("a\x00b\u200bc") == f"a{BOX}b{BOX}c"
    assert drawable("\U000f0000") == BOX


def test_chinese_is_drawn_where_a_font_has_it() -> None:
    if not set(families()) & set(CHINESE):
        pytest.skip("this machine has no Chinese font; `apt-get install fonts-noto-cjk` brings one")
    assert drawable("烹饪") == "烹饪"
