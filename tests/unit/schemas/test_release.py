from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.release import FileName

NAMES: TypeAdapter[str] = TypeAdapter(FileName)


@pytest.mark.parametrize("name", ["model.safetensors", "encoder/tokenizer.json", "头.safetensors", "..hidden"])
def test_a_file_inside_the_release_may_be_named(name: str) -> None:
    assert NAMES.validate_python(name) == name


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a\0b"])
def test_a_file_outside_the_release_cannot_be_named(name: str) -> None:
    with pytest.raises(ValidationError, match="inside the release directory"):
        NAMES.validate_python(name)
