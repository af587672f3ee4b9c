"""What the image needs of pyproject.toml, one requirement a line: `python requirements.py PYPROJECT`.

A file of its own, so that the layer with the dependencies is built anew when they change, and not for every other line
of pyproject.toml. Standard library only.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def requirements(project: Mapping[str, Any]) -> list[str]:
    """The dependencies and the extra that has the encoder, by a parsed pyproject.toml."""
    listed = project["project"]
    return [*listed["dependencies"], *listed["optional-dependencies"]["embedded"]]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(tomllib.loads(Path(sys.argv[1]).read_text()))) + "\n")
