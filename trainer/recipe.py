"""One refit, from the log to the announcement, in seven steps.

    1 window          what the log held between recorded offsets, on the disk
    2 prepare         as arrays, without repeats, with each text's vector
    3 fit             blend and head, the head on all but the reserved users; before, where asked for, the encoder
    4 cross-validate  the same fit without a fold's users, who are then asked after as newcomers
    5 gate            accept, or reject with every reason
    6 publish         a directory, whole or not there
    7 announce        what is accepted; workers exchange it between two batches

A run that was killed is started again: the window goes on where it stopped, whatever came since, until whoever calls
notes in it that its refit ended; and the same window gives the same release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.fetch import Whole, fetch
from model.release import Release
from model.transfer_weights import TransferWeights
from schemas.announcement import ReleaseAnnouncement
from schemas.release import Verdict
from schemas.settings import ReleasePlace
from trainer.adapt import Adapted, Adapting, adapt, discard
from trainer.announce import announcement
from trainer.fit.blend import BlendSettings
from trainer.fit.head import HeadSettings
from trainer.gate import Limits, gate
from trainer.judge import checks, head_wins, judged, without_head
from trainer.learn import Learner
from trainer.prepare import Least, Prepared, prepare
from trainer.publish import publish, share, uri
from trainer.read import Log, Reach, read_window
from trainer.release import HEAD, Made, as_served, fit_to_serve, release_of
from trainer.vectors import vectors_of
from trainer.window import Window

STEPS: Final = ("window", "prepare", "fit", "cross-validate", "gate", "publish", "announce")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a refit works with. serving: the release in service. announced: what is announced, None while the built-in
    release serves. announce: tells the workers. tell: step, done, of. adapting: how the encoder itself is fitted; None
    where it is not."""

    window: Window
    texts: Log
    items: Log
    serving: Release
    announced: ReleaseAnnouncement | None
    place: ReleasePlace
    announce: Callable[[ReleaseAnnouncement], None]
    tell: Callable[[int, int, int], None]
    adapting: Adapting | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """The values a refit runs with; see trainer/settings.py for what they mean. resume_ms: how long ago a run may have
    begun that is gone on with."""

    secret: bytes
    reach: Reach
    resume_ms: int
    least: Least
    blend: BlendSettings | None
    head: HeadSettings | None
    device: str
    folds: int
    warm_up: float
    seed: int
    user_ttl_ms: int
    limits: Limits
    directory: Path


@dataclass(frozen=True, slots=True)
class Refit:
    """What a run came to. whole: the release, accepted or not. made: None where the same window had been refitted
    before, and only what was left of it was done."""

    whole: Whole
    verdict: Verdict
    made: Made | None
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
        resume_ms=options.resume_ms,
        on_progress=lambda done, of: tell(1, done, of),
    )
    name = _name(parts, options)
    if (done := _published(parts.place, name)) is not None:
        discard(options.directory)
        return _announced(parts, done, now, None)
    # 2 prepare
    data = prepare(window, options.least)
    vectors = vectors_of(
        window, data.text_ids, parts.serving.encoder, options.directory, lambda done, of: tell(2, done, of)
    )
    learner = _learner(parts, options, data, vectors)
    # 3 fit
    adapted = Adapted()
    if parts.adapting is not None:
        adapted = adapt(parts.adapting, learner, window, parts.serving.encoder.space, options.limits)
    if adapted.kept is not None:
        learner = replace(learner, adapted=adapted.kept.vectors)
    head = learner.fit_head(~data.reserved)
    blend = learner.fit_blend(None, 0, 1 if head is None else 2)
    turned = None if head is None else learner.fit_blend(head, 1, 2)
    # 4 cross-validate
    validated = learner.cross_validate(options.folds, with_head=head is not None)
    # 5 gate
    tell(5, 0, 1)
    dropped: tuple[str, ...] = ()
    tried = head
    if head is not None:
        told = head_wins(validated, options.limits)
        if told.accepted:
            blend = turned
        else:
            dropped, head, validated = told.reasons, None, without_head(validated)
    first = parts.announced is None
    something = head is not None or blend is not None or adapted.kept is not None
    besides = (
        *checks(validated, something, first=first),
        *fit_to_serve(parts.serving, learner, adapted, head, blend, options.limits),
    )
    verdict = gate(judged(data, validated, first=first), besides, options.limits)
    vectors, own_head = as_served(parts.serving, learner, adapted)
    before = parts.serving.transfer
    made = Made(head, blend, dropped, verdict, validated, tried, data, vectors, own_head, before, adapted)
    tell(5, 1, 1)
    # 6 publish
    tell(6, 0, 1)
    whole = publish(parts.place, *release_of(parts.serving, window, name, now, made))
    discard(options.directory)
    tell(6, 1, 1)
    # 7 announce
    return _announced(parts, whole, now, made)


def _name(parts: Parts, options: Options) -> str:
    """Of the release that this window gives: the same for the same stretch, options and release in service."""
    stretches = {partition: (held.start, held.stop) for partition, held in parts.window.stretches().items()}
    told: list[object] = [
        parts.texts.topic_id(),
        sorted(stretches.items()),
        parts.serving.encoder.space,
        sorted(parts.serving.transfer.items()),
        [parts.serving.manifest.checksums.get(HEAD)],
        str(options.blend),
        str(options.head),
        str(options.limits),
        str(options.least),
        options.folds,
        options.warm_up,
        options.seed,
    ]
    if parts.adapting is not None:
        told += [str(parts.adapting.pretrain), str(parts.adapting.encoder)]
    return f"refit-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"


def _published(place: ReleasePlace, name: str) -> Whole | None:
    if not (place.directory / name).is_dir():
        return None
    whole = fetch(place, name)
    share(place, whole)
    return whole


def _announced(parts: Parts, whole: Whole, now: datetime, made: Made | None) -> Refit:
    verdict = whole.manifest.verdict or Verdict(accepted=False, reasons=("it was never judged",))
    last = parts.announced
    parts.tell(7, 0, 1)
    # What was made before is announced only if nothing was since: an operator may have gone back from it.
    newer = made is not None or last is None or whole.manifest.created_at > last.created_at
    due = verdict.accepted and newer and (last is None or last.release != whole.manifest.name)
    if due:
        parts.announce(announcement(whole, uri(parts.place, whole.manifest.name), last, now))
    parts.tell(7, 1, 1)
    return Refit(whole, verdict, made, due)


def _learner(parts: Parts, options: Options, data: Prepared, vectors: NDArray[np.float16]) -> Learner:
    return Learner(
        data=data,
        vectors=vectors,
        head=parts.serving.head,
        current=TransferWeights.from_dict(parts.serving.transfer),
        blend=options.blend,
        head_settings=options.head,
        user_ttl_ms=options.user_ttl_ms,
        ask_from=int(len(data.user) * options.warm_up),
        seed=options.seed,
        device=options.device,
        directory=options.directory,
        tell=parts.tell,
        taught=parts.serving.manifest.head is not None or parts.serving.manifest.encoder.reference is None,
    )
