"""A BERT of a few kilobytes with random weights, as a directory: everything an encoder is asked for but meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

_WORDS = (
    "the a bread dough bake oven flour proof graph theorem series prime hike guitar lens goal up down left 面 包 电"
)
WORDS = tuple(_WORDS.split())


def write_tiny_encoder(
    directory: Path,
    *,
    pooling: str = "mean",
    hidden: int = 32,
    max_tokens: int = 48,
    lowercase: bool = False,
    seed: int = 0,
    words: Sequence[str] = WORDS,
) -> Path:
    """2 layers, 4 heads, the words above or others. Returns `directory`."""
    (directory / "1_Pooling").mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tensors = bert_weights(words=len(vocabulary), hidden=hidden, positions=64, seed=seed)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": len(vocabulary), "hidden_size": hidden,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * hidden, "hidden_act": "gelu",
        "max_position_embeddings": 64, "type_vocab_size": 2, "pad_token_id": 0,
    }  # fmt: skip
    write_json(directory / "config.json", config)
    mode = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}[pooling]
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, mode: True})
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": lowercase})
    kinds = ["Transformer", "Pooling", "Normalize"]
    write_json(directory / "modules.json", [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    tokenizer: Any = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def bert_weights(*, words: int, hidden: int, positions: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Random tensors under transformers' names, large enough that every part of the model matters."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def norm(name: str) -> dict[str, NDArray[np.float32]]:
        return {f"{name}.LayerNorm.weight": 1 + drawn(hidden), f"{name}.LayerNorm.bias": drawn(hidden)}

    def dense(name: str, size: int, inputs: int) -> dict[str, NDArray[np.float32]]:
        return {f"{name}.weight": drawn(size, inputs), f"{name}.bias": drawn(size)}

    tensors = {
        "embeddings.word_embeddings.weight": drawn(words, hidden),
        "embeddings.position_embeddings.weight": drawn(positions, hidden),
        "embeddings.token_type_embeddings.weight": drawn(2, hidden),
        **norm("embeddings"),
    }
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("query", "key", "value"):
            tensors |= dense(f"{layer}.attention.self.{part}", hidden, hidden)
        tensors |= dense(f"{layer}.attention.output.dense", hidden, hidden) | norm(f"{layer}.attention.output")
        tensors |= dense(f"{layer}.intermediate.dense", 2 * hidden, hidden)
        tensors |= dense(f"{layer}.output.dense", hidden, 2 * hidden) | norm(f"{layer}.output")
    return tensors


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
