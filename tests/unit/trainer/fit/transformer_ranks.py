"""What each process of torchrun runs in the tests of the Transformer's fits: fits, and writes what it got under its own
name. With `die` the first process is killed after round 1."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from safetensors.torch import save_file

from tests.unit.trainer.fit.writers import HELD_OUT, PACE, tiny_files, write
from trainer.fit.encoder import EncoderSettings, fit_encoder
from trainer.fit.pretrain import PretrainSettings, fit_pretrain
from trainer.fit.rounds import Round


def main(kind: str, out: Path, die: bool) -> None:
    rank = os.environ["RANK"]
    files = tiny_files(out / "tiny" / rank)
    told: list[int] = []

    def tell(found: Round) -> None:
        told.append(found.steps)
        if len(told) == 2 and die:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "encoder":
        fit = fit_encoder(
            write(files),
            HELD_OUT,
            files,
            EncoderSettings(PACE),
            seed=0,
            device="cpu",
            checkpoints=out / "checkpoints",
            told=tell,
        )
    else:
        fit = fit_pretrain(write(files), HELD_OUT, files, PretrainSettings(PACE), seed=0, device="cpu", told=tell)
    (out / f"rank-{rank}.json").write_text(json.dumps({**fit.report(), "told": told}))
    save_file(fit.tensors, out / f"rank-{rank}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "die" in sys.argv)
