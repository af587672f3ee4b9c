"""The release directory: loaded only when everything about it is right; and the built-in release.

A release with an encoder as shipped refers to it by name and holds its space and the checksums of its files; one with
an encoder of its own has the files in `encoder/`. Nothing is ever unpickled. Which release is to be served, and what a
refused one means for a running worker, is decided elsewhere; `model/write.py` writes directories.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from model.clean import CLEANING_VERSION, clean
from model.encoder.base import Encoder, Vectors
from model.encoder.files import EncoderFiles, read_files
from model.encoder.load import encoder_files, load_encoder
from model.errors import EncoderError, Refusal, ReleaseRefused
from model.head import Head, HeadWeights, identity, interest, read_head
from model.manifest import AGAIN, ENCODER, check_files, read_manifest
from model.write import write_directory
from schemas.codec import encode_manifest
from schemas.release import EncoderEntry, Golden, Manifest, Verdict

BUILTIN: Final = "builtin-"
"""What the name of every built-in release begins with, and of no other."""
MIN_COSINE: Final = 0.999
MAX_DIFFERENCE: Final = 1e-4
"""Of a number in a golden interest vector: heads are computed in float32 everywhere, from the vectors as written."""
GOLDEN_TEXTS: Final = (
    "How long should I let the dough rest before baking bread?",
    "The proof uses induction on the number of vertices of the graph.",
    "周末想找一部关于宇宙的纪录片，大家有什么推荐吗？",
    "这道菜要先把蒜炒香，再放青菜。",
    "Welche Wanderung in den Alpen eignet sich für Kinder?",
    "¿Qué guitarra recomiendan para empezar a tocar flamenco?",
    "初心者におすすめの一眼レフカメラを教えてください。",
    "Как правильно ухаживать за орхидеями зимой?",
    "ما هي أفضل طريقة لتعلم العزف على العود؟",
    "great goal tonight ⚽🔥",
)

Load = Callable[[str], Encoder]
"""A name or directory → a running encoder."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that may be served. sha256: of its manifest file. transfer: weights of the blend by name.
    head_weights: of a learned head, also for label scores (model/head.py), whose names are manifest.labels."""

    path: Path
    manifest: Manifest
    sha256: str
    encoder: Encoder
    head: Head
    transfer: Mapping[str, float]
    head_weights: HeadWeights | None = None


def write_builtin(
    releases: Path,
    encoder: Encoder | str,
    transfer: Mapping[str, float],
    *,
    now: datetime,
    cache: Path,
    device: str = "auto",
    backend: str = "auto",
) -> Path:
    """The directory of the built-in release: encoder as shipped, identity head, default transfer weights.

    Written when it is not there yet; any number of processes may start at once. An encoder that already runs may be
    given in place of its name. Raises EncoderError, and ReleaseUnwritten when the disk is full.
    """
    name = encoder if isinstance(encoder, str) else encoder.name
    files = encoder_files(name, cache=cache)
    space = files.space if files else _running(encoder, cache, device, backend).space
    weights = json.dumps(dict(transfer), sort_keys=True).encode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name).strip("-.")[:40]
    path = releases / f"{BUILTIN}{slug}-{space[:8]}-{hashlib.sha256(weights).hexdigest()[:6]}"
    write_directory(
        path,
        lambda _: encode_manifest(_builtin(path.name, _running(encoder, cache, device, backend), files, transfer, now)),
    )
    return path


def load_release(
    path: Path,
    *,
    cache: Path,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    running: Encoder | None = None,
) -> Release:
    """A release, verified: format, checksums, shapes, space, and the golden texts at cosine ≥ .999.

    running: an encoder in service, which is taken over when the release is of its space and its files are the same.

    Raises ReleaseRefused, whatever is wrong with the directory.
    """
    data, manifest = read_manifest(path)
    check_files(path, manifest)
    weights = None
    if manifest.head is not None:
        dimension, labels = manifest.encoder.dimension, len(manifest.labels)
        weights = read_head(path / manifest.head.file, manifest.head, dimension=dimension, labels=labels)

    def load(name: str) -> Encoder:
        if running is not None and running.space == manifest.space:
            return running
        return load_encoder(name, device=device, backend=backend, cache=cache, threads=threads)

    encoder = _encoder(path, manifest, cache, load)
    _check_golden(manifest, encoder)
    head = identity if weights is None else partial(interest, weights)
    _check_golden_interests(manifest, head)
    return Release(
        path=path,
        manifest=manifest,
        sha256=hashlib.sha256(data).hexdigest(),
        encoder=encoder,
        head=head,
        transfer=manifest.transfer,
        head_weights=weights,
    )


def golden(encoder: Encoder, head: Head = identity) -> tuple[Golden, ...]:
    """The fixed sentences with this encoder's vectors, and for a learned head with what it makes of them."""
    vectors = np.round(_encode(encoder, GOLDEN_TEXTS), 7)
    interests = [None] * len(vectors) if head is identity else [_numbers(row) for row in head(vectors)]
    return tuple(
        Golden(text=text, vector=_numbers(row), interest=told)
        for text, row, told in zip(GOLDEN_TEXTS, vectors, interests, strict=True)
    )


def release_encoder_files(path: Path, manifest: Manifest, cache: Path) -> EncoderFiles | None:
    """Those of the encoder of the release in `path`, its own or what it refers to; None for one without files. Raises
    EncoderError."""
    reference = manifest.encoder.reference
    return encoder_files(reference, cache=cache) if reference else read_files(path / ENCODER)


def _numbers(row: Vectors) -> tuple[float, ...]:
    return tuple(round(float(value), 7) for value in row)


def _running(encoder: Encoder | str, cache: Path, device: str, backend: str) -> Encoder:
    return load_encoder(encoder, device=device, backend=backend, cache=cache) if isinstance(encoder, str) else encoder


def _builtin(
    name: str, encoder: Encoder, files: EncoderFiles | None, transfer: Mapping[str, float], now: datetime
) -> Manifest:
    directory = Path(encoder.name)
    return Manifest(
        name=name,
        created_at=now,
        space=encoder.space,
        encoder=EncoderEntry(
            name=encoder.name,
            dimension=encoder.dimension,
            max_tokens=encoder.max_tokens,
            pooling=files.pooling if files else "sum",
            cleaning=CLEANING_VERSION,
            reference=str(directory.resolve()) if directory.is_dir() else encoder.name,
            files=dict(files.checksums) if files else {},
        ),
        transfer=dict(transfer),
        golden=golden(encoder),
        verdict=Verdict(accepted=True, reasons=("built in: the encoder as shipped and the default transfer weights",)),
    )


def _encoder(path: Path, manifest: Manifest, cache: Path, load: Load) -> Encoder:
    entry = manifest.encoder
    where = entry.reference or str(path / ENCODER)
    try:
        files = release_encoder_files(path, manifest, cache)
        found = files.checksums if files else {}
        for name in sorted({*found, *entry.files}):
            if found.get(name) != entry.files.get(name):
                raise ReleaseRefused(
                    Refusal.CHECKSUM,
                    f"{name} of the encoder {where} is not the file that the release was made with",
                    "install that version of the encoder, or publish a release with this one",
                )
        encoder = load(where)
    except EncoderError as error:
        raise ReleaseRefused(Refusal.ENCODER, str(error), "the release cannot be served on this machine") from error
    if (encoder.dimension, encoder.max_tokens) != (entry.dimension, entry.max_tokens):
        raise ReleaseRefused(
            Refusal.SHAPE,
            f"the encoder has {encoder.dimension} dimensions and {encoder.max_tokens} tokens, the manifest says "
            f"{entry.dimension} and {entry.max_tokens}",
            AGAIN,
        )
    if encoder.space != manifest.space:
        raise ReleaseRefused(
            Refusal.SPACE,
            f"its space is {manifest.space} (text cleaning {entry.cleaning}), this program's encoder gives "
            f"{encoder.space} (text cleaning {CLEANING_VERSION})",
            "publish a release with this version",
        )
    return encoder


def _check_golden(manifest: Manifest, encoder: Encoder) -> None:
    if not manifest.golden:
        raise ReleaseRefused(Refusal.GOLDEN, "the manifest has no golden texts", AGAIN)
    if wrong := [len(entry.vector) for entry in manifest.golden if len(entry.vector) != encoder.dimension]:
        raise ReleaseRefused(
            Refusal.SHAPE, f"a golden vector has {wrong[0]} dimensions, the encoder {encoder.dimension}", AGAIN
        )
    expected = np.array([entry.vector for entry in manifest.golden], np.float32)
    vectors = _encode(encoder, [entry.text for entry in manifest.golden])
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(vectors, axis=1)
    products = (expected * vectors).sum(axis=1)
    # Rows of zeros, which damaged weights give as well, count as wrong.
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    least = float(cosines.min())
    if not least >= MIN_COSINE:
        raise ReleaseRefused(
            Refusal.GOLDEN,
            f"the encoder ({encoder.backend}) gives another vector for golden text {int(cosines.argmin())}: cosine "
            f"{least:.4f}, at least {MIN_COSINE} is asked for",
            "try KINDRED_BACKEND=torch; if that is refused too, publish the release again",
        )


def _check_golden_interests(manifest: Manifest, head: Head) -> None:
    told = [entry.interest for entry in manifest.golden]
    if head is identity and not any(told):
        return
    found = head(np.array([entry.vector for entry in manifest.golden], np.float32))
    if any(each is None or len(each) != found.shape[1] for each in told):
        raise ReleaseRefused(
            Refusal.GOLDEN, f"not every golden text has {found.shape[1]} numbers that the head gives for it", AGAIN
        )
    most = float(np.abs(found - np.array(told, np.float32)).max())
    if not most <= MAX_DIFFERENCE:
        raise ReleaseRefused(
            Refusal.GOLDEN,
            f"the head gives another interest vector for a golden text: a number differs by {most:.4f}, at most "
            f"{MAX_DIFFERENCE} is allowed",
            AGAIN,
        )


def _encode(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    return encoder.encode(encoder.tokenise([clean(text) for text in texts]))
