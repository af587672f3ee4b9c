"""What a refit's release holds: its manifest and its files, from what the steps came to; and is it fit to be served.

Knows nothing of the log, of what is better, or of where a release goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from model.clean import CLEANING_VERSION
from model.head import Head, HeadWeights, identity, interest
from model.manifest import ENCODER
from model.release import Release, golden
from model.transfer_weights import TransferWeights
from schemas.release import EncoderEntry, HeadEntry, Manifest, Verdict
from schemas.release import Window as Stretch
from trainer.adapt import Adapted, Kept
from trainer.crossval import Validated
from trainer.fit.blend import BlendFit
from trainer.fit.head import HeadFit
from trainer.gate import Check, Limits
from trainer.judge import fitness, metrics
from trainer.learn import Learner, head_weights
from trainer.measure import Answerer, Measured, latency, least_cosine, length_error
from trainer.prepare import Prepared
from trainer.window import Window

REPORT: Final = "report.json"
HEAD: Final = "head.safetensors"
ADAPTED: Final = ", adapted"
"""What the name of an encoder ends with that is no longer as it was shipped."""


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


def as_served(serving: Release, learner: Learner, adapted: Adapted) -> tuple[NDArray[np.float16], Head]:
    """The window's vectors of the release's encoder, and the head that it has without a learned one."""
    kept = adapted.kept
    return (learner.vectors, serving.head) if kept is None else (kept.vectors, identity)


def fit_to_serve(
    serving: Release,
    learner: Learner,
    adapted: Adapted,
    head: HeadFit | None,
    blend: BlendFit | None,
    limits: Limits,
) -> tuple[Check, ...]:
    """What a candidate must be besides good: golden vectors, latency beside the release in service, size."""
    kept = adapted.kept
    vectors, own_head = as_served(serving, learner, adapted)
    weights = (serving.head_weights if kept is None else None) if head is None else head_weights(head)
    current = Answerer(serving.head, TransferWeights.from_dict(serving.transfer))
    candidate = Answerer(
        own_head if head is None else partial(interest, head_weights(head)),
        current.weights if blend is None else blend.weights,
    )
    found = golden(serving.encoder if kept is None else kept.encoder, candidate.head)
    # Another encoder gives other vectors; it must give the same ones again.
    wanted = serving.manifest.golden if kept is None else golden(kept.encoder, candidate.head)
    seconds, ratio = latency(learner.data, vectors, candidate, current)
    measured = Measured(
        golden_cosine=least_cosine(found, wanted),
        golden_length=length_error(found),
        latency=seconds,
        latency_ratio=ratio,
        bytes=_size(weights, _own_encoder(serving, kept)),
    )
    return fitness(measured, limits)


def _own_encoder(serving: Release, kept: Kept | None) -> dict[str, Path]:
    """The files of an encoder that is the release's own, by their names in it; none where it refers to one."""
    if kept is not None:
        return {f"{ENCODER}/{file}": kept.files.directory / file for file in kept.files.checksums}
    entry = serving.manifest.encoder
    return {} if entry.reference else {f"{ENCODER}/{file}": serving.path / ENCODER / file for file in entry.files}


def _size(weights: HeadWeights | None, own_encoder: Mapping[str, Path]) -> int:
    """Bytes of a head's weights and of an encoder of the release's own."""
    tensors = () if weights is None else weights.tensors().values()
    return sum(values.nbytes for values in tensors) + sum(file.stat().st_size for file in own_encoder.values())


def release_of(
    serving: Release, window: Window, name: str, now: datetime, made: Made
) -> tuple[Manifest, dict[str, bytes | Path]]:
    """The manifest and the other files. A head in service that stays goes with it, unless the encoder changes."""
    data, kept = made.data, made.adapted.kept
    encoder = serving.encoder if kept is None else kept.encoder
    stays = made.head is None and kept is None
    weights = serving.head_weights if stays else None if made.head is None else head_weights(made.head)
    labels = serving.manifest.labels if stays else data.label_names
    tensors = {} if weights is None else weights.tensors()
    files: dict[str, bytes | Path] = {REPORT: _report(made)}
    files |= _own_encoder(serving, kept)
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
        window=_stretch(window, data),
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


def _report(made: Made) -> bytes:
    """For machines; holds no text and no user."""
    found = {
        "window": made.data.counts,
        "blend": None if made.blend is None else made.blend.report(),
        "head": None if made.head is None else made.head.report(),
        "head dropped": made.dropped,
        "encoder": {**made.adapted.fits, "contest": made.adapted.numbers, "dropped": made.adapted.dropped},
        "metrics": metrics(made.validated),
        "verdict": made.verdict.model_dump(mode="json"),
    }
    return json.dumps(found, indent=2, ensure_ascii=False).encode()
