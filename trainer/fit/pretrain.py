"""The `pretrain` fit: masked-language modelling on cleaned texts, to make an encoder at home in a domain.

transformers' own collator hides 15 % of the tokens (Devlin et al., "BERT", 2019); what decides is how likely the hidden
tokens of held-out users' texts are. Sentence encoders come without the head that guesses tokens: where the weights lack
it, it is made anew, tied to the word embeddings as in BERT, and learns at a rate of its own. It is not kept.

Likelier tokens are not better vectors: whether the encoder has gained is for whoever calls to find out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from model.encoder.files import EncoderFiles
from model.encoder.padding import micro_batches
from model.encoder.torch import quiet
from trainer.fit.encoder import BUDGET, arrays
from trainer.fit.errors import NothingToFit
from trainer.fit.rounds import Pace, Round, TransformerFit, half_precision, in_rounds, recompute_layers
from trainer.fit.texts import Written
from trainer.fit.training import Place, fingerprint, joined, repeatable

BY_TOKENS: Final = "log-likelihood of hidden tokens"
ASKED: Final = 512
"""Held-out texts whose tokens are hidden after each round: some thousands of tokens."""

_HIDDEN: Final = -100
"""What the collator's labels are where nothing is to be guessed."""
_SPECIAL: Final = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """pace: of the steps. hidden: share of the tokens that are to be guessed. recompute: gradients layer by layer, a
    third more time for a fraction of the memory."""

    pace: Pace = field(default_factory=lambda: Pace(rate=5e-5))
    hidden: float = 0.15
    recompute: bool = True


def fit_pretrain(
    written: Written,
    held_out: NDArray[np.bool_],
    files: EncoderFiles,
    settings: PretrainSettings | None = None,
    *,
    seed: int,
    device: str = "auto",
    checkpoints: Path | None = None,
    told: Callable[[Round], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TransformerFit:
    """The encoder in `files`, as it guesses hidden tokens of held-out users' texts best.

    held_out: (U,) by number of user; of their texts nothing is learned. The rest: as for `fit_encoder`. Raises
    NothingToFit (no texts on one side, no mask token, an architecture without a masked-language head that can be told
    from the rest), CheckpointsDiffer, and EncoderUnusable.
    """
    settings = settings or PretrainSettings()
    tokenizer = _tokenizer(files)
    learned, asked = _texts(written, held_out, seed)
    with joined(device) as place, repeatable(seed, place.device):
        said = {"pretrain": asdict(settings), "space": files.space, "seed": seed, "processes": place.processes}
        of = fingerprint(said, [*arrays(written), held_out]) if checkpoints is not None else ""
        net = MaskedModel(files, recompute=settings.recompute).to(place.device)
        task = _Task(written.ids, learned, asked, net, tokenizer, settings, seed, place)
        return in_rounds(task, settings.pace, place, seed=seed, of=of, checkpoints=checkpoints, told=told, clock=clock)


class MaskedModel(torch.nn.Module):
    """model: the Transformer. head: hidden states → logits of tokens. made_head: whether the weights lacked it."""

    def __init__(self, files: EncoderFiles, *, recompute: bool) -> None:
        super().__init__()
        with quiet():
            whole, info = AutoModelForMaskedLM.from_pretrained(
                files.directory,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        heads = [child for child in whole.children() if child is not whole.base_model]
        if len(heads) != 1:
            raise NothingToFit(
                f"{files.model_type} models have no masked-language head of one piece; leave `pretrain` out of "
                "KINDRED_FIT"
            )
        if recompute:
            recompute_layers(whole)
        self.model = whole.base_model
        self.head = heads[0]
        self.made_head = bool(info["missing_keys"])

    def forward(self, batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """(B, T) ids, mask and labels of each batch → the sum of −log p over the hidden tokens."""
        return torch.stack([self._loss(*batch) for batch in batches]).sum()

    def _loss(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        guessed = labels != _HIDDEN
        with half_precision(ids.device):
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, D)
            # Logits of the hidden tokens only: a vocabulary is dearer than a layer.
            logits = self.head(hidden[guessed])
        return functional.cross_entropy(logits.float(), labels[guessed], reduction="sum")


class _Task:
    measured = BY_TOKENS

    def __init__(
        self,
        ids: Sequence[NDArray[np.int32]],
        learned: NDArray[np.int64],
        asked: NDArray[np.int64],
        net: MaskedModel,
        tokenizer: PreTrainedTokenizerFast,
        settings: PretrainSettings,
        seed: int,
        place: Place,
    ) -> None:
        self._ids = ids
        self._learned = learned
        self._seed = seed
        self._place = place
        self._batch = settings.pace.batch
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=settings.hidden)
        self.net: torch.nn.Module = net
        self.model: torch.nn.Module = net.model
        self.texts = len(learned)
        # Always the same tokens of them are hidden: rounds are compared on the same questions.
        self._questions = self._batches(asked)

    def begin(self) -> None:
        """Nothing: the head learns together with the rest."""

    def loss(self, net: torch.nn.Module, step: int) -> tuple[Tensor, dict[str, float], int]:
        steps = -(-self.texts // self._batch)
        order = np.random.default_rng([self._seed, step // steps + 1]).permutation(self.texts)
        mine = self._place.share(np.array_split(order, steps)[step % steps])
        batches = self._batches(self._learned[mine])
        count = _guessed(batches)
        total = net(batches)
        return total / max(1, count), {"tokens": float(total.detach())}, count

    def measure(self) -> float:
        total = sum(float(self.net([batch])) for batch in self._questions)
        return -total / max(1, _guessed(self._questions))

    def _batches(self, texts: NDArray[np.int64]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Tokens are hidden by torch's generator."""
        ids = [self._ids[text] for text in texts]
        chosen = micro_batches(np.array([len(row) for row in ids], np.int32), BUDGET)
        made: list[Any] = [self._collator([{"input_ids": ids[row].tolist()} for row in rows]) for rows in chosen]
        return [
            tuple(each[name].to(self._place.device) for name in ("input_ids", "attention_mask", "labels"))
            for each in made
        ]


def _guessed(batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> int:
    return sum(int((labels != _HIDDEN).sum()) for *_, labels in batches)


def _texts(written: Written, held_out: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ids to learn from, and those of held-out users only. Raises NothingToFit."""
    outside = held_out[written.user]
    learned = np.unique(np.concatenate([written.text[~outside], written.title[~outside & (written.title >= 0)]]))
    asked = np.setdiff1d(written.text[outside], learned)
    if not len(learned) or not len(asked):
        raise NothingToFit(f"{len(learned)} texts to learn from and {len(asked)} held out: both must be some")
    chosen = np.random.default_rng(seed).choice(asked, min(ASKED, len(asked)), replace=False)
    return learned.astype(np.int64), np.sort(chosen).astype(np.int64)


def _tokenizer(files: EncoderFiles) -> PreTrainedTokenizerFast:
    """As transformers' collator wants it. Raises NothingToFit where nothing can be hidden."""
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    found = {
        kind: name for kind, names in _SPECIAL.items() for name in names if tokenizer.token_to_id(name) is not None
    }
    if not {"mask_token", "pad_token"} <= found.keys():
        raise NothingToFit("the encoder's tokenizer has no mask token, or none to pad with; leave out `pretrain`")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **found)
