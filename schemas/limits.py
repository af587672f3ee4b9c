"""How large a record and its fields may be, and which times are believed.

Lengths are bytes of UTF-8, because bytes are what Kafka, Redis and memory pay for. The models carry the same numbers as
`maxLength` (characters) in their JSON Schema: a string that breaks that breaks the rule in bytes too, not the other way
round; `schemas/codec.py` holds the rule.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

MAX_RECORD_BYTES: Final = 1 << 20
"""Kafka's own default for the largest record. Every field at its limit, all escaped, takes half of it."""

MAX_ID_BYTES: Final = 256
"""user_id, item_id, event_id and one label."""

MAX_TEXT_BYTES: Final = 64 * 1024

MAX_TITLE_BYTES: Final = 4 * 1024
"""Titles are kept in the catalogue and go out with every recommendation of the item."""

MAX_LANG_BYTES: Final = 35
"""What RFC 5646 tells implementations to reserve for a language tag."""

MAX_EVENT_LABELS: Final = 64

MAX_DEPTH: Final = 200
"""Nesting at which the JSON parser (jiter) gives up; its stack is safe up to there."""

MAX_WEIGHT: Final = 1e6
"""A heavier event counts as this: sums of any number of weights stay finite wherever they are kept."""

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
EARLIEST_MS: Final = int(EARLIEST.timestamp()) * 1000

LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
LATEST_MS: Final = int(LATEST.timestamp()) * 1000
"""Beyond it a timestamp is no milliseconds; decay grows with time, so one such event would outweigh all others."""

MAX_AHEAD_MS: Final = 24 * 3600 * 1000
"""How far `occurred_at` may lie after the record's own timestamp."""
