"""What this machine offers an encoder: cores it may use, bf16 in hardware, an identity for remembered measurements.

Reads /proc and /sys where they exist; imports neither torch nor OpenVINO.
"""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def available_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may use: CPU affinity, and a container's quota, which neither torch nor OpenVINO looks at."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2: no quota to respect
    return cores


@cache
def native_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices itself (avx512_bf16, AMX, Arm's bf16); False where that is unknown."""
    return bool(_BF16_FLAGS & set(_cpu_lines().get("flags", _cpu_lines().get("Features", "")).split()))


@cache
def machine_id() -> str:
    """CPU model and core count, for remembering what was measured on it; no host name."""
    model = _cpu_lines().get("model name") or platform.processor() or platform.machine()
    bf16 = "bf16" if native_bf16() else "no bf16"
    return f"{model}, {available_cores()} cores, {bf16}"


def _cpu_lines(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    try:
        text = path.read_text()
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
