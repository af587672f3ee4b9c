"""One refit, from the log to the announcement, in seven steps.

    1 window          what the log held between recorded offsets, on the disk
    2 prepare         as arrays, without repeats, with each text's vector
    3 fit             the blend, on all past newcomers
    4 cross-validate  the same fit without a fold's users, who are then asked after as newcomers
    5 gate            accept, or reject with every reason
    6 publish         a directory, whole or not there
    7 announce        what is accepted; workers exchange it between two batches

A run that was killed is started again: the window goes on where it stopped, and the same window gives the same release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import Encoder
from model.fetch import Whole, fetch
from model.head import identity
from model.release import golden
from model.transfer_weights import TransferWeights
from schemas.announcement import ReleaseAnnouncement
from schemas.release import EncoderEntry, Manifest, Verdict
from schemas.release import Window as Stretch
from schemas.settings import ReleasePlace
from trainer.announce import announcement
from trainer.crossval import Contest, Validated, cross_validate
from trainer.fit.blend import BlendFit, BlendSettings, fit_blend
from trainer.fit.errors import NothingToFit
from trainer.gate import Limits, gate
from trainer.judge import checks, judged, metrics
from trainer.prepare import Least, Prepared, prepare
from trainer.publish import publish, share, uri
from trainer.read import Log, Reach, read_window
from trainer.replay import replay
from trainer.vectors import vectors_of
from trainer.window import Window

REPORT: Final = "report.json"
STEPS: Final = ("window", "prepare", "fit", "cross-validate", "gate", "publish", "announce")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a refit works with. current: the weights in service, and the encoder's entry of their release. announced:
    what is announced, None while the built-in release serves. announce: tells the workers. tell: step, done, of."""

    window: Window
    texts: Log
    items: Log
    encoder: Encoder
    entry: EncoderEntry
    current: TransferWeights
    announced: ReleaseAnnouncement | None
    place: ReleasePlace
    announce: Callable[[ReleaseAnnouncement], None]
    tell: Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """The values a refit runs with; see trainer/settings.py for what they mean."""

    secret: bytes
    reach: Reach
    least: Least
    blend: BlendSettings | None
    folds: int
    warm_up: float
    seed: int
    user_ttl_ms: int
    limits: Limits
    directory: Path


@dataclass(frozen=True, slots=True)
class Refit:
    """What a run came to. whole: the release, accepted or not. validated: None where the same window had been refitted
    before, and only what was left of it was done."""

    whole: Whole
    verdict: Verdict
    validated: Validated | None
    fitted: BlendFit | None
    announced: bool


def refit(parts: Parts, options: Options, now: datetime) -> Refit:
    """Raises TrainerError's kin, ModelError's kin, and what Kafka's calls raise."""
    window, tell = parts.window, parts.tell
    # 1 window
    read_window(
        window,
        parts.texts,
        parts.items,
        secret=options.secret,
        reach=options.reach,
        now_ms=int(now.timestamp() * 1000),
        on_progress=lambda done, of: tell(1, done, of),
    )
    name = _name(parts, options)
    if (done := _published(parts.place, name)) is not None:
        return _announced(parts, done, now, None, None)
    # 2 prepare
    data = prepare(window, options.least)
    vectors = vectors_of(window, data.text_ids, parts.encoder, options.directory, lambda done, of: tell(2, done, of))
    ask_from = int(len(data.user) * options.warm_up)
    # 3 fit
    fitted = _fit(parts, options, data, vectors, ask_from)
    weights = parts.current if fitted is None else fitted.weights
    # 4 cross-validate
    contest = Contest(identity, parts.current, TransferWeights.default(), options.blend)
    validated = cross_validate(
        data,
        vectors,
        contest,
        folds=options.folds,
        seed=options.seed,
        user_ttl_ms=options.user_ttl_ms,
        ask_from=ask_from,
        progress=_counted(tell, 4, options.folds * len(data.user)),
    )
    # 5 gate
    first = parts.announced is None
    verdict = gate(judged(data, validated, first=first), checks(validated, fitted, first=first), options.limits)
    # 6 publish
    manifest = Manifest(
        name=name,
        created_at=now,
        space=parts.encoder.space,
        encoder=parts.entry,
        transfer=weights.to_dict(),
        golden=golden(parts.encoder),
        window=_stretch(window, data),
        metrics=metrics(validated),
        verdict=verdict,
    )
    whole = publish(parts.place, manifest, {REPORT: _report(data, fitted, verdict, validated)})
    # 7 announce
    return _announced(parts, whole, now, validated, fitted)


def _fit(
    parts: Parts,
    options: Options,
    data: Prepared,
    vectors: NDArray[np.float16],
    ask_from: int,
) -> BlendFit | None:
    """None where nothing is to be fitted, or the data cannot carry it."""
    if options.blend is None:
        return None
    asked, _ = replay(
        data,
        vectors,
        identity,
        user_ttl_ms=options.user_ttl_ms,
        ask_from=ask_from,
        progress=_counted(parts.tell, 3, len(data.user)),
    )
    try:
        return fit_blend(asked, TransferWeights.default(), options.blend, seed=options.seed)
    except NothingToFit:
        return None


def _name(parts: Parts, options: Options) -> str:
    """Of the release that this window gives: the same for the same stretch, options and release in service."""
    stretches = {partition: (held.start, held.stop) for partition, held in parts.window.stretches().items()}
    told: list[object] = [
        parts.texts.topic_id(),
        sorted(stretches.items()),
        parts.encoder.space,
        parts.current.to_dict(),
        str(options.blend),
        str(options.limits),
        str(options.least),
        options.folds,
        options.warm_up,
        options.seed,
    ]
    return f"refit-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"


def _published(place: ReleasePlace, name: str) -> Whole | None:
    if not (place.directory / name).is_dir():
        return None
    whole = fetch(place, name)
    share(place, whole)
    return whole


def _announced(
    parts: Parts, whole: Whole, now: datetime, validated: Validated | None, fitted: BlendFit | None
) -> Refit:
    verdict = whole.manifest.verdict or Verdict(accepted=False, reasons=("it was never judged",))
    last = parts.announced
    due = verdict.accepted and (last is None or last.release != whole.manifest.name)
    if due:
        parts.announce(announcement(whole, uri(parts.place, whole.manifest.name), last, now))
    return Refit(whole, verdict, validated, fitted, due)


def _stretch(window: Window, data: Prepared) -> Stretch:
    held = window.stretches()
    return Stretch(
        start={str(partition): stretch.start for partition, stretch in held.items()},
        end={str(partition): stretch.stop for partition, stretch in held.items()},
        events=len(data.user),
        users=data.users,
    )


def _report(data: Prepared, fitted: BlendFit | None, verdict: Verdict, validated: Validated) -> bytes:
    """For machines; holds no text and no user."""
    curve = [] if fitted is None else [[e.epoch, e.loss, e.validation_loss] for e in fitted.epochs]
    found = {
        "window": data.counts,
        "blend": {"curve": curve, "chosen": None if fitted is None else fitted.chosen},
        "metrics": metrics(validated),
        "verdict": verdict.model_dump(mode="json"),
    }
    return json.dumps(found, indent=2, ensure_ascii=False).encode()


def _counted(tell: Callable[[int, int, int], None], step: int, of: int) -> Callable[[int], None]:
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        tell(step, done, of)

    return more
