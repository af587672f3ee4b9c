"""The `head` fit: Interest(x) = f(NN(x)), a residual MLP over frozen vectors that begins as the identity.

    interest(x) = unit(x + relu(x @ up.weight.T + up.bias) @ down.weight.T + down.bias),   zeros stay zeros
    logits      = interest(x) @ labels.weight.T + labels.bias

`down` begins at zero and decays towards it. Two losses, each text bringing what it has: cross-entropy of its labels,
and a contrast between it and another text of its user. What decides is neither, but held-out users: how well their
labels are told by neighbours among the others (without labels: whether a text finds one of the same user). The best
epoch is kept, and the identity is one of them.

Knows nothing of encoders, releases or folds; whoever calls says which users are held out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from trainer.fit.held_out import neighbour_accuracy, same_user_recall
from trainer.fit.losses import contrast_loss, epoch_order, fit_label_scores, label_loss
from trainer.fit.texts import Rows, Sides, Texts, sides
from trainer.fit.training import (
    Place,
    check_agreement,
    fingerprint,
    joined,
    optimizer_tensors,
    out_of_patience,
    part_of,
    read_checkpoint,
    repeatable,
    restore_optimizer,
    write_checkpoint,
)

BY_LABELS: Final = "label accuracy of neighbours"
BY_USERS: Final = "recall of a text of the same user"


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """hidden: H. epochs: at most. patience: epochs without a better one before it stops. batch: texts a step, of all
    processes together. rate: Adam's. decay: of `down` towards zero, a share of the rate a step. prior: L2 of the label
    scores that epoch 0 has. contrast: weight of the contrast beside the labels. temperature: of the contrast."""

    hidden: int = 128
    epochs: int = 30
    patience: int = 8
    batch: int = 512
    rate: float = 5e-4
    decay: float = 10.0
    prior: float = 1.0
    contrast: float = 0.1
    temperature: float = 0.1


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses: means over the epoch's texts; None for what is not learned, and for epoch 0, the identity.
    measure: of held-out users, higher is better. label_accuracy: of the label scores, on the same texts."""

    epoch: int
    label_loss: float | None
    contrast_loss: float | None
    measure: float
    label_accuracy: float | None


@dataclass(frozen=True, slots=True)
class HeadFit:
    """tensors: float32 by the names above; `labels.*` only where labels were learned. measured: what `measure` is.
    chosen: the epoch the tensors are of. stopped: why there were no more. seconds: of all runs, when it was resumed."""

    tensors: Mapping[str, NDArray[np.float32]]
    epochs: tuple[Epoch, ...]
    measured: str
    chosen: int
    stopped: str
    seconds: float

    def report(self) -> dict[str, object]:
        """All but the tensors, as plain JSON."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "measured": self.measured,
            "chosen": self.chosen,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


def fit_head(
    texts: Texts,
    held_out: NDArray[np.bool_],
    settings: HeadSettings | None = None,
    *,
    seed: int,
    device: str = "auto",
    alone: bool = False,
    checkpoints: Path | None = None,
    told: Callable[[Epoch], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> HeadFit:
    """The head that serves held-out users best, never worse on them than none.

    held_out: (U,) by number of user; of those nothing is learned. checkpoints: a directory that is this fit's alone and
    that all processes see; a fit that was killed goes on after its last whole epoch and ends with the weights it would
    have had. told: hears of every epoch after it is on disk, in the first process. Same input, seed and number of
    threads: the same weights on a CPU. Under torchrun every process calls this and gets the same result; with alone
    one does, by itself.

    Raises NothingToFit, with what is missing, and CheckpointsDiffer.
    """
    settings = settings or HeadSettings()
    found = sides(texts, held_out, seed)
    with joined(device, alone=alone) as place, repeatable(seed, place.device):
        of = ""
        if checkpoints is not None:
            said = {"head": asdict(settings), "seed": seed, "processes": place.processes, "labels": texts.label_count}
            of = fingerprint(said, [texts.vectors, texts.user, texts.text, texts.labels, held_out])
        return _Fit(texts, found, settings, seed, place).run(checkpoints, of, told, clock)


class ResidualHead(torch.nn.Module):
    """The formula of the module; its parameters have the names that a release gives them."""

    def __init__(self, dimension: int, hidden: int, label_count: int) -> None:
        super().__init__()
        self.up = torch.nn.Linear(dimension, hidden)
        self.down = torch.nn.Linear(hidden, dimension)
        self.labels = torch.nn.Linear(dimension, label_count) if label_count else None
        for layer in (self.down, self.labels):
            if layer is not None:
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, D) → (B, D) interest and (B, L) logits."""
        moved = functional.normalize(vectors + self.down(functional.relu(self.up(vectors))), dim=1)
        interest = moved * (vectors != 0).any(dim=1, keepdim=True)
        return interest, None if self.labels is None else self.labels(interest)


class _Fit:
    """Weights on their way, and what they are fitted to; alike in every process but for its share of a batch."""

    def __init__(self, texts: Texts, found: Sides, settings: HeadSettings, seed: int, place: Place) -> None:
        self._texts = texts
        self._sides = found
        self._settings = settings
        self._seed = seed
        self._place = place
        self._net = ResidualHead(texts.vectors.shape[1], settings.hidden, texts.label_count if found.by_labels else 0)
        self._net.to(place.device)
        towards_zero = [self._net.down.weight, self._net.down.bias]
        free = [weight for name, weight in self._net.named_parameters() if not name.startswith("down.")]
        self._optimizer = torch.optim.AdamW(
            [{"params": free, "weight_decay": 0.0}, {"params": towards_zero, "weight_decay": settings.decay}],
            lr=settings.rate,
        )

    def run(
        self, checkpoints: Path | None, of: str, told: Callable[[Epoch], None], clock: Callable[[], float]
    ) -> HeadFit:
        started = clock()
        before, epochs, best = self._begin(checkpoints, of)
        # Gradients are averaged over processes from here on; the weights they begin with are the first one's.
        net = DistributedDataParallel(self._net) if self._place.processes > 1 else self._net
        while (stopped := self._stopped(epochs)) is None:
            epochs.append(self._epoch(net, len(epochs)))
            if _best(epochs) == len(epochs) - 1:
                best = {name: value.detach().clone() for name, value in self._net.state_dict().items()}
            if self._place.rank == 0:
                if checkpoints is not None:
                    self._write(checkpoints, of, epochs, best, before + clock() - started)
                told(epochs[-1])
        return HeadFit(
            tensors={name: value.cpu().numpy() for name, value in best.items()},
            epochs=tuple(epochs),
            measured=BY_LABELS if self._sides.by_labels else BY_USERS,
            chosen=_best(epochs),
            stopped=stopped,
            seconds=before + clock() - started,
        )

    def _begin(self, checkpoints: Path | None, of: str) -> tuple[float, list[Epoch], dict[str, Tensor]]:
        """(seconds, epochs, weights of the best of them) so far; weights and optimizer are as they were."""
        found = None if checkpoints is None else read_checkpoint(checkpoints, of)
        tensors, state = found or ({}, {"seconds": 0.0, "epochs": []})
        check_agreement(self._place, len(state["epochs"]))
        if found is None:
            self._fit_labels()
        else:
            self._net.load_state_dict(part_of(tensors, "now."))
            restore_optimizer(self._optimizer, part_of(tensors, "optimizer."))
        return state["seconds"], [Epoch(**epoch) for epoch in state["epochs"]], part_of(tensors, "best.")

    def _fit_labels(self) -> None:
        """Label scores for the identity, by softmax regression: what moves vectors from epoch 1 on is not arbitrary."""
        layer = self._net.labels
        if layer is None:
            return
        vectors, labels = self._vectors(self._sides.bank), self._tensor(self._texts.labels[self._sides.bank])
        fit_label_scores(layer, vectors, labels, self._settings.prior)

    def _write(self, checkpoints: Path, of: str, epochs: list[Epoch], best: dict[str, Tensor], seconds: float) -> None:
        parts = {"now": self._net.state_dict(), "best": best, "optimizer": optimizer_tensors(self._optimizer)}
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        state = {"epochs": [asdict(epoch) for epoch in epochs], "seconds": seconds}
        write_checkpoint(checkpoints, of, tensors, state)

    def _stopped(self, epochs: list[Epoch]) -> str | None:
        last, settings = len(epochs) - 1, self._settings
        if epochs and out_of_patience(_best(epochs), last, settings.patience):
            return f"no better epoch in {settings.patience}"
        return f"all {settings.epochs} epochs are done" if last >= settings.epochs else None

    def _epoch(self, net: torch.nn.Module, number: int) -> Epoch:
        """One pass over the texts (epoch 0: none) and what held-out users have of it."""
        of_labels, of_contrast = self._pass(net, number) if number else (None, None)
        with torch.inference_mode():
            # One process measures: what decides when all of them stop must not differ in the last bit.
            measure, label_accuracy = self._place.agreed(self._measure() if self._place.rank == 0 else (0.0, 0.0))
        return Epoch(number, of_labels, of_contrast, measure, label_accuracy if self._sides.by_labels else None)

    def _pass(self, net: torch.nn.Module, number: int) -> tuple[float | None, float | None]:
        settings, texts = self._settings, self._texts
        order, pair = epoch_order(texts.user[self._sides.train], self._seed, number)
        sums = torch.zeros(2, dtype=torch.float64, device=self._place.device)
        for places in np.array_split(np.arange(len(order)), -(-len(order) // settings.batch)):
            mine = self._place.share(places)
            rows = self._sides.train[order[mine]]
            interest, logits = net(self._vectors(rows))
            labels, user = self._tensor(texts.labels[rows]), self._tensor(texts.user[rows])
            of_labels = interest.new_zeros(()) if logits is None else label_loss(logits, labels)
            of_contrast = contrast_loss(interest, user, self._tensor(pair[mine]), settings.temperature)
            self._optimizer.zero_grad()
            ((of_labels + settings.contrast * of_contrast) / max(1, len(mine))).backward()
            self._optimizer.step()
            sums += torch.stack([of_labels, of_contrast]).detach()
        labels_mean, contrast_mean = (value / len(order) for value in self._place.summed(sums.tolist()))
        return labels_mean if self._sides.by_labels else None, contrast_mean if self._sides.contrast else None

    def _measure(self) -> tuple[float, float]:
        """(what decides, accuracy of the label scores)."""
        texts, found = self._texts, self._sides
        asked, logits = self._net(self._vectors(found.asked))
        bank, _ = self._net(self._vectors(found.bank))
        if logits is None:
            user = self._tensor(texts.user[np.concatenate([found.asked, found.bank])])
            return same_user_recall(torch.cat([asked, bank]), user, len(asked)), 0.0
        wanted, given = self._tensor(texts.labels[found.asked]), self._tensor(texts.labels[found.bank])
        right = (wanted == logits.argmax(dim=1, keepdim=True)).any(dim=1)
        return neighbour_accuracy(bank, given, asked, wanted, texts.label_count), float(right.float().mean())

    def _vectors(self, rows: Rows) -> Tensor:
        vectors = self._texts.vectors[self._texts.text[rows]].astype(np.float32)
        return torch.from_numpy(vectors).to(self._place.device)

    def _tensor(self, values: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._place.device)


def _best(epochs: list[Epoch]) -> int:
    """The first of those that serve held-out users best; of equals, the one whose label scores do."""
    return max(range(len(epochs)), key=lambda number: (epochs[number].measure, epochs[number].label_accuracy or 0.0))
