"""Kindred's encoder ÷ `SentenceTransformer.encode` as it comes: same texts, same machine, same number of threads.

`python -m benchmarks.encoder` prints a table, or JSON with `--json`. Rounds are interleaved, so that what else the
machine does falls on both; the ratio is that of the medians. Both start from strings: tokenising is part of the time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.clean import clean
from model.encoder.base import Vectors
from model.encoder.load import find_encoder, load_encoder
from model.hardware import available_cores, machine_id

DEMO = Path(__file__).parent.parent / "ops" / "demo" / "stackexchange.jsonl.gz"
BATCH = 256
"""Texts that a worker encodes at a time; sentence-transformers is given all of them at once, which suits it best."""


@dataclass(frozen=True, slots=True)
class EncoderBench:
    """texts_per_s: of each; ratio: ours ÷ theirs; cpu_ratio: the same in seconds of CPU time, which other
    load on the machine changes less; cosines: of our vectors to theirs (fp32)."""

    encoder: str
    backend: str
    machine: str
    threads: int
    texts: int
    mean_tokens: float
    rounds: int
    texts_per_s: float
    sentence_transformers_per_s: float
    ratio: float
    cpu_ratio: float
    cosine_mean: float
    cosine_min: float
    padding_share: float


def demo_texts(count: int) -> list[str]:
    """Cleaned texts, evenly spread over the demo's stream, in its order."""
    with gzip.open(DEMO, "rt", encoding="utf-8") as lines:
        texts = [clean(json.loads(line)["text"]) for line in lines]
    return texts[:: max(len(texts) // count, 1)][:count]


def run(
    *,
    encoder: str = "minilm",
    backend: str = "auto",
    texts: int = 512,
    rounds: int = 5,
    threads: int | None = None,
    cache: Path | None = None,
) -> EncoderBench:
    """Measure. Without a cache directory the backend is chosen, and the model converted, in a temporary one."""
    if cache is None:
        with tempfile.TemporaryDirectory() as directory:
            return run(
                encoder=encoder, backend=backend, texts=texts, rounds=rounds, threads=threads, cache=Path(directory)
            )
    import torch
    from sentence_transformers import SentenceTransformer

    threads = threads or available_cores()
    ours = load_encoder(encoder, backend=backend, device="cpu", cache=cache, threads=threads)
    theirs = SentenceTransformer(str(find_encoder(encoder, cache=cache)), device="cpu")
    torch.set_num_threads(threads)
    sample = demo_texts(texts)

    def encode_ours() -> Vectors:
        parts = [sample[start : start + BATCH] for start in range(0, len(sample), BATCH)]
        return np.concatenate([ours.encode(ours.tokenise(part)) for part in parts])

    def encode_theirs() -> Vectors:
        return np.asarray(theirs.encode(sample, show_progress_bar=False), np.float32)

    vectors, reference = encode_ours(), encode_theirs()  # the warm-up of both
    own, other = [], []
    for _ in range(rounds):
        own.append(_seconds(encode_ours))
        other.append(_seconds(encode_theirs))
    cosines = (vectors * reference).sum(axis=1) / np.linalg.norm(reference, axis=1)
    (took, cpu), (took_other, cpu_other) = _medians(own), _medians(other)
    return EncoderBench(
        encoder=encoder,
        backend=ours.backend,
        machine=machine_id(),
        threads=threads,
        texts=len(sample),
        mean_tokens=round(float(ours.tokenise(sample).lengths().mean()), 1),
        rounds=rounds,
        texts_per_s=round(len(sample) / took, 1),
        sentence_transformers_per_s=round(len(sample) / took_other, 1),
        ratio=round(took_other / took, 2),
        cpu_ratio=round(cpu_other / cpu, 2),
        cosine_mean=round(float(cosines.mean()), 6),
        cosine_min=round(float(cosines.min()), 6),
        padding_share=round(1 - ours.counters.tokens / ours.counters.padded_tokens, 4),
    )


def _seconds(job: Callable[[], Vectors]) -> tuple[float, float]:
    """Wall and CPU seconds of a job."""
    start, start_cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - start, time.process_time() - start_cpu


def _medians(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in rounds), statistics.median(cpu for _, cpu in rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description="Kindred's encoder against SentenceTransformer.encode as it comes.")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "openvino"))
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="of both; default: the cores this process may use")
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = run(
        encoder=given.encoder,
        backend=given.backend,
        texts=given.texts,
        rounds=given.rounds,
        threads=given.threads,
        cache=given.cache,
    )
    if given.json:
        print(json.dumps(asdict(found)))
        return
    for key, value in asdict(found).items():
        print(f"{key.replace('_', ' '):28} {value}")


if __name__ == "__main__":
    main()
