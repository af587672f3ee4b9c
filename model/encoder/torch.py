"""The encoder on torch: CPU and CUDA, bf16 or fp32. Knows nothing of releases or of which backend is the faster one.

On the CPU, rows are padded inside small batches sorted by length (the activations stay in cache). On CUDA nothing is
padded: the texts of a batch stand one behind the other in one row, and attention is told where each of them ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel
from transformers.utils import logging as transformers_logging

from model.encoder.base import EncoderCounters, Tokens, Vectors
from model.encoder.files import EncoderFiles, Pooling
from model.encoder.padding import Rows, micro_batches, pad, unit
from model.errors import EncoderUnusable
from model.tokenise import Tokeniser

# There since torch 2.10; before, CUDA pads as the CPU does.
_varlen: Any = import_module("torch.nn.attention.varlen") if find_spec("torch.nn.attention.varlen") else None

Precision = Literal["bf16", "fp32"]

_BUDGET_CPU: Final = 2048
"""Padded tokens of a batch: 8k were a fifth slower (docs/decisions/encoder-backends.md)."""
_BUDGET_CUDA: Final = 65536
_PACKED: Final = "kindred_packed"
_PACKABLE: Final = frozenset({"bert"})
"""Model types whose positions begin at 0 and whose layers hand keyword arguments down to the attention function."""


class TorchEncoder:
    """See `Encoder`. `packed` asks for variable-length attention; None: where the device and the model have it."""

    def __init__(
        self,
        files: EncoderFiles,
        *,
        name: str,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
        packed: bool | None = None,
    ) -> None:
        """Raises EncoderUnusable where the weights do not fill the architecture that config.json names."""
        self.name = name
        self.space = files.space
        self.dimension = files.dimension
        self.max_tokens = files.max_tokens
        self.counters = EncoderCounters()
        self.tokenise = Tokeniser(files.tokenizer, max_tokens=files.max_tokens, lowercase=files.lowercase)
        self._device = torch.device(device)
        self.backend = f"torch-{self._device.type}-{precision}"
        packable = files.model_type in _PACKABLE
        fast = self._device.type == "cuda" and _varlen is not None and precision == "bf16"
        self._packed = packable and (fast if packed is None else packed)
        self._pooling: Pooling = files.pooling
        self._padding = files.padding
        self._budget = _BUDGET_CPU if self._device.type == "cpu" else _BUDGET_CUDA
        if threads is not None and self._device.type == "cpu":
            torch.set_num_threads(threads)
        self._model = load_model(files, precision=precision, attention=_PACKED if self._packed else "sdpa").to(
            self._device
        )

    def encode(self, tokens: Tokens) -> Vectors:
        """(N, D) unit vectors in the order of the texts."""
        lengths = tokens.lengths()
        vectors = np.zeros((len(lengths), self.dimension), np.float32)
        batches = micro_batches(lengths, self._budget)
        run = self._run_packed if self._packed else self._run_padded
        with torch.inference_mode():
            # All batches are queued on the device before the first result is waited for.
            pooled = [run(tokens.ids, rows) for rows in batches]
            for rows, part in zip(batches, pooled, strict=True):
                vectors[rows] = part.cpu().numpy()
        self.counters.tokens += int(lengths.sum())
        return unit(vectors)

    def _run_padded(self, ids: Sequence[NDArray[np.int32]], rows: Rows) -> torch.Tensor:
        padded, mask = (torch.from_numpy(part).to(self._device) for part in pad(ids, rows, self._padding))
        self.counters.padded_tokens += padded.numel()
        hidden: torch.Tensor = self._model(input_ids=padded, attention_mask=mask).last_hidden_state  # (B, T, D)
        return pool(hidden, mask, self._pooling)

    def _run_packed(self, ids: Sequence[NDArray[np.int32]], rows: Rows) -> torch.Tensor:
        sizes = np.array([len(ids[row]) for row in rows])
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], sizes)
        self.counters.padded_tokens += int(bounds[-1])
        line = torch.from_numpy(np.concatenate([ids[row] for row in rows]).astype(np.int64)).to(self._device)
        ends = torch.from_numpy(bounds).to(self._device)
        hidden: torch.Tensor = self._model(
            input_ids=line[None],  # (1, T)
            position_ids=torch.from_numpy(positions).to(self._device)[None],
            bounds=ends,
            longest=int(sizes.max()),
        ).last_hidden_state[0].float()  # (T, D)  # fmt: skip
        if self._pooling == "cls":
            return hidden[ends[:-1].long()]
        return torch.segment_reduce(hidden, "mean", lengths=torch.from_numpy(sizes).to(self._device))


def load_model(files: EncoderFiles, *, precision: Precision, attention: str = "sdpa") -> Any:
    """The transformers model, from safetensors on this machine and without code of its own, in evaluation mode."""
    with quiet():
        model, info = AutoModel.from_pretrained(
            files.directory,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
    lacking = [key for key in [*info["missing_keys"], *info["mismatched_keys"]] if "pooler" not in str(key)]
    if lacking:
        raise EncoderUnusable(
            f"the weights in {files.directory} lack {len(lacking)} tensors of the architecture in config.json, "
            f"such as {lacking[0]}; they belong to another model"
        )
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar of transformers, and no report of tensors that are lacking: whoever loads judges them."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """(B, T, D) hidden states, (B, T) mask → (B, D) in fp32, of any length."""
    if pooling == "cls":
        return hidden[:, 0].float()
    weights = mask.to(torch.float32).unsqueeze(1)  # (B, 1, T)
    return (weights @ hidden.float()).squeeze(1) / weights.sum(2)


def _attend_packed(
    module: torch.nn.Module,  # noqa: ARG001 - the signature is transformers'
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - bounds say it all
    *,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention inside each text of one line. query, key, value (1, H, T, D) → (1, T, H, D).

    bounds: (B + 1,) int32, where the texts begin and the last one ends.
    """
    if query.is_cuda and _varlen is not None:
        lines = [part[0].transpose(0, 1).contiguous() for part in (query, key, value)]  # (T, H, D)
        return _varlen.varlen_attn(*lines, bounds, bounds, longest, longest)[None], None
    spans = bounds.tolist()
    parts = [
        scaled_dot_product_attention(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scale=scaling)
        for a, b in pairwise(spans)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _no_mask(*_: object, **__: object) -> None:
    return None


AttentionInterface.register(_PACKED, _attend_packed)
AttentionMaskInterface.register(_PACKED, _no_mask)
