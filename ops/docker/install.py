"""Install Kindred's dependencies into the Python that runs this, for the CPU only or for CUDA. Standard library only.

    python install.py cpu|cuda REQUIREMENTS CONSTRAINTS

The default Linux wheel of torch is a CUDA build: it refuses to load without 3 GB of CUDA libraries, also where no GPU
is. For the CPU they are left out, and what torch links to gets placeholders: libraries of the same names whose
functions do nothing but return an error. The CUDA runtime itself stays, so torch finds no device by its usual way and
never comes to call them. A CPU build of torch, where an index has one, needs none of this and is taken as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

GPU_ONLY: Final = re.compile(r"nvidia-|cuda-|triton$")
KEPT: Final = frozenset({"nvidia-cuda-runtime", "nvidia-cuda-cupti"})
"""10 MB that tell torch that there is no device, instead of a placeholder that would have to lie about it."""

CUDA_LIBRARY: Final = re.compile(r"lib(cu|nv|nccl)")
CUDA_FUNCTION: Final = re.compile(r"_*(cu|nv|nccl)")

PIP: Final = (sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check")
CHECK: Final = """
import torch
from transformers import BertConfig, BertModel
config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8)
encoder = BertModel(config).eval()
words = torch.ones((2, 3), dtype=torch.long)
with torch.inference_mode():
    for precision in (torch.float32, torch.bfloat16):
        assert encoder.to(precision)(words, attention_mask=words).last_hidden_state.isfinite().all()
"""
"""An encoder's forward pass: what the image is for."""


def for_cpu(report: Mapping[str, Any]) -> list[str]:
    """`name==version` of everything in pip's installation report that a machine without a GPU uses."""
    packages = [(each["metadata"]["name"].lower(), each["metadata"]["version"]) for each in report["install"]]
    return [f"{name}=={version}" for name, version in packages if name in KEPT or not GPU_ONLY.match(name)]


def install(device: str, requirements: Path, constraints: Path) -> None:
    """Raises CalledProcessError, with pip's or the compiler's own words on stderr."""
    wanted = ("--requirement", requirements, "--constraint", constraints)
    if device == "cuda":
        _run(*PIP, *wanted)
    else:
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.json"
            _run(*PIP, "--quiet", "--dry-run", "--report", report, *wanted)
            _run(*PIP, "--no-deps", *for_cpu(json.loads(report.read_text())))
            _fill_gaps(_torch(), Path(directory))
    _run(sys.executable, "-c", CHECK)


def _torch() -> Path:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("torch is not installed, though pip was told to: see its output above")
    return Path(spec.origin).parent


def _fill_gaps(torch: Path, directory: Path) -> None:
    """A placeholder for every CUDA library that torch is linked to and that is not installed."""
    libraries = sorted(torch.glob("lib/*.so*"))
    there = {path.name for path in [*libraries, *torch.parent.glob("nvidia/*/lib/*.so*")]}
    needed = {name for path in libraries for name in re.findall(r"NEEDED.*\[(.+)\]", _told("readelf", "-dW", path))}
    missing = sorted(name for name in needed - there if CUDA_LIBRARY.match(name))
    if not missing:
        return
    versions: dict[str, str] = {}
    functions: set[str] = set()
    for path in libraries:
        versions |= _versions(_told("readelf", "-VW", path))
        functions |= _functions(_told("nm", "--dynamic", "--undefined-only", path).split())
    source = directory / "placeholder.c"
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(functions)))
    for name in missing:
        exports = directory / "exports"
        exports.write_text(f"{versions.get(name, '')} {{ global: *; }};")
        options = ["-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{name}", f"-Wl,--version-script={exports}"]
        _run("gcc", *options, "-o", torch / "lib" / name, source)


def _functions(symbols: Iterable[str]) -> set[str]:
    return {name for name in (symbol.partition("@")[0] for symbol in symbols) if CUDA_FUNCTION.match(name)}


def _versions(listing: str) -> dict[str, str]:
    """Library → version of its symbols that a library asks for, by `readelf -V`: the loader looks for it."""
    found: dict[str, str] = {}
    library = ""
    for kind, name in re.findall(r"(File|Name): (\S+)", listing):
        if kind == "File":
            library = name
        else:
            found[library] = name
    return found


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def _told(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    device, requirements, constraints = sys.argv[1:]
    if device not in ("cpu", "cuda"):
        sys.exit(f"DEVICE is {device!r}; give cpu or cuda")
    install(device, Path(requirements), Path(constraints))
