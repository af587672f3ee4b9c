"""A Transformer's fit as a value, done by all processes that torchrun started; without torchrun by this one.

    process 0     is the trainer: hands out a job, fits with the others, hands out the next one, or the end
    the others    wait for a job, fit alike, keep nothing of it, wait for the next one

What is to be fitted goes through torchrun's store, as JSON; texts and who is held out through the processes' group, so
that no file holds them. Knows nothing of windows and releases.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store

from model.encoder.files import EncoderFiles, read_files
from trainer.fit.encoder import EncoderSettings, arrays, fit_encoder
from trainer.fit.pretrain import PretrainSettings, fit_pretrain
from trainer.fit.rounds import Pace, Round, TransformerFit
from trainer.fit.texts import Written
from trainer.fit.training import joined, started, torchrun_store

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Between two looks for a job: costs nothing beside a fit of minutes, and next to nothing in days without one."""
AGREE_S: Final = 30.0
"""For process 0 to give up a fit that failed here: it sees a connection closed."""

_COUNT: Final = "jobs"
_END: Final = "end"


@dataclass(frozen=True, slots=True)
class Job:
    """settings: of the fit that is meant. The rest: as for `fit_encoder`. Every process must see the directories of
    files and checkpoints, under the same path."""

    settings: EncoderSettings | PretrainSettings
    files: EncoderFiles
    written: Written
    held_out: NDArray[np.bool_]
    seed: int
    device: str
    checkpoints: Path

    def fit(self, told: Callable[[Round], None] = lambda _: None) -> TransformerFit:
        """Raises what `fit_encoder` and `fit_pretrain` do. Under torchrun every process calls it."""
        fit = (
            partial(fit_pretrain, settings=self.settings)
            if isinstance(self.settings, PretrainSettings)
            else partial(fit_encoder, settings=self.settings)
        )
        return fit(
            self.written,
            self.held_out,
            self.files,
            seed=self.seed,
            device=self.device,
            checkpoints=self.checkpoints,
            told=told,
        )


def fit_together(job: Job, told: Callable[[Round], None] = lambda _: None) -> TransformerFit:
    """Called in process 0, or without torchrun: the fit, with all processes. Raises what `Job.fit` does, and
    RuntimeError where another process fell out."""
    if started() == (0, 1):
        return job.fit(told)
    held = [*arrays(job.written), job.held_out.astype(np.int32)]
    store = torchrun_store()
    number = store.add(_COUNT, 1)
    store.set(_key(number), json.dumps(_said(job, [array.shape for array in held])))
    try:
        with joined(job.device) as place:
            for array in held:
                place.from_first(array)
            return job.fit(told)
    except BaseException:
        store.set(_given_up(number), "")
        raise


@contextmanager
def leading() -> Iterator[None]:
    """Around the whole work of process 0: the others end when it does. Nothing without torchrun."""
    if started() == (0, 1):
        yield
        return
    store = torchrun_store()
    try:
        yield
    finally:
        try:
            store.set(_key(store.add(_COUNT, 1)), _END)
        except DistError as error:
            log.warning("torchrun's store is gone (%s); the other processes end by themselves", error)


def take_part() -> None:
    """In every process but 0: each fit that process 0 hands out, until that one ends.

    A fit that fails in process 0 too is that one's to tell; the next one is waited for. Raises what fails here
    alone.
    """
    rank, processes = started()
    log.info("process %d of %d: takes part in fits, waits for the trainer in process 0", rank, processes)
    store = torchrun_store()
    for number in count(1):
        try:
            _appears(store, _key(number))
            said = store.get(_key(number)).decode()
        except DistError as error:
            log.warning("process %d: the trainer in process 0 is gone (%s)", rank, error)
            return
        if said == _END:
            return
        try:
            _join(json.loads(said))
        except Exception as error:
            if not _appears(store, _given_up(number), AGREE_S):
                log.error("process %d: fit %d failed here and not in process 0: %s", rank, number, error)
                raise
            log.warning("process %d: fit %d is given up, as in process 0: %s", rank, number, error)


def _join(said: dict[str, Any]) -> None:
    log.info("takes part in a fit: %s", said["kind"])
    settings: EncoderSettings | PretrainSettings
    settings = (PretrainSettings if said["kind"] == "pretrain" else EncoderSettings)(
        **said["settings"] | {"pace": Pace(**said["settings"]["pace"])}
    )
    files = read_files(Path(said["files"]))
    with joined(said["device"]) as place:
        ids, lengths, user, text, title, labels, held_out = (
            place.from_first(np.empty(shape, np.int32)) for shape in said["shapes"]
        )
        written = Written(np.split(ids, np.cumsum(lengths)[:-1]), user, text, title, labels, said["label_count"])
        checkpoints = Path(said["checkpoints"])
        Job(settings, files, written, held_out.astype(np.bool_), said["seed"], said["device"], checkpoints).fit()


def _said(job: Job, shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    """All of it but what the arrays hold, as plain JSON."""
    return {
        "kind": "pretrain" if isinstance(job.settings, PretrainSettings) else "encoder",
        "settings": asdict(job.settings),
        "files": str(job.files.directory.resolve()),
        "shapes": shapes,
        "label_count": job.written.label_count,
        "seed": job.seed,
        "device": job.device,
        "checkpoints": str(job.checkpoints.resolve()),
    }


def _appears(store: Store, key: str, seconds: float = math.inf) -> bool:
    # Not by the store's own wait: that one writes a warning into the log whenever its time is over.
    deadline = time.monotonic() + seconds
    while not store.check([key]):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def _key(number: int) -> str:
    return f"job/{number}"


def _given_up(number: int) -> str:
    return f"job/{number}/given-up"
