"""The release that every later version must read, as the recipe made it: `python -m tests.pinned_release`.

It is written once for a format and then stays as it is: what `tests/unit/model/test_pinned.py` reads is what stands in
somebody's directory of releases. A new format gets another directory beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.communities import write_community
from tests.unit.trainer.test_recipe import World
from trainer.fit.head import HeadSettings

PINNED: Final = Path(__file__).parent / "unit" / "model" / "pinned" / "format-1"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        write_community(world.log, 150, noise=16)
        done = world.refit(head=HeadSettings(hidden=16, epochs=8, rate=5e-3, batch=64, decay=1.0))
        if done.whole.manifest.head is None:
            raise SystemExit("the head did not win; a release with a head is to be pinned")
        shutil.copytree(done.whole.path, PINNED)


if __name__ == "__main__":
    main()
