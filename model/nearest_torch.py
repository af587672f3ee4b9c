"""`Nearest` in torch: half the memory and bandwidth of float32 where the hardware multiplies bf16, or on a GPU.

Products of low precision only choose the candidates; those are scored again in float32 against the stored vectors, so
that order and similarities do not depend on how the product was rounded. Knows nothing of users or items.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.nearest import BLOCK_BYTES, Floats, Rows, Shown, merge, top_k

WIDER: Final = 1.5
"""Candidates a result: a bf16 product is off by up to .002 of its value, which moves few rows by this many places."""


def fast_dtype(device: torch.device) -> torch.dtype:
    """The type of vectors in which this device multiplies fastest without changing what is found."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capability = torch.backends.cpu.get_cpu_capability()
    native = capability.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class TorchNearest:
    """Keeps the promises of `Nearest`. On a CPU rows never set take no memory; a GPU reserves the whole capacity."""

    def __init__(
        self, dimension: int, capacity: int, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.dimension = dimension
        self.capacity = capacity
        self.device = torch.device(device)
        self.dtype = dtype or fast_dtype(self.device)
        self._matrix = torch.empty((capacity, dimension), dtype=self.dtype, device=self.device)
        self._shown = Shown(capacity)

    @property
    def row_bytes(self) -> int:
        return self.dimension * self._matrix.element_size() + 4

    def set(self, rows: NDArray[np.integer], vectors: Floats) -> None:
        if not len(rows):
            return
        fresh = self._shown.high
        self._shown.reach(rows)
        self._matrix[fresh : self._shown.high] = 0.0
        self._matrix[self._tensor(rows)] = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.device, self.dtype)
        self._shown.mark(rows, True)

    def remove(self, rows: NDArray[np.integer]) -> None:
        rows = rows[rows < self._shown.high]
        self._shown.mark(rows, False)
        self._matrix[self._tensor(rows)] = 0.0

    def hide(self, rows: NDArray[np.integer]) -> None:
        self._shown.mark(rows[rows < self._shown.high], False)

    def show(self, rows: NDArray[np.integer]) -> None:
        self._shown.mark(rows[rows < self._shown.high], True)

    def get(self, rows: NDArray[np.integer]) -> Floats:
        vectors: Floats = self._matrix[self._tensor(rows)].float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def top(self, queries: Floats, k: int, exclude: Rows | None = None) -> tuple[Rows, Floats]:
        batch, high = len(queries), self._shown.high
        exact = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self.device)
        rounded = exact.to(self.dtype)
        wider = k if self.dtype == torch.float32 else int(k * WIDER)
        block = max(wider, self._block_bytes() // (4 * max(1, batch)))
        found_rows: list[NDArray[np.int64]] = []
        found: list[Floats] = []
        for start in range(0, high, block):
            stop = min(high, start + block)
            scores = (rounded @ self._matrix[start:stop].T).float()
            if self._shown.any_hidden():
                scores += torch.from_numpy(self._shown.bias[start:stop]).to(self.device)
            if exclude is not None:
                inside = np.flatnonzero((exclude >= start) & (exclude < stop))
                scores[self._tensor(inside), self._tensor(exclude[inside] - start)] = -torch.inf
            columns, values = self._top_k(scores, min(wider, stop - start))
            found_rows.append(columns + start)
            found.append(values)
        rows, values = merge(found_rows, found, batch, wider)
        return (rows, values) if wider == k else self._again(exact, rows, k)

    def _block_bytes(self) -> int:
        # A GPU is kept busy by large products; a CPU wants the similarities to stay in its caches.
        return BLOCK_BYTES if self.device.type == "cpu" else 256 * BLOCK_BYTES

    def _top_k(self, scores: torch.Tensor, k: int) -> tuple[NDArray[np.int64], Floats]:
        if self.device.type == "cpu":
            return top_k(scores.numpy(), k)
        best = torch.topk(scores, k, dim=1)
        return best.indices.cpu().numpy(), best.values.cpu().numpy()

    def _again(self, queries: torch.Tensor, rows: Rows, k: int) -> tuple[Rows, Floats]:
        """Score candidates (B, wider) in float32 and keep k."""
        missing = rows < 0
        vectors = self._matrix[self._tensor(np.where(missing, 0, rows))].float()
        exact = torch.bmm(vectors, queries[:, :, None])[:, :, 0].cpu().numpy()
        exact[missing] = -np.inf
        columns, values = top_k(exact, k)
        best = np.take_along_axis(rows, columns, axis=1)
        return np.where(np.isneginf(values), -1, best).astype(np.int32), values

    def _tensor(self, rows: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self.device)
