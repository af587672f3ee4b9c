"""One set evaluated: an open window → everybody's numbers, and what they are of. Knows no file and no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.encoder.base import Encoder
from model.update import DAY_MS
from trainer.errors import TooLittleData
from trainer.evaluate.answers import Plan, Refitted, Tell, answers
from trainer.evaluate.measured import Group, Measured, Part, measured
from trainer.prepare import Least, Prepared, prepare
from trainer.vectors import PIECE, vectors_of
from trainer.window import Window

LEAST_USERS: Final = 10
"""Who are asked; with fewer an interval tells nothing."""
FORMAT: Final = 1
"""Of `Evaluation.plain`: names are added, never renamed."""
_NEVER_MS: Final = 10**6 * DAY_MS
"""States do not expire: a file may reach over decades."""


@dataclass(frozen=True, slots=True)
class Settings:
    """warm_up: share of the events before anybody is asked. refit_at: shares, ascending, at which the blend is fitted
    again; none for never."""

    warm_up: float = 0.2
    refit_at: tuple[float, ...] = (0.4, 0.6, 0.8)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """name: of the set. events … languages: how many were kept. retitled: items of which more than one title is told:
    the newest one places them from the beginning. seconds: what the replay, the baselines and the intervals took."""

    name: str
    events: int
    users: int
    items: int
    labels: int
    languages: tuple[str, ...]
    retitled: int
    encoder: str
    settings: Settings
    measured: Measured
    refits: tuple[Refitted, ...]
    seconds: float
    notes: tuple[str, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        """As JSON, with names that stay."""
        found = self.measured
        return {
            "name": self.name,
            "events": self.events,
            "users": self.users,
            "items": self.items,
            "labels": self.labels,
            "languages": list(self.languages),
            "encoder": self.encoder,
            "settings": asdict(self.settings),
            "known_items": found.known_items,
            "reachable": round(found.reachable, 6),
            "coverage": {name: round(share, 6) for name, share in found.coverage.items()},
            "judged": {"items": _plain_part(found.items), "labels": _plain_part(found.labels)},
            "refits": [
                {
                    "before": fit.before,
                    "share": round(fit.before / self.events, 6),
                    "questions": fit.questions,
                    "epoch": fit.epoch,
                    "weights": fit.weights.to_dict(),
                }
                for fit in self.refits
            ],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 1),
        }


def evaluate(
    window: Window, encoder: Encoder, name: str, settings: Settings, directory: Path, tell: Tell = lambda *_: None
) -> Evaluation:
    """directory: for an array of vectors. Raises TooLittleData, saying what is missing, and WindowUnusable."""
    data = prepare(window, Least(1, 1, 0))
    vectors = vectors_of(window, data.text_ids, encoder, directory, lambda done, of: tell("encoding texts", done, of))
    started = time.monotonic()
    events = len(data.user)
    plan = Plan(
        int(events * settings.warm_up),
        tuple(int(events * share) for share in settings.refit_at),
        _NEVER_MS,
        seed=settings.seed,
    )
    given = answers(data, vectors, lambda: _texts(window, data), plan, tell)
    _check(given.user)
    tell("resampling users", 0, 1)
    found = measured(data, given, seed=settings.seed)
    tell("resampling users", 1, 1)
    retitled = _retitled(window)
    return Evaluation(
        name,
        events,
        data.users,
        len(data.item_ids),
        len(data.label_names),
        tuple(language for language in data.languages if language),
        retitled,
        encoder.name,
        settings,
        found,
        given.refits,
        time.monotonic() - started,
        tuple(_notes(data, found, retitled, given.refits)),
    )


def _texts(window: Window, data: Prepared) -> Iterator[str]:
    for start in range(0, len(data.text_ids), PIECE):
        yield from window.texts(data.text_ids[start : start + PIECE].tolist())


def _retitled(window: Window) -> int:
    ((count,),) = window.rows(
        "SELECT count(*) FROM (SELECT item FROM events WHERE item IS NOT NULL GROUP BY item "
        "HAVING count(DISTINCT title) > 1 OR (count(title) > 0 AND count(title) < count(*)))"
    )
    return int(count)


def _check(user: np.ndarray[Any, Any]) -> None:
    """Raises TooLittleData."""
    users = len(np.unique(user))
    if users < LEAST_USERS:
        raise TooLittleData(
            f"{users} users write their first or third text after the warm-up, at least {LEAST_USERS} must; give more "
            "events, or a shorter warm-up"
        )


def _notes(data: Prepared, found: Measured, retitled: int, refits: Sequence[Refitted]) -> Iterator[str]:
    if found.items is None:
        why = "no event has an item"
        if len(data.item_ids):
            shared = _shared(data)
            why = f"{shared} of {len(data.item_ids):,} items were taken by more than one user, and none of what was "
            why += "asked for was known then"
        yield f"Items are not judged: {why}."
    if found.labels is None:
        yield "Labels are not judged: no text that was asked after has any."
    if found.items is not None and retitled:
        yield f"Items with more than one title: {retitled:,}; the newest one places them from the beginning."
    few = [fit for fit in refits if not fit.questions]
    if found.items is not None and few:
        yield f"{len(few)} of {len(refits)} refits had too few questions behind them and changed nothing."


def _shared(data: Prepared) -> int:
    pairs = np.unique(np.stack([data.user[data.item >= 0], data.item[data.item >= 0]]), axis=1)
    return int((np.bincount(pairs[1]) > 1).sum()) if pairs.size else 0


def _plain_part(part: Part | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        "questions": part.questions,
        "contestants": list(part.contestants),
        "metrics": list(part.metrics),
        "best_baseline": dict(part.best),
        "groups": {name: _plain_group(group) for name, group in part.groups.items()},
    }


def _plain_group(group: Group) -> dict[str, Any]:
    def rounded(value: float) -> float | None:
        return round(value, 6) if np.isfinite(value) else None

    def plain(scores: Any) -> dict[str, Any]:
        return {
            name: {
                metric: {"mean": rounded(mean.mean), "low": rounded(mean.low), "high": rounded(mean.high)}
                for metric, mean in metrics.items()
            }
            for name, metrics in scores.items()
        }

    return {
        "questions": group.questions,
        "users": group.users,
        "scores": plain(group.scores),
        "gains": plain(group.gains),
    }
