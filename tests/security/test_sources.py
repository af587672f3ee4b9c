"""What a linter does not see: no call asks for code that comes with a model, for pickles, or for a shell."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FORBIDDEN: Final = {"trust_remote_code": True, "allow_pickle": True, "shell": True, "weights_only": False}
"""Keyword → the value that no call gives it."""


def calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """(file:line, call) of every call in these folders."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def keywords(call: ast.Call) -> dict[str | None, object]:
    return {
        each.arg: each.value.value if isinstance(each.value, ast.Constant) else each.value for each in call.keywords
    }


def test_no_call_asks_for_foreign_code_pickles_or_a_shell() -> None:
    found = [
        f"{place}: {name}"
        for place, call in calls("schemas", "model", "worker", "ops", "benchmarks", "tests")
        for name, value in keywords(call).items()
        if name in FORBIDDEN and value != (not FORBIDDEN[name])
    ]
    assert not found


def test_every_model_is_loaded_from_safetensors_without_code_of_its_own() -> None:
    loads = [
        (place, keywords(call))
        for place, call in calls("model", "worker", "ops")
        if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
    ]
    assert loads
    for place, given in loads:
        assert given.get("trust_remote_code") is False, place
        assert given.get("use_safetensors") is True, place


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\n\ntorch.load('x')",
        "import yaml\n\nyaml.load('x')",
        "import os\n\nos.system('x')",
        "import subprocess\n\nsubprocess.run('x', shell=True, check=True)",
        "eval('x')",
        "exec('x')",
        "import numpy as np\n\nnp.load('x')",
        "import joblib",
    ],
)
def test_make_check_finds_what_would_run_what_it_reads(line: str) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", str(ROOT / "worker" / "new.py"), "-"],
        input=f'"""Some module."""\n\n{line}\n',
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert checked.returncode == 1, checked.stdout
    assert any(rule in checked.stdout for rule in ("TID251", "S102", "S307", "S602")), checked.stdout
