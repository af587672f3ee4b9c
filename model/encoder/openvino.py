"""The encoder on OpenVINO: CPUs, bf16 where the CPU has it. Knows nothing of releases or of which backend is faster.

The torch model is converted once and the result kept in the cache directory, so that later starts need no torch. One
single-threaded stream a core encodes one small batch each: no time is lost on threads that wait for each other, which
gave a quarter more than one stream over all cores (docs/decisions/encoder-backends.md).
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from model.encoder.base import EncoderCounters, Tokens, Vectors
from model.encoder.files import EncoderFiles
from model.encoder.padding import Rows, micro_batches, pad, unit
from model.errors import ExtraMissing
from model.hardware import available_cores
from model.tokenise import Tokeniser

try:
    import openvino
except ImportError as error:
    raise ExtraMissing(
        "the openvino package is not installed; install kindred-stream[embedded], or set KINDRED_BACKEND=torch"
    ) from error

_CONVERSION: Final = 1
"""Version of the graph that `_convert` makes; a higher one makes old copies in the cache unused."""
_BUDGET: Final = 1024
_MULTIPLE: Final = 8
"""Widths are rounded up to this, so that kernels made for one batch fit the next."""


class OpenVinoEncoder:
    """See `Encoder`."""

    def __init__(
        self,
        files: EncoderFiles,
        *,
        name: str,
        cache: Path,
        precision: Literal["bf16", "fp32"] = "bf16",
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.space = files.space
        self.dimension = files.dimension
        self.max_tokens = files.max_tokens
        self.backend = f"openvino-{precision}"
        self.counters = EncoderCounters()
        self.tokenise = Tokeniser(files.tokenizer, max_tokens=files.max_tokens, lowercase=files.lowercase)
        self._padding = files.padding
        self._streams = threads or available_cores()
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(converted(files, cache)),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "NUM_STREAMS": str(self._streams),
                "INFERENCE_NUM_THREADS": self._streams,
                "ENABLE_CPU_PINNING": False,  # several workers on one machine would be pinned to the same cores
            },
        )
        # Threads of our own: AsyncInferQueue lets go of the inputs before they are read, and mixes texts up.
        self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="openvino")
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._streams):
            self._requests.put(compiled.create_infer_request())
        # The bindings set up their own tables on first use, with and without the GIL by turns: two threads that come
        # first together wait for each other for ever. So each request is used once before there are threads.
        for _ in range(self._streams):
            self._run([np.zeros(1, np.int32)], np.zeros(1, np.int64))

    def encode(self, tokens: Tokens) -> Vectors:
        """(N, D) unit vectors in the order of the texts."""
        lengths = tokens.lengths()
        vectors = np.zeros((len(lengths), self.dimension), np.float32)
        batches = micro_batches(lengths, _BUDGET, parts=self._streams)
        for rows, (pooled, size) in zip(batches, self._pool.map(partial(self._run, tokens.ids), batches), strict=True):
            vectors[rows] = pooled
            self.counters.padded_tokens += size
        self.counters.tokens += int(lengths.sum())
        return unit(vectors)

    def _run(self, ids: Sequence[NDArray[np.int32]], rows: Rows) -> tuple[Vectors, int]:
        """(B, D) pooled vectors of the rows, and the tokens computed for them."""
        padded, mask = pad(ids, rows, self._padding, multiple=_MULTIPLE, limit=self.max_tokens)
        request = self._requests.get()
        try:
            request.infer([padded, mask], share_inputs=True)
            return request.get_output_tensor(0).data.copy(), padded.size
        finally:
            self._requests.put(request)


def converted(files: EncoderFiles, cache: Path) -> Path:
    """The model as OpenVINO's IR, (B, T) ids and mask → (B, D) pooled; made on first use (10 s, needs torch)."""
    home = cache / "openvino" / f"{files.space}-{_CONVERSION}-{openvino.__version__.split('-')[0]}"
    path = home / "model.xml"
    if path.is_file():
        return path
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not path.is_file():
            aside = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
            try:
                openvino.save_model(_convert(files), aside / path.name, compress_to_fp16=False)
                aside.rename(home)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return path


def _convert(files: EncoderFiles) -> Any:
    # Imported here: a start from the cache must not pay seven seconds for torch and transformers.
    import torch

    from model.encoder.torch import load_model, pool

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = load_model(files, precision="fp32")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return pool(hidden, attention_mask, files.pooling)

    ids = torch.ones(2, 8, dtype=torch.int64)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every Python condition on a shape
        return openvino.convert_model(Pooled(), example_input={"input_ids": ids, "attention_mask": mask})
