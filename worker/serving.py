"""A release as newcomers are answered with it, and the checks before one may be: the announced one, or at a worker's
start the last one of its group, or the built-in one.

Knows nothing of Kafka, Redis, or of a worker that runs; `worker/swap.py` follows the announcements.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from model.encoder.base import Encoder, Tokens, Vectors
from model.errors import ModelError, Refusal, ReleaseRefused, ReleasesUnreachable, ReleaseUnwritten
from model.fetch import fetch, name_under
from model.head import Head
from model.index import Index
from model.manifest import AGAIN
from model.release import Release
from model.transfer_weights import TransferWeights, TransferWeightsError
from schemas.announcement import ReleaseAnnouncement
from schemas.settings import ReleasePlace
from worker.answer import Question, answer

log = logging.getLogger(__name__)

Answer = Callable[[Sequence[Question], Index], list[dict[str, Any]]]
"""Questions → recommendations (plain dicts of that shape), from the index."""
Load = Callable[[Path], Release]
"""A release directory → the release, verified. Raises ReleaseRefused."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a batch is answered with, whole: one takes the place of another between two batches.

    release: its name. path: its directory. sha256: of its manifest. head_sha256: of the head's file, None for the
    identity. answer: names the release in every recommendation.
    """

    release: str
    path: Path
    sha256: str
    space: str
    backend: str
    head: Head
    head_sha256: str | None
    answer: Answer


def serving(release: Release, *, limit: int) -> Serving:
    """limit: items of a recommendation. Raises ReleaseRefused: weights that cannot be used."""
    manifest, encoder = release.manifest, release.encoder
    try:
        weights = TransferWeights.from_dict(release.transfer)
    except TransferWeightsError as error:
        raise ReleaseRefused(Refusal.BAD_MANIFEST, str(error), AGAIN) from error
    return Serving(
        release=manifest.name,
        path=release.path,
        sha256=release.sha256,
        space=encoder.space,
        backend=encoder.backend,
        head=release.head,
        head_sha256=manifest.checksums[manifest.head.file] if manifest.head else None,
        answer=partial(answer, weights=weights, release=manifest.name, space=encoder.space, limit=limit),
    )


def load_served(path: Path, *, load: Load, limit: int) -> tuple[Encoder, Serving]:
    """Raises ReleaseRefused."""
    try:
        release = load(path)
    except OSError as error:
        raise ReleaseRefused(Refusal.MISSING_FILE, f"{path} cannot be read ({error.strerror})", AGAIN) from error
    return release.encoder, serving(release, limit=limit)


def load_announced(
    announced: ReleaseAnnouncement, *, place: ReleasePlace, load: Load, limit: int
) -> tuple[Encoder, Serving]:
    """The announced release, if it lies in `place` and is what was announced. Raises ReleaseRefused."""
    try:
        whole = fetch(place, name_under(place, _path(announced.uri)), announced.sha256)
    except (ReleasesUnreachable, ReleaseUnwritten) as error:
        raise ReleaseRefused(
            Refusal.UNREACHABLE, str(error), "mend that, then announce it again or restart the workers"
        ) from error
    if announced.space != whole.manifest.space:
        raise ReleaseRefused(
            Refusal.SPACE,
            f"its space is {whole.manifest.space}, the announcement says {announced.space}",
            "announce it again with `kindred model promote`",
        )
    if announced.verdict == "reject":
        log.warning("the release %s was judged to be rejected and is announced all the same", announced.release)
    return load_served(whole.path, load=load, limit=limit)


def first_release(
    announced: ReleaseAnnouncement | None,
    *,
    load_announced: Callable[[ReleaseAnnouncement], tuple[Encoder, Serving]],
    load: Callable[[Path], tuple[Encoder, Serving]],
    last: Callable[[], Path | None],
    space_of: Callable[[Path], str],
    reached: Callable[[str], int],
    builtin: Callable[[], Path],
    on_refused: Callable[[str, ReleaseRefused], None],
) -> tuple[Encoder, Serving, ReleaseAnnouncement | None]:
    """What a worker that starts serves: the announced release; where it is refused the last one that the group served,
    then the built-in one; without an announcement the built-in one, then the last one.

    Where the last one is of another space than the announced one, and that space is further, the worker begins with the
    last one and is given the announcement back: it fills the other space while it answers.

    last: where that lies, None where there is none. space_of: a release directory's. reached: how far in the log a
    space's states are, over all partitions. builtin: where that lies, written
    if need be. on_refused: told the announced release's name. Raises ReleaseRefused when all are refused, the last one.
    """

    def load_last() -> tuple[Encoder, Serving] | None:
        path = last()
        if path is None:
            return None
        found = load(path)
        log.error("serving %s, the last release of this group, instead", path)
        return found

    if announced is not None:
        try:
            path = last()
            if path is not None and (space := space_of(path)) != announced.space:
                if reached(space) > reached(announced.space):
                    return *load(path), announced
                log.info("space %s is behind the announced one: this worker begins with what is announced", space[:12])
        except (ModelError, OSError) as error:
            log.info("the last release of this group is not what this worker begins with: %s", error)
        try:
            return *load_announced(announced), None
        except ReleaseRefused as refused:
            on_refused(announced.release, refused)
        try:
            found = load_last()
        except ReleaseRefused as refused:
            log.error("the last release of this group is not served either: %s", refused)
            found = None
        return *(found or load(builtin())), None
    path = builtin()
    try:
        return *load(path), None
    except ReleaseRefused as refused:
        log.error("%s", refused)
        found = load_last()
        if found is None:
            raise
        return *found, None


class Shared:
    """An encoder in service, for another thread than the one that encodes batches: it computes one thing at a time."""

    def __init__(self, encoder: Encoder, lock: threading.Lock) -> None:
        self.name = encoder.name
        self.space = encoder.space
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens
        self.backend = encoder.backend
        self.counters = encoder.counters
        self._encoder = encoder
        self._lock = lock

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        return self._encoder.tokenise(texts)

    def encode(self, tokens: Tokens) -> Vectors:
        with self._lock:
            return self._encoder.encode(tokens)


def _path(uri: str) -> str:
    """A file:// URL as its path, anything else as it is."""
    url = urlsplit(uri)
    return unquote(url.path) if url.scheme == "file" else uri
