"""What a refit came to, made up in milliseconds, for whatever shows it to people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.encoder.dummy import DummyEncoder
from model.fetch import Whole
from model.head import identity
from model.nearest import Floats
from model.transfer_weights import TransferWeights
from schemas.release import EncoderEntry, Manifest, Verdict
from schemas.release import Window as Stretch
from tests.communities import write_community
from tests.windows import MemoryLog, fill
from trainer.adapt import Adapted
from trainer.crossval import Scored, Validated
from trainer.fit.blend import BlendEpoch, BlendFit
from trainer.fit.head import Epoch, HeadFit
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN, Limits
from trainer.page.write import Run
from trainer.prepare import Least, Prepared, prepare
from trainer.recipe import STEPS, Refit
from trainer.release import Made
from trainer.scores import HIT, LABEL, NDCG, RECALL
from trainer.vectors import vectors_of
from trainer.window import Window

DIMENSION: Final = 64
HOSTILE: Final = ("<script>alert(1)</script>", "烹饪", "$x^{", '"&\n\x00', "camera")
"""Labels that somebody might send, as many as a community has."""
WEIGHTS: Final = TransferWeights.default()


def scored(count: int, metrics: tuple[str, ...], names: tuple[str, ...], seed: int = 0) -> Scored:
    draw = np.random.default_rng(seed)

    def hits(rate: float) -> Floats:
        return (draw.random(count) < rate).astype(np.float32)

    scores = {metric: {name: hits(0.5 - 0.05 * at) for at, name in enumerate(names)} for metric in metrics}
    user = np.arange(count) // 3
    confidence: dict[str, Floats] = {}
    if metrics != (LABEL,):
        confidence[CANDIDATE] = draw.random(count).astype(np.float32)
    return Scored(
        fold=user % 3,
        user=user.astype(np.int32),
        known=(np.arange(count) % 3 + 1).astype(np.int32),
        event=np.arange(count),
        reachable=np.ones(count, np.bool_),
        scores=scores,
        confidence=confidence,
    )


def validated(questions: int = 240, labelled: int = 180) -> Validated:
    items = (CANDIDATE, CURRENT, RAW_KNN, "cooccurrence", "popularity", "decayed_popularity")
    return Validated(
        scored(questions, (HIT, RECALL, NDCG), items), scored(labelled, (LABEL,), (CANDIDATE, CURRENT, RAW_KNN))
    )


def head_fit() -> HeadFit:
    draw = np.random.default_rng(0)
    shapes = {"up.weight": (4, DIMENSION), "up.bias": (4,), "down.weight": (DIMENSION, 4), "down.bias": (DIMENSION,)}
    tensors = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    epochs = (Epoch(0, None, None, 0.5, 0.4), Epoch(1, 1.2, 3.0, 0.6, 0.5), Epoch(2, 1.0, 2.9, 0.55, 0.5))
    return HeadFit(tensors, epochs, "label accuracy of neighbours", 1, "no better epoch in 1", 2.5)


def blend_fit() -> BlendFit:
    return BlendFit(WEIGHTS, (BlendEpoch(0, None, 2.0), BlendEpoch(1, 1.9, 1.8), BlendEpoch(2, 1.7, 1.9)), 1, 200)


def window(directory: Path) -> tuple[Prepared, Any]:
    """A small community's events, with labels that are to be shown as they are."""
    log = MemoryLog(cut=500)
    write_community(log, 40)
    with Window(directory / "window.sqlite") as opened:
        fill(opened, log)
        data = prepare(opened, Least(1, 1, 1))
        return replace(data, label_names=HOSTILE), vectors_of(opened, data.text_ids, DummyEncoder(), directory)


def run(directory: Path, **changes: Any) -> Run:
    """An accepted release with head and blend. changes: of what the steps came to."""
    data, vectors = window(directory)
    verdict = Verdict(
        accepted=True,
        reasons=("a gain beyond chance in ndcg@10 against current: +0.0500 (+0.0200 to +0.0800)",),
        numbers={
            "ndcg@10.candidate": 0.5,
            "ndcg@10.current": 0.45,
            "gain.mean": 0.05,
            "gain.low": 0.02,
            "gain.high": 0.08,
            "golden.cosine": 1.0,
            "golden.length": 1e-7,
            "latency.ratio": 1.21,
            "size.bytes": 123_456.0,
        },
    )
    made = Made(
        head=head_fit(),
        blend=blend_fit(),
        dropped=(),
        verdict=verdict,
        validated=validated(),
        tried=head_fit(),
        data=data,
        vectors=vectors,
        serving_head=identity,
        before=WEIGHTS.to_dict(),
        adapted=Adapted(),
    )
    made = replace(made, **changes)
    manifest = Manifest(
        name="refit-0123456789ab",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        space="s",
        encoder=EncoderEntry(name="dummy", dimension=DIMENSION, max_tokens=32, pooling="sum", cleaning=1),
        transfer=WEIGHTS.to_dict(),
        window=Stretch(start={"0": 0, "10": 7}, end={"0": 100, "10": 1_007}, events=160, users=40),
        verdict=made.verdict,
    )
    whole = Whole(path=directory, manifest=manifest, sha256="0" * 64)
    seconds = {step: 1.5 + number for number, step in enumerate(STEPS)}
    peaks = {step: (number + 1) * 10**8 for number, step in enumerate(STEPS)}
    return Run(Refit(whole, made.verdict, made, announced=made.verdict.accepted), seconds, peaks, Limits())
