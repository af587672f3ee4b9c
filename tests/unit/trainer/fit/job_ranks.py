"""What each process of torchrun runs in the tests of jobs: the trainer's own start, with fits in the place of a refit.
Each writes its exit code under its own name; process 0 also how its fits ended, and the last one's weights."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.builders import eventually
from tests.unit.trainer.fit.writers import HELD_OUT, PACE, tiny_files, write
from trainer.__main__ import main
from trainer.errors import TooLittleData
from trainer.fit.encoder import EncoderSettings
from trainer.fit.errors import NothingToFit
from trainer.fit.jobs import Job, fit_together
from trainer.fit.rounds import Round
from trainer.settings import TrainerSettings


class DiskFull(Exception):
    pass


def fits(out: Path) -> None:
    """One that there is nothing for, one that fails here alone after round 1, and the same once more."""
    files = tiny_files(out / "tiny")
    ended: list[str] = []

    def told(each: Round) -> None:
        if len(ended) == 1 and each.steps:
            raise DiskFull

    for written in (write(files, labels=False, each=1), write(files), write(files)):
        job = Job(EncoderSettings(PACE), files, written, HELD_OUT, 0, "cpu", out / "checkpoints")
        try:
            fit = fit_together(job, told)
        except (NothingToFit, DiskFull) as error:
            ended.append(type(error).__name__)
        else:
            ended.append(fit.stopped)
            save_file(fit.tensors, out / "together.safetensors")
    (out / "ended.json").write_text(json.dumps(ended))


def run(out: Path) -> int:
    def once(_settings: TrainerSettings) -> None:
        fits(out)
        raise TooLittleData("an exit code of its own")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.__main__._once", once)
        code = main(["--once"])
    (out / f"exit-{os.environ['RANK']}").write_text(str(code))
    # torchrun ends the others when one fails; here the other one shows that it ends by itself.
    eventually((out / "exit-1").exists, "the other process has ended", 60)
    return code


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
