"""What each process of torchrun runs in the test of the head: fits, and writes what it got under its own name.
With `die` the first process is killed after epoch 2."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from safetensors.numpy import save_file

from tests.unit.trainer.fit.scenes import HELD_OUT, people
from trainer.fit.head import Epoch, HeadSettings, fit_head


def main(out: Path, die: bool) -> None:
    told: list[int] = []

    def tell(epoch: Epoch) -> None:
        told.append(epoch.epoch)
        if epoch.epoch == 2 and die:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = HeadSettings(hidden=16, epochs=6, patience=6, batch=64, rate=5e-3, decay=1.0)
    fit = fit_head(people(), HELD_OUT, settings, seed=0, device="cpu", checkpoints=out / "checkpoints", told=tell)
    threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in threads if "gloo" in name]
    rank = os.environ["RANK"]
    (out / f"rank-{rank}.json").write_text(json.dumps({**fit.report(), "told": told, "left": left}))
    save_file(dict(fit.tensors), out / f"rank-{rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "die" in sys.argv)
