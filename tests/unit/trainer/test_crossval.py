"""What the cross-validation says of an answer is what a worker would have said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.evidence import gather
from model.head import identity
from model.signals import SIGNALS, candidates, columns_of
from model.transfer_weights import TransferWeights
from tests.refits import window
from trainer.crossval import LONGEST, ranked, sure_of
from trainer.measure import populated
from trainer.questions import Questions
from worker.answer import Question, answer

WEIGHTS = TransferWeights(tuple(0.5 for _ in SIGNALS))
ASKED = 40


def test_items_and_confidence_are_those_of_a_workers_answers(tmp_path: Path) -> None:
    data, vectors = window(tmp_path)
    index = populated(data, vectors, identity)
    events = np.flatnonzero(data.text >= 0)[:ASKED]
    asked = np.asarray(vectors[data.text[events]], np.float32)
    # Every other newcomer has an item in common with others.
    items = [(int(data.item[event]),) if number % 2 else () for number, event in enumerate(events.tolist())]
    told = answer(
        [
            Question("u", b"", 1, "t", 0, number, "e", "a text", asked[number], items[number], {}, 0)
            for number in range(len(events))
        ],
        index,
        WEIGHTS,
        release="r",
        space="s",
    )
    queries, known = index.queries([b""] * len(events), asked, items, [{}] * len(events)), index.known(0)
    evidence = gather(queries, known, WEIGHTS.own_labels)
    found = candidates(queries, known, evidence, columns_of(evidence, known, 0, len(events)), 0, len(events), LONGEST)
    questions = Questions(
        user=data.user[events],
        event=events,
        known=np.ones(len(events), np.int32),
        items=found.slots,
        signals=found.signals.astype(np.float16),
        sharing=found.counts[:, :, 1].astype(np.int32),
        strength=evidence.strength,
        plain={},
        wanted=np.full((len(events), 1), -1, np.int32),
        reachable=np.ones(len(events), np.bool_),
    )
    said = np.array([one["confidence"] for one in told])
    assert sure_of(questions, WEIGHTS) == pytest.approx(said, abs=2e-3)
    assert np.ptp(said) > 0.1, "otherwise it would tell nothing"
    names = [[index.items.ids[slot] for slot in row[:10].tolist() if slot >= 0] for row in ranked(questions, WEIGHTS)]
    same = [set(mine) == {item["item_id"] for item in one["items"]} for mine, one in zip(names, told, strict=True)]
    assert np.mean(same) > 0.8, "but for ties that half precision makes"
