"""The `encoder` fit: the Transformer itself, on labels and on what belongs together.

Three losses, each text bringing what it has: cross-entropy of its labels (a layer beside the encoder, which is not
kept), a contrast between it and another text of its user, and one between it and the title of its item. Adam at 1e-5,
warm-up, clipping, gradients recomputed layer by layer, bf16 where the device has it. What decides is what decides for
the head: how well labels of held-out users are told by neighbours among the others (without labels: whether a text
finds one of the same user). The encoder as it came is one of the candidates.

The contrasts are sentence-transformers' MultipleNegativesRankingLoss with one difference: what the same user wrote or
took is no negative. A text's pair comes from the batch, where a user who writes much would be his own opponent.

Knows nothing of releases; whoever calls says which users are held out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.encoder.files import EncoderFiles
from model.encoder.padding import micro_batches, pad
from model.encoder.torch import load_model, pool
from trainer.fit.head import BY_LABELS, BY_USERS
from trainer.fit.held_out import neighbour_accuracy, same_user_recall
from trainer.fit.losses import contrast_loss, epoch_order, fit_label_scores, label_loss, title_loss
from trainer.fit.rounds import Pace, Round, TransformerFit, half_precision, in_rounds, recompute_layers
from trainer.fit.texts import Rows, Sides, Written, sides
from trainer.fit.training import Place, fingerprint, joined, repeatable

MOST: Final = (1_024, 4_096)
"""Texts that are asked about and compared with after each round: they have to be encoded each time."""
BUDGET: Final = 4_096
"""Padded tokens that go through the model at once; a step has as many of them as its batch needs."""

Batches = list[tuple[Tensor, Tensor]]
"""(B, T) ids and (B, T) mask, each."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """pace: of the steps. contrast, titles: weights of the contrasts beside the labels. temperature: of both. prior: L2
    of the label scores that round 0 has. recompute: gradients layer by layer, a third more time for a fraction of the
    memory."""

    pace: Pace = field(default_factory=Pace)
    contrast: float = 0.1
    titles: float = 0.1
    temperature: float = 0.05
    prior: float = 1.0
    recompute: bool = True


def fit_encoder(
    written: Written,
    held_out: NDArray[np.bool_],
    files: EncoderFiles,
    settings: EncoderSettings | None = None,
    *,
    seed: int,
    device: str = "auto",
    checkpoints: Path | None = None,
    told: Callable[[Round], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TransformerFit:
    """The encoder in `files`, as it serves held-out users best, never worse on them than it came.

    held_out: (U,) by number of user; of those nothing is learned. checkpoints, told, and what is repeatable: as for
    `fit_head`, by round, and for the same number of steps. Under torchrun every process gets the same result.

    Raises NothingToFit, with what is missing, CheckpointsDiffer, and EncoderUnusable.
    """
    settings = settings or EncoderSettings()
    found = sides(written, held_out, seed, most=MOST)
    with joined(device) as place, repeatable(seed, place.device):
        said = {"encoder": asdict(settings), "space": files.space, "seed": seed, "processes": place.processes}
        of = fingerprint(said, [*arrays(written), held_out]) if checkpoints is not None else ""
        task = _Task(written, found, files, settings, seed, place)
        return in_rounds(task, settings.pace, place, seed=seed, of=of, checkpoints=checkpoints, told=told, clock=clock)


def neighbours_of(
    written: Written, held_out: NDArray[np.bool_], files: EncoderFiles, *, seed: int, device: str = "auto"
) -> tuple[str, float]:
    """What `fit_encoder` goes by, and its value for the encoder as it is in `files`. In this process alone.

    Raises NothingToFit and EncoderUnusable.
    """
    found = sides(written, held_out, seed, most=MOST)
    with joined(device, alone=True) as place, repeatable(seed, place.device), torch.inference_mode():
        task = _Task(written, found, files, EncoderSettings(), seed, place)
        task.net.eval()
        return task.measured, task.measure()


def arrays(written: Written) -> list[NDArray[np.int32]]:
    """All of it, for a fingerprint."""
    lengths = np.array([len(row) for row in written.ids], np.int32)
    ids = np.concatenate([*written.ids, np.empty(0, np.int32)])
    return [ids, lengths, written.user, written.text, written.title, written.labels]


class LabelledEncoder(torch.nn.Module):
    """model: the Transformer without a pooler, which no vector depends on. labels: scores of a text's labels."""

    def __init__(self, files: EncoderFiles, label_count: int, *, recompute: bool) -> None:
        super().__init__()
        self.model = load_model(files, precision="fp32")
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        if recompute:
            recompute_layers(self.model)
        self.labels = torch.nn.Linear(files.dimension, label_count) if label_count else None
        if self.labels is not None:
            torch.nn.init.zeros_(self.labels.weight)
            torch.nn.init.zeros_(self.labels.bias)
        self._pooling = files.pooling

    def forward(self, batches: Batches, place: Tensor) -> tuple[Tensor, Tensor | None]:
        """place: (B,) of each text among those of the batches → (B, D) unit vectors, (B, L) logits."""
        pooled = [pool(self._hidden(ids, mask), mask, self._pooling) for ids, mask in batches]
        vectors = functional.normalize(torch.cat(pooled)[place], dim=1)
        return vectors, None if self.labels is None else self.labels(vectors)

    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        with half_precision(ids.device):
            hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


class _Task:
    def __init__(
        self, written: Written, found: Sides, files: EncoderFiles, settings: EncoderSettings, seed: int, place: Place
    ) -> None:
        self._written = written
        self._sides = found
        self._settings = settings
        self._seed = seed
        self._place = place
        self._padding = files.padding
        self._net = LabelledEncoder(
            files, written.label_count if found.by_labels else 0, recompute=settings.recompute
        ).to(place.device)
        self._epoch = -1
        self.net: torch.nn.Module = self._net
        self.model: torch.nn.Module = self._net.model
        self.measured = BY_LABELS if found.by_labels else BY_USERS
        self.texts = len(found.train)

    def begin(self) -> None:
        """Label scores for the encoder as it came: what moves it from the first step on is not arbitrary."""
        if self._net.labels is None:
            return
        bank = self._sides.bank
        with torch.inference_mode():
            vectors = self._encode(self._written.text[bank])
        fit_label_scores(
            self._net.labels, vectors.clone(), self._tensor(self._written.labels[bank]), self._settings.prior
        )

    def loss(self, net: torch.nn.Module, step: int) -> tuple[Tensor, dict[str, float], int]:
        settings, written = self._settings, self._written
        rows, pair = self._batch(step)
        titled = np.flatnonzero(written.title[rows] >= 0)
        titles, which = np.unique(written.title[rows[titled]], return_inverse=True)
        both, logits = net(*self._batches(np.concatenate([written.text[rows], titles])))
        vectors, title_vectors = both[: len(rows)], both[len(rows) :]
        user = self._tensor(written.user[rows])
        of_labels = vectors.new_zeros(())
        if logits is not None:
            of_labels = label_loss(logits[: len(rows)], self._tensor(written.labels[rows]))
        of_contrast = contrast_loss(vectors, user, self._tensor(pair), settings.temperature)
        places = self._tensor(titled)
        of_titles = title_loss(
            vectors[places],
            title_vectors[self._tensor(which)],
            user[places],
            self._tensor(which),
            settings.temperature,
        )
        total = of_labels + settings.contrast * of_contrast + settings.titles * of_titles
        losses = {"labels": of_labels, "contrast": of_contrast, "titles": of_titles}
        return total / len(rows), {name: float(value.detach()) for name, value in losses.items()}, len(rows)

    def measure(self) -> float:
        written, found = self._written, self._sides
        vectors = self._encode(written.text[np.concatenate([found.asked, found.bank])])
        asked, bank = vectors[: len(found.asked)], vectors[len(found.asked) :]
        if self._net.labels is None:
            user = self._tensor(written.user[np.concatenate([found.asked, found.bank])])
            return same_user_recall(vectors, user, len(found.asked))
        wanted, given = self._tensor(written.labels[found.asked]), self._tensor(written.labels[found.bank])
        return neighbour_accuracy(bank, given, asked, wanted, written.label_count)

    def _batch(self, step: int) -> tuple[Rows, NDArray[np.int64]]:
        """This process's rows of a step, and the numbers of their pairs."""
        steps = -(-self.texts // self._settings.pace.batch)
        if self._epoch != step // steps:
            self._epoch = step // steps
            self._order, self._pair = epoch_order(self._written.user[self._sides.train], self._seed, self._epoch + 1)
        mine = self._place.share(np.array_split(np.arange(self.texts), steps)[step % steps])
        return self._sides.train[self._order[mine]], self._pair[mine]

    def _encode(self, texts: NDArray[np.int32]) -> Tensor:
        """(N, D) unit vectors of rows of ids."""
        return torch.cat(
            [self._net(*self._batches(texts[start : start + 512]))[0] for start in range(0, len(texts), 512)]
        )

    def _batches(self, texts: NDArray[np.int32]) -> tuple[Batches, Tensor]:
        ids = [self._written.ids[text] for text in texts]
        chosen = micro_batches(np.array([len(row) for row in ids], np.int32), BUDGET)
        place = np.empty(len(texts), np.int64)
        place[np.concatenate(chosen)] = np.arange(len(texts))
        return [self._padded(ids, rows) for rows in chosen], self._tensor(place)

    def _padded(self, ids: Sequence[NDArray[np.int32]], rows: Rows) -> tuple[Tensor, Tensor]:
        padded, mask = pad(ids, rows, self._padding)
        return self._tensor(padded), self._tensor(mask)

    def _tensor(self, values: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._place.device)
