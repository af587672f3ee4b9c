"""Field types that several messages use. Knows nothing of any one message, of bytes or of Kafka."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from schemas.limits import (
    MAX_EVENT_LABELS,
    MAX_ID_BYTES,
    MAX_LANG_BYTES,
    MAX_TEXT_BYTES,
    MAX_TITLE_BYTES,
)

NAIVE_TIME: Final = "naive_time"
"""Type of the validation error for a time without a zone."""


class Message(BaseModel):
    """Base of all messages: immutable; unknown fields are accepted and ignored, so that newer producers may add any."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def parse_time(value: object) -> object:
    """ISO 8601 text → datetime with a zone; other values are left to pydantic.

    pydantic's own parser also takes numbers in a string and guesses their unit; a time that has to be guessed is none.
    The errors never quote the value.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            raise PydanticCustomError("time_parsing", "must be an ISO 8601 time such as 2026-01-31T12:00:00Z") from None
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise PydanticCustomError(NAIVE_TIME, "must carry a zone, such as Z or +08:00")
    return value


def _string(max_bytes: int, *, min_length: int = 0) -> Any:
    """A string with limits for the JSON Schema only: the codec checks them in bytes, with a reason for each field."""
    return Field(
        description=f"At most {max_bytes} bytes of UTF-8.",
        json_schema_extra={"minLength": min_length, "maxLength": max_bytes},
    )


Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    Field(
        json_schema_extra={"pattern": r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$"},
    ),
]
"""RFC 3339; the decoder also takes its neighbours in ISO 8601, such as +0000."""
Id = Annotated[str, _string(MAX_ID_BYTES, min_length=1)]
Label = Annotated[str, _string(MAX_ID_BYTES, min_length=1)]
Labels = Annotated[tuple[Label, ...], Field(max_length=MAX_EVENT_LABELS, fail_fast=True)]
"""Stops at the first bad one: a record of a megabyte could otherwise cost half a million error objects."""

Text = Annotated[str, _string(MAX_TEXT_BYTES)]
Title = Annotated[str, _string(MAX_TITLE_BYTES)]
Lang = Annotated[str, _string(MAX_LANG_BYTES)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
