"""Small streams for an evaluation: read and prepared, and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.dummy import DummyEncoder
from tests.communities import HOUR_MS, community
from tests.windows import NOW_MS, MemoryLog, fill
from trainer.prepare import Least, Prepared, prepare
from trainer.vectors import vectors_of
from trainer.window import Window

OF_EVENTS: Final = ("user", "text", "item", "labels", "weight", "lang", "occurred", "timestamp", "partition", "offset")


def world(events: Iterable[dict[str, Any]], directory: Path) -> tuple[Prepared, NDArray[np.float16], list[str]]:
    """Events an hour apart → the data, vectors of its texts, and the texts."""
    log = MemoryLog(cut=500)
    for turn, event in enumerate(events):
        log.write(event.pop("user_id"), event.pop("text"), timestamp=NOW_MS + turn * HOUR_MS, **event)
    with Window(directory / "window.sqlite") as window:
        fill(window, log)
        data = prepare(window, Least(1, 1, 0))
        vectors = np.array(vectors_of(window, data.text_ids, DummyEncoder(), directory))
        return data, vectors, window.texts(data.text_ids.tolist())


def until(data: Prepared, stop: int) -> Prepared:
    """The same log, cut after so many events."""
    return replace(data, **{name: getattr(data, name)[:stop] for name in OF_EVENTS})


def write_file(path: Path, users: int = 60, **changes: Any) -> Path:
    """A community's events as JSON lines, an event an hour, the time in `ts`. changes: of every line; None takes a
    field out."""
    lines = []
    for turn, event in enumerate(community(users)):
        at = datetime.fromtimestamp((NOW_MS + turn * HOUR_MS) / 1000, UTC).isoformat()
        line = event | {"ts": at} | changes
        lines.append(json.dumps({name: value for name, value in line.items() if value is not None}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
