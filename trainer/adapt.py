"""How step 3 begins where the encoder itself is fitted: adapted, then compared with the one in service on one hold-out.

    pretrain   hidden tokens of the window's texts
    encoder    labels, texts of one user, texts and titles
    contest    newcomers whose texts neither has seen: are their labels told better, and their items found no worse?

The hold-out are the reserved users (folds.py): of them nothing is learned, be it to know when to stop. An encoder that
does not win is dropped, with its reasons, and the rest of the release is fitted as if there had been none.
docs/decisions/adapted-encoders.md says why there is one hold-out and not folds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import Encoder
from model.encoder.files import EncoderFiles, write_files
from model.nearest import MISSING
from model.tokenise import Tokeniser
from trainer.fit.encoder import EncoderSettings, neighbours_of
from trainer.fit.errors import NothingToFit
from trainer.fit.jobs import Job, fit_together
from trainer.fit.pretrain import PretrainSettings
from trainer.fit.rounds import Round
from trainer.fit.texts import Written
from trainer.gate import CURRENT, Limits
from trainer.judge import part_wins
from trainer.learn import STOPPING, Learner
from trainer.prepare import Prepared
from trainer.vectors import PIECE, keep_spaces, vectors_of
from trainer.window import Window

DIRECTORY: Final = "adapted"
"""Inside the trainer's directory: checkpoints, and encoders on their way; see `discard`."""


@dataclass(frozen=True, slots=True)
class Adapting:
    """files: of the encoder in service; None for one that has none. load: a directory → its encoder, running. pretrain,
    encoder: None for what is not fitted."""

    files: EncoderFiles | None
    load: Callable[[Path], Encoder]
    pretrain: PretrainSettings | None
    encoder: EncoderSettings | None


@dataclass(frozen=True, slots=True)
class Kept:
    """An encoder that won, and the (T, D) vectors of the window's texts in its space."""

    encoder: Encoder
    files: EncoderFiles
    vectors: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Adapted:
    """kept: None where the encoder in service stays. fits: part → its report. dropped: why not. numbers: of the contest
    with the encoder in service."""

    kept: Kept | None = None
    fits: dict[str, object] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)


def adapt(adapting: Adapting, learner: Learner, window: Window, space: str, limits: Limits) -> Adapted:
    """The encoder in service as the window's users but the hold-out make it, if those of the hold-out gain by it.

    space: of the encoder in service. A run that was killed goes on after its
    last whole round. Raises EncoderError's kin, and OSError where the disk takes no more.
    """
    if adapting.files is None:
        return Adapted(dropped=("the encoder in service has no weights that could be adapted",))
    files, fits, dropped = _fitted(adapting, adapting.files, learner, window)
    if files.space == space:
        return Adapted(fits=fits, dropped=dropped)
    encoder = adapting.load(files.directory)
    vectors = vectors_of(
        window, learner.data.text_ids, encoder, learner.directory, lambda done, of: learner.tell(3, done, of)
    )
    told = part_wins(learner.contest(vectors), limits, CURRENT)
    kept = Kept(encoder, files, vectors) if told.accepted else None
    keep_spaces(window, {space} if kept is None else {space, encoder.space})
    return Adapted(kept, fits, dropped if told.accepted else (*dropped, *told.reasons), told.numbers)


def discard(directory: Path) -> None:
    """Checkpoints and encoders in the trainer's directory, once the release is published."""
    shutil.rmtree(directory / DIRECTORY, ignore_errors=True)


def written(window: Window, data: Prepared, files: EncoderFiles, learners: NDArray[np.bool_]) -> Written:
    """What (U,) users wrote, as tokens. A title that stands in the text itself teaches nothing, and is left out."""
    tokenise = Tokeniser(files.tokenizer, max_tokens=files.max_tokens, lowercase=files.lowercase)
    ids: list[NDArray[np.int32]] = []
    for start in range(0, len(data.text_ids), PIECE):
        ids += tokenise(window.texts(data.text_ids[start : start + PIECE].tolist())).ids
    there = np.array([len(row) > 0 for row in ids], np.bool_)
    rows = np.flatnonzero(learners[data.user] & (data.text != MISSING))
    rows = rows[there[data.text[rows]]]
    text, item = data.text[rows], data.item[rows]
    title = np.where(item != MISSING, data.title[item], MISSING) if len(data.title) else np.full(len(rows), MISSING)
    inside = [t == MISSING or not there[t] or _stands_in(ids[t], ids[at]) for t, at in zip(title, text, strict=True)]
    title[np.array(inside, np.bool_)] = MISSING
    return Written(ids, data.user[rows], text, title.astype(np.int32), data.labels[rows], len(data.label_names))


def _fitted(
    adapting: Adapting, files: EncoderFiles, learner: Learner, window: Window
) -> tuple[EncoderFiles, dict[str, object], tuple[str, ...]]:
    """The files of the encoder that the fits come to, their reports, and why one came to nothing."""
    texts = written(window, learner.data, files, ~learner.data.reserved)
    stopping = np.random.default_rng(learner.seed).random(learner.data.users) < STOPPING
    home = learner.directory / DIRECTORY

    def told(each: Round) -> None:
        learner.tell(3, each.steps, each.of)

    reports: dict[str, object] = {}
    dropped: list[str] = []
    for name, settings in (("pretrain", adapting.pretrain), ("encoder", adapting.encoder)):
        if settings is None:
            continue
        job = Job(settings, files, texts, stopping, learner.seed, learner.device, home / name)
        try:
            found = fit_together(job, told)
        except NothingToFit as error:
            dropped.append(f"{name}: {error}")
            continue
        reports[name] = found.report()
        if not found.chosen:
            dropped.append(f"{name}: {found.measured} was best before the first step")
            continue
        made = write_files(files, found.weights(), home / f"{name}-files")
        if name == "pretrain" and (why := _spoiled(files, made, texts, stopping, learner)) is not None:
            dropped.append(f"{name}: {why}")
            continue
        files = made
    return files, reports, tuple(dropped)


def _spoiled(
    before: EncoderFiles, after: EncoderFiles, texts: Written, stopping: NDArray[np.bool_], learner: Learner
) -> str | None:
    """Whether neighbours tell less of held-out users' texts after `pretrain`, which goes by hidden tokens; None where
    they do not, or it cannot be told."""
    try:
        measured, was = neighbours_of(texts, stopping, before, seed=learner.seed, device=learner.device)
        _, now = neighbours_of(texts, stopping, after, seed=learner.seed, device=learner.device)
    except NothingToFit:
        return None
    return f"{measured} fell from {was:.3f} to {now:.3f}" if now < was else None


def _stands_in(title: NDArray[np.int32], text: NDArray[np.int32]) -> bool:
    """Whether the tokens between the special ones at both ends are those of a piece of the text."""
    return title[1:-1].tobytes() in text.tobytes()
