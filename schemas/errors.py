"""What schemas/ raises, and the reasons for which a record is a bad one.

SchemaError
├── BadRecord          a record of a topic that breaks a rule; costs one dead letter, never stops a worker
├── DeadLetterError    a record of the dead letter topic that cannot be read back or sent again
├── ManifestError      a release's manifest that this version cannot read
├── SettingsError      settings that a program cannot run with (schemas/settings.py)
└── StateFormatError   bytes in Redis that this version cannot read (schemas/state.py)
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Reason(StrEnum):
    """Why a record is a bad one. The strings are stable: dashboards, `kindred dlq` and consumers rely on them."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NESTED_TOO_DEEP = "nested_too_deep"
    RECORD_TOO_LARGE = "record_too_large"
    WRONG_SHAPE = "wrong_shape"
    UNKNOWN_SCHEMA = "unknown_schema"
    MISSING_FIELD = "missing_field"
    MISTYPED_FIELD = "mistyped_field"
    KEY_MISMATCH = "key_mismatch"
    EMPTY_USER_ID = "empty_user_id"
    USER_ID_TOO_LONG = "user_id_too_long"
    EMPTY_ITEM_ID = "empty_item_id"
    ITEM_ID_TOO_LONG = "item_id_too_long"
    EMPTY_EVENT_ID = "empty_event_id"
    EVENT_ID_TOO_LONG = "event_id_too_long"
    TEXT_TOO_LONG = "text_too_long"
    TITLE_TOO_LONG = "title_too_long"
    LANG_TOO_LONG = "lang_too_long"
    TOO_MANY_LABELS = "too_many_labels"
    EMPTY_LABEL = "empty_label"
    LABEL_TOO_LONG = "label_too_long"
    BAD_WEIGHT = "bad_weight"
    NAIVE_TIME = "naive_time"
    TIME_IN_FUTURE = "time_in_future"
    TIME_TOO_OLD = "time_too_old"


class SchemaError(Exception):
    """Base of what schemas/ raises."""


class BadRecord(SchemaError):
    """A record that breaks a rule. detail names the field and the rule; it never holds a text or a value of a user."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DeadLetterError(SchemaError):
    """A record that is no dead letter, or one that cannot be sent again because its value was left out."""


class ManifestError(SchemaError):
    """A manifest of an unknown format version, or one that is not what the format asks for."""
