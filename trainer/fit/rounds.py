"""A Transformer's fit: steps of Adam with warm-up and clipping, in rounds that are measured, within a time box.

The weights after n steps follow from input, settings and seed; the clock decides only how many steps there are. After
each round held-out users are measured; the best round is kept, and round 0, the model as it came, is one of them. Knows
nothing of what is learned: a `Task` says that.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from model.hardware import native_bf16
from trainer.fit.errors import NothingToFit
from trainer.fit.training import (
    Place,
    Tensors,
    check_agreement,
    optimizer_tensors,
    part_of,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)

DIVERGED: Final = "the loss is no number any more"


@dataclass(frozen=True, slots=True)
class Pace:
    """epochs: passes over what is learned from, at most. batch: texts a step, of all processes together. round: steps
    between two measures. minutes: time box, of all runs of one fit together; None for none. rate: Adam's at its
    highest. new_rate: the same, of layers that the model came without. warm_up: share of all steps until the highest
    rate; from there it falls to nothing. clip: norm of the gradient, at most."""

    epochs: int = 3
    batch: int = 32
    round: int = 50
    minutes: float | None = None
    rate: float = 1e-5
    new_rate: float = 1e-3
    warm_up: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """steps: so far, and of how many. losses: means over the round's texts (or tokens), by name; empty for round 0.
    measure: of held-out users, higher is better."""

    steps: int
    of: int
    losses: dict[str, float]
    measure: float


@dataclass(frozen=True, slots=True)
class TransformerFit:
    """tensors: the model's, float32, under the names of its own weights file. measured: what `measure` is. chosen: the
    round the tensors are of; 0 is the model as it came. stopped: why there were no more. seconds: of all runs, when it
    was resumed."""

    tensors: Tensors
    rounds: tuple[Round, ...]
    measured: str
    chosen: int
    stopped: str
    seconds: float

    def weights(self) -> bytes:
        """The tensors as a safetensors file, the same bytes for the same tensors."""
        return bytes(save(self.tensors, {"format": "pt"}))

    def report(self) -> dict[str, object]:
        """All but the tensors, as plain JSON."""
        return {
            "rounds": [asdict(each) for each in self.rounds],
            "measured": self.measured,
            "chosen": self.chosen,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


class Task(Protocol):
    """What is learned. net: all weights, `model` inside it those that are kept. measured: what `measure` is."""

    net: torch.nn.Module
    model: torch.nn.Module
    measured: str
    texts: int
    """To learn from."""

    def begin(self) -> None:
        """Before the first step, in the first process; not of a fit that goes on."""
        ...

    def loss(self, net: torch.nn.Module, step: int) -> tuple[Tensor, dict[str, float], int]:
        """Of this process's share of a step, by a call of `net`: the loss to be derived, a mean; sums to be told, by
        name, the same names every time; and what they are to be divided by."""
        ...

    def measure(self) -> float:
        """Of held-out users; asked in the first process, in evaluation mode and without gradients."""
        ...


def in_rounds(
    task: Task,
    pace: Pace,
    place: Place,
    *,
    seed: int,
    of: str,
    checkpoints: Path | None = None,
    told: Callable[[Round], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TransformerFit:
    """The model of the best round. of: the fit's fingerprint. checkpoints, told: as for `fit_head`, by round.

    When the time is over, the step under way is ended and measured. A round whose loss is no number is not kept and is
    the last. Raises CheckpointsDiffer.
    """
    run = _Run(task, pace, place, seed)
    return run.run(checkpoints, of, told, clock)


def half_precision(device: torch.device) -> torch.autocast:
    """Inside, matrix products are in bf16 where the device has it; weights stay float32."""
    if device.type == "cuda":
        enabled = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        enabled = device.type == "cpu" and native_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def recompute_layers(model: Any) -> None:
    """A transformers model's layers forget what they computed and compute it again for the gradient."""
    model.config.use_cache = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it has another name since transformers 5.20
        model.gradient_checkpointing_enable({"use_reentrant": False})


class _Run:
    def __init__(self, task: Task, pace: Pace, place: Place, seed: int) -> None:
        self._task = task
        self._pace = pace
        self._place = place
        self._seed = seed
        self._steps = pace.epochs * -(-task.texts // pace.batch)
        known = {id(weight) for weight in task.model.parameters()}
        weights = list(task.net.parameters())
        self._optimizer = torch.optim.Adam(
            [
                {"params": [weight for weight in weights if id(weight) in known], "highest": pace.rate},
                {"params": [weight for weight in weights if id(weight) not in known], "highest": pace.new_rate},
            ]
        )

    def run(
        self, checkpoints: Path | None, of: str, told: Callable[[Round], None], clock: Callable[[], float]
    ) -> TransformerFit:
        started = clock()
        before, rounds, best = self._begin(checkpoints, of)
        # Gradients are averaged over processes from here on; the weights they begin with are the first one's.
        net = DistributedDataParallel(self._task.net) if self._place.processes > 1 else self._task.net

        def seconds() -> float:
            (agreed,) = self._place.agreed([before + clock() - started])
            return agreed

        while (stopped := self._stopped(rounds, seconds())) is None:
            found = self._round(net, rounds, seconds)
            if not all(map(math.isfinite, [found.measure, *found.losses.values()])):
                stopped = DIVERGED
                break
            rounds.append(found)
            if _best(rounds) == len(rounds) - 1:
                best = {name: value.detach().clone() for name, value in self._task.model.state_dict().items()}
            if self._place.rank == 0:
                if checkpoints is not None:
                    self._write(checkpoints, of, rounds, best, before + clock() - started)
                told(rounds[-1])
        if not rounds:
            raise NothingToFit("the encoder as it came gives no number on these texts")
        return TransformerFit(
            tensors={name: value.cpu() for name, value in best.items()},
            rounds=tuple(rounds),
            measured=self._task.measured,
            chosen=_best(rounds),
            stopped=stopped,
            seconds=before + clock() - started,
        )

    def _begin(self, checkpoints: Path | None, of: str) -> tuple[float, list[Round], Tensors]:
        """(seconds, rounds, weights of the best of them) so far; weights and optimizer are as they were."""
        found = None if checkpoints is None else read_checkpoint(checkpoints, of)
        check_agreement(self._place, 0 if found is None else len(found[1]["rounds"]))
        if found is None:
            if self._place.rank == 0:
                self._task.net.eval()
                self._task.begin()
            return 0.0, [], {}
        tensors, state = found
        self._task.net.load_state_dict(part_of(tensors, "now."))
        restore_optimizer(self._optimizer, part_of(tensors, "optimizer."))
        return state["seconds"], [Round(**each) for each in state["rounds"]], part_of(tensors, "best.")

    def _write(self, checkpoints: Path, of: str, rounds: list[Round], best: Tensors, seconds: float) -> None:
        # Weights that are tied are one tensor under two names, and a file holds no tensor twice.
        now = {name: value.clone() for name, value in self._task.net.state_dict().items()}
        parts: Mapping[str, Tensors] = {
            "now": now,
            "best": best,
            "optimizer": optimizer_tensors(self._optimizer),
        }
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        write_checkpoint(checkpoints, of, tensors, {"rounds": [asdict(each) for each in rounds], "seconds": seconds})

    def _stopped(self, rounds: list[Round], seconds: float) -> str | None:
        if not rounds:
            return None
        if rounds[-1].steps >= self._steps:
            return f"all {self._steps} steps are done"
        return f"{self._pace.minutes:g} minutes are over" if self._late(seconds) else None

    def _late(self, seconds: float) -> bool:
        return self._pace.minutes is not None and seconds >= 60 * self._pace.minutes

    def _round(self, net: torch.nn.Module, rounds: list[Round], seconds: Callable[[], float]) -> Round:
        """Some steps (round 0: none) and what held-out users have of them."""
        step = rounds[-1].steps if rounds else 0
        end = min(self._steps, step + self._pace.round) if rounds else 0
        sums: dict[str, float] = {}
        count = 0
        net.train()
        while step < end and not (sums and self._late(seconds())):
            step_sums, step_count = self._step(net, step)
            sums = {name: sums.get(name, 0.0) + value for name, value in step_sums.items()}
            count += step_count
            step += 1
        net.eval()
        *told, of_all = self._place.summed([*sums.values(), count])
        with torch.inference_mode():
            # One process measures: what decides when all of them stop must not differ in the last bit.
            (measure,) = self._place.agreed([self._task.measure() if self._place.rank == 0 else 0.0])
        losses = {name: value / of_all for name, value in zip(sums, told, strict=True)}
        return Round(step, self._steps, losses, measure)

    def _step(self, net: torch.nn.Module, step: int) -> tuple[dict[str, float], int]:
        # Dropout follows from the step, so that a fit that was killed goes on as it would have.
        torch.manual_seed(int(np.random.SeedSequence([self._seed, step, self._place.rank]).generate_state(1)[0]))
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest"] * self._share_of_rate(step)
        loss, sums, count = self._task.loss(net, step)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._task.net.parameters(), self._pace.clip)
        self._optimizer.step()
        return sums, count

    def _share_of_rate(self, step: int) -> float:
        warm = max(1, round(self._pace.warm_up * self._steps))
        return min((step + 1) / warm, (self._steps - step) / max(1, self._steps - warm))


def _best(rounds: list[Round]) -> int:
    """The first of those that serve held-out users best."""
    return max(range(len(rounds)), key=lambda number: rounds[number].measure)
