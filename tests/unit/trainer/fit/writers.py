"""Texts of made-up users as tokens of a tiny encoder: each writes about one topic, in words that a topic shares with no
other and in words that everybody uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.files import EncoderFiles, read_files
from model.tokenise import Tokeniser
from tests.tiny_encoder import write_tiny_encoder
from trainer.fit.rounds import Pace
from trainer.fit.texts import Written

TOPICS: Final = 4
USERS: Final = 48
HELD_OUT: NDArray[np.bool_] = np.arange(USERS) % 4 == 0
TOPIC_WORDS: Final = tuple(tuple(f"t{topic}w{word}" for word in range(4)) for topic in range(TOPICS))
COMMON: Final = tuple(f"c{word}" for word in range(12))
PACE: Final = Pace(epochs=8, batch=16, round=14, rate=3e-3, new_rate=1e-2)
"""Four rounds after the first."""


def tiny_files(directory: Path, *, mask: bool = True, pooling: str = "mean") -> EncoderFiles:
    """An encoder that knows the words, in `directory`; written once."""
    words = [*COMMON, *(word for words in TOPIC_WORDS for word in words), *(["[MASK]"] if mask else [])]
    if not directory.is_dir():
        write_tiny_encoder(directory, words=words, pooling=pooling)
    return read_files(directory)


def write(files: EncoderFiles, *, each: int = 3, labels: bool = True, titles: bool = True, seed: int = 0) -> Written:
    """USERS users with `each` texts: one word of three is of the topic. A title is two words of the topic."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS, dtype=np.int32), each)
    topic = draw.integers(0, TOPICS, USERS)[user]
    texts = [" ".join([*draw.choice(TOPIC_WORDS[t], 3), *draw.choice(COMMON, 6)]) for t in topic]
    named = [" ".join(draw.choice(TOPIC_WORDS[t], 2)) for t in range(TOPICS) for _ in range(3)]
    tokenise = Tokeniser(files.tokenizer, max_tokens=files.max_tokens)
    title = len(texts) + 3 * topic + draw.integers(0, 3, len(texts)) if titles else np.full(len(texts), -1)
    return Written(
        ids=tokenise([*texts, *named]).ids,
        user=user,
        text=np.arange(len(texts), dtype=np.int32),
        title=title.astype(np.int32),
        labels=(topic[:, None] if labels else np.full((len(texts), 1), -1)).astype(np.int32),
        label_count=TOPICS if labels else 0,
    )


def torchrun(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Two processes of a module beside this one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", f"tests.unit.trainer.fit.{program}", *map(str, arguments)],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def of_both(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reports of both processes, whose weights are the same to the last bit."""
    first, second = ((out / f"rank-{rank}.safetensors").read_bytes() for rank in (0, 1))
    assert first == second
    report, other = (json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert report["rounds"] == other["rounds"]
    return report, other
