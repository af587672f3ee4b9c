"""What every fit of torch weights needs: the same numbers each time, its place among processes, checkpoints, an end.

Started plainly a fit is one process; started by torchrun, one of several that average their gradients. Knows nothing of
what is fitted: weights are named tensors here, progress is plain JSON.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from trainer.fit.errors import CheckpointsDiffer

CHECKPOINT: Final = "checkpoint.safetensors"

_STATE: Final = "state"
_FINGERPRINT: Final = "fingerprint"
_HASHED_AT_ONCE: Final = 1 << 16
"""Rows: a matrix on disk is never in memory whole."""

_groups = count()
"""Of this process: each group has keys of its own in the store, where those of the one before still stand."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those of one fit. rank: 0 is the one that measures and writes."""

    rank: int
    processes: int
    device: torch.device

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch that all of them have drawn alike."""
        return np.array_split(batch, self.processes)[self.rank]

    def summed(self, values: Sequence[float]) -> list[float]:
        """The sums of every process's values, the same in all of them."""
        if self.processes == 1:
            return list(values)
        sums = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        return [float(value) for value in sums]

    def agreed(self, values: Sequence[float]) -> list[float]:
        """What the first process says, whatever the others found."""
        return self.summed(values if self.rank == 0 else [0.0] * len(values))

    def from_first(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the first process has; the others bring an array of the same shape and type."""
        if self.processes == 1 or not values.size:
            return values
        raw = torch.from_numpy(np.array(values).reshape(-1).view(np.uint8)).to(self.device)
        torch.distributed.broadcast(raw, 0)
        found: NDArray[Any] = raw.cpu().numpy().view(values.dtype).reshape(values.shape)
        return found


def started() -> tuple[int, int]:
    """(number of this process, of how many) among those that torchrun started; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@cache
def torchrun_store() -> Store:
    """Keys and values that all processes of torchrun see. Waits for the first process where that one keeps it."""
    store, _, _ = next(rendezvous("env://"))
    # torchrun's own outlives processes that it starts again (--max-restarts).
    return PrefixStore(f"kindred/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def joined(device: str, *, alone: bool = False) -> Iterator[Place]:
    """This process's place, with the process group of torchrun where it was started by that; left at the end.

    device: `auto` (CUDA where there is one), or a torch device; of `cuda` each process takes its own.
    alone: without the others, which know nothing of it.
    """
    rank, processes = (0, 1) if alone else started()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
    chosen = torch.device(device)
    own_group = processes > 1 and not torch.distributed.is_initialized()
    if own_group:
        # Optimizers import it late, and it then takes hold of the group for good (torch 2.15): the group's threads are
        # at work when the interpreter ends, and abort it (1 in 40 runs with gloo).
        importlib.import_module("torch._dynamo")
        store = PrefixStore(f"group/{next(_groups)}", torchrun_store())
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=processes)
    try:
        yield Place(rank, processes, chosen)
    finally:
        if own_group:
            torch.distributed.destroy_process_group()


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, the same seed gives the same numbers: on a CPU to the last bit, on a GPU as far as its kernels allow.

    What the rest of the process has set, generators and torch's determinism, is as before at the end.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.manual_seed(seed)
            torch.use_deterministic_algorithms(device.type == "cpu")
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


def out_of_patience(best: int, epoch: int, patience: int) -> bool:
    """Early stopping: whether as many epochs as patience allows have passed since the best one."""
    return epoch - best >= patience


def fingerprint(settings: Mapping[str, object], arrays: Sequence[NDArray[Any]]) -> str:
    """What a fit depends on, as one hash: its checkpoint is of no use to a fit of anything else."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        for start in range(0, len(array), _HASHED_AT_ONCE):
            found.update(np.ascontiguousarray(array[start : start + _HASHED_AT_ONCE]).data)
    return found.hexdigest()


def write_checkpoint(directory: Path, of: str, tensors: Mapping[str, torch.Tensor], state: object) -> None:
    """One file, whole or not there, in place of the one before. of: the fit's fingerprint. state: plain JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    aside = directory / f"{CHECKPOINT}.aside"
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(own, aside, metadata={_FINGERPRINT: of, _STATE: json.dumps(state)})
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.replace(directory / CHECKPOINT)


def read_checkpoint(directory: Path, of: str) -> tuple[Tensors, Any] | None:
    """Tensors and state as written; None where there is none, it is damaged, or it is another fit's."""
    try:
        with safe_open(directory / CHECKPOINT, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get(_FINGERPRINT) != of:
                return None
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, json.loads(metadata[_STATE])
    except (OSError, SafetensorError):
        return None


def check_agreement(place: Place, epoch: int) -> None:
    """Every process goes on from the same epoch. Raises CheckpointsDiffer in one that does not."""
    (first,) = place.agreed([epoch])
    if first != epoch:
        raise CheckpointsDiffer(
            f"process {place.rank} would go on from epoch {epoch}, the first one from {int(first)}; give a directory "
            "for checkpoints that all processes see, or remove what is in it"
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The state of an optimizer of the Adam family, by parameter and name."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The opposite of `optimizer_tensors`, for an optimizer of the same parameters."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def part_of(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """Those of a checkpoint whose name begins so, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
