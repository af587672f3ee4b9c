"""One refit, from the log to the announcement, in seven steps.

    1 window          what the log held between recorded offsets, on the disk
    2 prepare         as arrays, without repeats, with each text's vector
    3 fit             head and blend, on all past newcomers; before them, where asked for, the encoder
    4 cross-validate  the same fit without a fold's users, who are then asked after as newcomers
    5 gate            accept, or reject with every reason
    6 publish         a directory, whole or not there
    7 announce        what is accepted; workers exchange it between two batches

A run that was killed is started again: the window goes on where it stopped, and the same window gives the same release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from model.clean import CLEANING_VERSION
from model.fetch import Whole, fetch
from model.head import Head, HeadWeights, identity, interest
from model.manifest import ENCODER
from model.release import Release, golden
from model.transfer_weights import TransferWeights
from schemas.announcement import ReleaseAnnouncement
from schemas.release import EncoderEntry, HeadEntry, Manifest, Verdict
from schemas.release import Window as Stretch
from schemas.settings import ReleasePlace
from trainer.adapt import Adapted, Adapting, Kept, adapt, discard
from trainer.announce import announcement
from trainer.crossval import Validated
from trainer.fit.blend import BlendFit, BlendSettings
from trainer.fit.head import HeadFit, HeadSettings
from trainer.gate import Check, Limits, gate
from trainer.judge import checks, fitness, head_wins, judged, metrics, without_head
from trainer.learn import Learner, head_weights
from trainer.measure import Answerer, Measured, latency_ratio, least_cosine, length_error
from trainer.prepare import Least, Prepared, prepare
from trainer.publish import publish, share, uri
from trainer.read import Log, Reach, read_window
from trainer.vectors import vectors_of
from trainer.window import Window

REPORT: Final = "report.json"
HEAD: Final = "head.safetensors"
ADAPTED: Final = ", adapted"
"""What the name of an encoder ends with that is no longer as it was shipped."""
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
    """The values a refit runs with; see trainer/settings.py for what they mean."""

    secret: bytes
    reach: Reach
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


@dataclass(frozen=True, slots=True)
class Made:
    """What steps 3 to 5 came to. head: learned, None for the one in service. blend: None where the current weights
    stay. dropped: why a learned head was not worth having; tried: that head, or the one that was kept. data, vectors:
    the window, as the release sees it. serving_head: without a learned one. before: transfer weights in service.
    adapted: what came of fitting the encoder."""

    head: HeadFit | None
    blend: BlendFit | None
    dropped: tuple[str, ...]
    verdict: Verdict
    validated: Validated
    tried: HeadFit | None
    data: Prepared
    vectors: NDArray[np.float16]
    serving_head: Head
    before: Mapping[str, float]
    adapted: Adapted


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
        adapted = adapt(parts.adapting, learner, window, parts.serving.encoder.space, options.limits, options.folds)
    if adapted.kept is not None:
        learner = replace(learner, adapted=adapted.kept.vectors)
    head = learner.fit_head(np.ones(data.users, np.bool_))
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
        *_fit_to_serve(parts, options, learner, adapted, head, blend),
    )
    verdict = gate(judged(data, validated, first=first), besides, options.limits)
    vectors, own_head = _as_served(parts, learner, adapted)
    before = parts.serving.transfer
    made = Made(head, blend, dropped, verdict, validated, tried, data, vectors, own_head, before, adapted)
    tell(5, 1, 1)
    # 6 publish
    tell(6, 0, 1)
    whole = publish(parts.place, *_release(parts, name, now, data, made))
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
    due = verdict.accepted and (last is None or last.release != whole.manifest.name)
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
    )


def _as_served(parts: Parts, learner: Learner, adapted: Adapted) -> tuple[NDArray[np.float16], Head]:
    """The window's vectors of the release's encoder, and the head that it has without a learned one."""
    kept = adapted.kept
    return (learner.vectors, parts.serving.head) if kept is None else (kept.vectors, identity)


def _fit_to_serve(
    parts: Parts,
    options: Options,
    learner: Learner,
    adapted: Adapted,
    head: HeadFit | None,
    blend: BlendFit | None,
) -> tuple[Check, ...]:
    serving, kept = parts.serving, adapted.kept
    vectors, own_head = _as_served(parts, learner, adapted)
    weights = (serving.head_weights if kept is None else None) if head is None else head_weights(head)
    current = Answerer(serving.head, TransferWeights.from_dict(serving.transfer))
    candidate = Answerer(
        own_head if head is None else partial(interest, head_weights(head)),
        current.weights if blend is None else blend.weights,
    )
    found = golden(serving.encoder if kept is None else kept.encoder, candidate.head)
    # Another encoder gives other vectors; it must give the same ones again.
    wanted = serving.manifest.golden if kept is None else golden(kept.encoder, candidate.head)
    measured = Measured(
        golden_cosine=least_cosine(found, wanted),
        golden_length=length_error(found),
        latency_ratio=latency_ratio(learner.data, vectors, candidate, current),
        bytes=_size(weights, kept),
    )
    return fitness(measured, options.limits)


def _size(weights: HeadWeights | None, kept: Kept | None) -> int:
    """Bytes of a head's weights and of an encoder of the release's own."""
    own = () if kept is None else [kept.files.directory / file for file in kept.files.checksums]
    tensors = () if weights is None else weights.tensors().values()
    return sum(values.nbytes for values in tensors) + sum(file.stat().st_size for file in own)


def _release(
    parts: Parts, name: str, now: datetime, data: Prepared, made: Made
) -> tuple[Manifest, dict[str, bytes | Path]]:
    """The manifest and the other files. A head in service that stays goes with it, unless the encoder changes."""
    serving, kept = parts.serving, made.adapted.kept
    encoder = serving.encoder if kept is None else kept.encoder
    stays = made.head is None and kept is None
    weights = serving.head_weights if stays else None if made.head is None else head_weights(made.head)
    labels = serving.manifest.labels if stays else data.label_names
    tensors = {} if weights is None else weights.tensors()
    files: dict[str, bytes | Path] = {REPORT: _report(data, made)}
    if kept is not None or serving.manifest.encoder.reference is None:
        own = serving.path / ENCODER if kept is None else kept.files.directory
        checksums = serving.manifest.encoder.files if kept is None else kept.files.checksums
        files |= {f"{ENCODER}/{file}": own / file for file in checksums}
    entry = None
    if weights is not None:
        files[HEAD] = save(tensors)
        entry = HeadEntry(file=HEAD, shapes={key: values.shape for key, values in tensors.items()})
    manifest = Manifest(
        name=name,
        created_at=now,
        space=encoder.space,
        encoder=serving.manifest.encoder if kept is None else _entry(serving, kept),
        head=entry,
        transfer=dict(serving.transfer) if made.blend is None else made.blend.weights.to_dict(),
        labels=labels if "labels.weight" in tensors else (),
        golden=golden(encoder, identity if weights is None else partial(interest, weights)),
        window=_stretch(parts.window, data),
        metrics=metrics(made.validated),
        verdict=made.verdict,
    )
    return manifest, files


def _entry(serving: Release, kept: Kept) -> EncoderEntry:
    """An encoder whose files are in the release."""
    return EncoderEntry(
        name=f"{serving.manifest.encoder.name.removesuffix(ADAPTED)}{ADAPTED}",
        dimension=kept.encoder.dimension,
        max_tokens=kept.encoder.max_tokens,
        pooling=kept.files.pooling,
        cleaning=CLEANING_VERSION,
        files=dict(kept.files.checksums),
    )


def _stretch(window: Window, data: Prepared) -> Stretch:
    held = window.stretches()
    return Stretch(
        start={str(partition): stretch.start for partition, stretch in held.items()},
        end={str(partition): stretch.stop for partition, stretch in held.items()},
        events=len(data.user),
        users=data.users,
    )


def _report(data: Prepared, made: Made) -> bytes:
    """For machines; holds no text and no user."""
    found = {
        "window": data.counts,
        "blend": None if made.blend is None else made.blend.report(),
        "head": None if made.head is None else made.head.report(),
        "head dropped": made.dropped,
        "encoder": {**made.adapted.fits, "contest": made.adapted.numbers, "dropped": made.adapted.dropped},
        "metrics": metrics(made.validated),
        "verdict": made.verdict.model_dump(mode="json"),
    }
    return json.dumps(found, indent=2, ensure_ascii=False).encode()
