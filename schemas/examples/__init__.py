"""Examples of records, good and bad, as files: `TOPIC/valid/NAME` and `TOPIC/invalid/REASON[.WHAT].json`.

A file holds a record's value as bytes (`.gz`: compressed; `.null`: there is no value). `TOPIC/records.json` gives key,
timestamp and headers: "default" for all, an entry by file name where one differs. Everybody who reads a topic can feed
these to their own decoder.
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

DIRECTORY: Final = Path(__file__).parent


def _bytes(value: object) -> object:
    """Bytes in records.json: text as it is, or {"base64": …} for what is no text."""
    if isinstance(value, dict):
        return b64decode(value["base64"])
    return value.encode() if isinstance(value, str) else value


Bytes = Annotated[bytes, BeforeValidator(_bytes)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: Bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, Bytes], ...] = ()


_RECORDS: Final = TypeAdapter(dict[str, dict[str, object]])


@dataclass(frozen=True, slots=True)
class Example:
    """A record. name: its file, such as valid/full.json. reason: why it is a bad one, None for a good one."""

    name: str
    reason: str | None
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...]


def examples(topic: str) -> Iterator[Example]:
    """All examples of a topic (its name without a namespace), by name."""
    root = DIRECTORY / topic
    records = _RECORDS.validate_json((root / "records.json").read_bytes())
    for path in sorted(root.glob("*valid/*")):
        name = path.relative_to(root).as_posix()
        record = _Record.model_validate({**records.get("default", {}), **records.get(name, {})})
        yield Example(
            name=name,
            reason=None if path.parent.name == "valid" else path.name.split(".")[0],
            key=record.key,
            value=_value(path),
            timestamp=record.timestamp,
            headers=record.headers,
        )


def _value(path: Path) -> bytes | None:
    if path.suffix == ".null":
        return None
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
