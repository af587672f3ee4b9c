from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.unit.trainer.fit.scenes import DIMENSION, HELD_OUT, TOPICS, people
from trainer.fit.errors import NothingToFit
from trainer.fit.head import BY_LABELS, BY_USERS, Epoch, HeadFit, HeadSettings, ResidualHead, fit_head
from trainer.fit.texts import Texts
from trainer.fit.training import CHECKPOINT

ROOT = Path(__file__).parents[4]
QUICK = HeadSettings(hidden=16, epochs=6, patience=6, batch=64, rate=5e-3, decay=1.0)


class Killed(Exception):
    pass


def fitted(texts: Texts, settings: HeadSettings = QUICK, *, seed: int = 0, checkpoints: Path | None = None) -> HeadFit:
    return fit_head(texts, HELD_OUT, settings, seed=seed, device="cpu", checkpoints=checkpoints)


def weights(fit: HeadFit) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in fit.tensors.items()}


def interest(fit: HeadFit, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The formula of the module, in numpy."""
    tensors = fit.tensors
    hidden = np.maximum(vectors @ tensors["up.weight"].T + tensors["up.bias"], 0)
    moved = vectors + hidden @ tensors["down.weight"].T + tensors["down.bias"]
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True))


def neighbours_tell(texts: Texts, vectors: NDArray[np.float32], k: int = 50) -> float:
    """Label accuracy on held-out users, written out."""
    outside = HELD_OUT[texts.user]
    similarities = vectors[outside] @ vectors[~outside].T
    right = 0
    for row, wanted in zip(similarities, texts.labels[outside], strict=True):
        scores = np.zeros(texts.label_count)
        for place in np.argsort(-row)[:k]:
            for label in texts.labels[~outside][place]:
                scores[label] += max(row[place], 0) if label >= 0 else 0
        right += scores.argmax() in wanted
    return right / int(outside.sum())


def test_labels_of_unseen_users_are_told_better_with_the_head() -> None:
    texts = people()
    fit = fitted(texts)
    identity, chosen = fit.epochs[0], fit.epochs[fit.chosen]
    vectors = texts.vectors.astype(np.float32)
    assert fit.measured == BY_LABELS
    assert chosen.measure > identity.measure + 0.05
    assert identity.measure == pytest.approx(neighbours_tell(texts, vectors), abs=0.01)
    assert chosen.measure == pytest.approx(neighbours_tell(texts, interest(fit, vectors)), abs=0.01)


def test_label_scores_are_those_of_the_interest() -> None:
    texts = people()
    fit = fitted(texts)
    outside = HELD_OUT[texts.user]
    logits = interest(fit, texts.vectors[outside].astype(np.float32)) @ fit.tensors["labels.weight"].T
    best = (logits + fit.tensors["labels.bias"]).argmax(axis=1)
    accuracy = float((best == texts.labels[outside][:, 0]).mean())
    assert fit.epochs[fit.chosen].label_accuracy == pytest.approx(accuracy, abs=0.01)
    assert accuracy > 0.5


def test_tensors_have_the_names_and_shapes_of_a_release() -> None:
    shapes = {name: value.shape for name, value in fitted(people()).tensors.items()}
    assert shapes == {
        "up.weight": (16, DIMENSION),
        "up.bias": (16,),
        "down.weight": (DIMENSION, 16),
        "down.bias": (DIMENSION,),
        "labels.weight": (TOPICS, DIMENSION),
        "labels.bias": (TOPICS,),
    }
    assert all(value.dtype == np.float32 for value in fitted(people(labels=False, noise=2.0)).tensors.values())


def test_a_head_that_only_does_harm_is_the_identity() -> None:
    wild = replace(QUICK, rate=10.0, decay=0.0, epochs=2)
    fit = fitted(people(noise=0.2), wild)
    assert fit.chosen == 0
    assert not fit.tensors["down.weight"].any()
    assert not fit.tensors["down.bias"].any()
    # Its label scores are those that were fitted to the identity.
    assert (fit.epochs[0].label_accuracy or 0) > 0.9


def test_it_stops_when_patience_is_out_and_says_why() -> None:
    fit = fitted(people(noise=0.2), replace(QUICK, rate=10.0, patience=2))
    assert len(fit.epochs) == 3
    assert fit.stopped == "no better epoch in 2"
    assert fitted(people()).stopped == "all 6 epochs are done"


def test_without_labels_texts_of_a_user_draw_together() -> None:
    fit = fitted(people(labels=False, noise=2.0))
    assert fit.measured == BY_USERS
    assert fit.epochs[fit.chosen].measure > fit.epochs[0].measure
    assert set(fit.tensors) == {"up.weight", "up.bias", "down.weight", "down.bias"}
    assert all(epoch.label_loss is None and epoch.label_accuracy is None for epoch in fit.epochs)
    assert fit.epochs[-1].contrast_loss is not None


def test_with_one_text_a_user_only_labels_are_learned() -> None:
    fit = fitted(people(each=1))
    assert fit.epochs[-1].contrast_loss is None
    assert fit.epochs[-1].label_loss is not None


def test_events_with_several_labels_teach_all_of_them() -> None:
    texts = people(several=True)
    fit = fitted(texts)
    asked = interest(fit, texts.vectors[HELD_OUT[texts.user]].astype(np.float32))
    logits = asked @ fit.tensors["labels.weight"].T + fit.tensors["labels.bias"]
    topic = logits[:, :TOPICS].argmax(axis=1)
    half = logits[:, TOPICS:].argmax(axis=1)
    assert float((topic // 2 == half).mean()) > 0.8


@pytest.mark.parametrize("each", [1, 0])
def test_with_neither_labels_nor_pairs_there_is_nothing_to_fit_and_it_says_what_is_missing(each: int) -> None:
    with pytest.raises(NothingToFit, match="texts with labels, or users with two texts"):
        fitted(people(labels=False, each=each))


def test_labels_on_one_side_only_are_not_learned() -> None:
    texts = people()
    only_outside = np.where(HELD_OUT[texts.user][:, None], texts.labels, -1)
    assert fitted(replace(texts, labels=only_outside)).measured == BY_USERS


def test_nothing_is_learned_of_held_out_users() -> None:
    texts = people()
    outside = np.flatnonzero(HELD_OUT[texts.user])
    other = texts.vectors.copy()
    other[outside] = other[outside][::-1]
    labels = texts.labels.copy()
    labels[outside] = (labels[outside] + 1) * (labels[outside] >= 0) % TOPICS - (labels[outside] < 0)
    # Their vectors and labels change, and one epoch's losses on the others, to the last bit, do not.
    one = replace(QUICK, epochs=1)
    first, second = fitted(texts, one).epochs[1], fitted(replace(texts, vectors=other, labels=labels), one).epochs[1]
    assert (first.label_loss, first.contrast_loss) == (second.label_loss, second.contrast_loss)
    assert first.measure != second.measure


def test_a_row_of_zeros_stays_one_whatever_the_biases() -> None:
    head = ResidualHead(4, 3, 0)
    torch.nn.init.ones_(head.down.bias)
    found, _ = head(torch.tensor([[0.0] * 4, [0.6, 0.8, 0.0, 0.0]]))
    assert not found[0].detach().any()
    assert float(found[1].detach().norm()) == pytest.approx(1)


def test_decay_holds_the_head_near_the_identity() -> None:
    free, held = (fitted(people(), replace(QUICK, decay=decay)) for decay in (0.0, 20.0))
    assert np.linalg.norm(held.tensors["down.weight"]) < 0.8 * np.linalg.norm(free.tensors["down.weight"])


def test_rows_of_zeros_do_no_harm() -> None:
    texts = people()
    vectors = texts.vectors.copy()
    vectors[::7] = 0
    fit = fitted(replace(texts, vectors=vectors))
    assert all(np.isfinite(value).all() for value in fit.tensors.values())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    texts = people()
    assert weights(fitted(texts)) == weights(fitted(texts))
    assert weights(fitted(texts)) != weights(fitted(texts, seed=1))


def test_the_process_draws_and_computes_afterwards_as_if_nothing_had_been_fitted() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(people(), replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(tmp_path: Path, epoch: int, labels: bool) -> None:
    texts = people(labels=labels)
    heard: list[int] = []

    def die(told: Epoch) -> None:
        heard.append(told.epoch)
        if told.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        fit_head(texts, HELD_OUT, QUICK, seed=0, device="cpu", checkpoints=tmp_path, told=die)
    resumed = fit_head(
        texts, HELD_OUT, QUICK, seed=0, device="cpu", checkpoints=tmp_path, told=lambda told: heard.append(told.epoch)
    )
    whole = fitted(texts)
    assert heard == [*range(7)], "no epoch is fitted twice"
    assert weights(resumed) == weights(whole)
    assert (resumed.epochs, resumed.chosen) == (whole.epochs, whole.chosen)


def test_a_finished_fit_is_read_back(tmp_path: Path) -> None:
    first = fitted(people(), checkpoints=tmp_path)
    again = fitted(people(), checkpoints=tmp_path)
    assert weights(again) == weights(first)
    assert again.epochs == first.epochs


@pytest.mark.parametrize("change", ["settings", "seed", "texts", "labels"])
def test_a_checkpoint_of_another_fit_is_not_gone_on_with(tmp_path: Path, change: str) -> None:
    texts, settings, seed = people(), QUICK, 0
    fitted(texts, checkpoints=tmp_path)
    if change == "settings":
        settings = replace(settings, rate=1e-3)
    elif change == "seed":
        seed = 1
    elif change == "texts":
        texts = people(seed=1)
    else:
        texts = replace(texts, labels=texts.labels[::-1].copy())
    assert weights(fitted(texts, settings, seed=seed, checkpoints=tmp_path)) == weights(
        fitted(texts, settings, seed=seed)
    )


def test_a_damaged_checkpoint_costs_a_beginning(tmp_path: Path) -> None:
    whole = fitted(people(), checkpoints=tmp_path)
    file = tmp_path / CHECKPOINT
    file.write_bytes(file.read_bytes()[:-100])
    assert weights(fitted(people(), checkpoints=tmp_path)) == weights(whole)


def test_seconds_are_those_of_all_runs(tmp_path: Path) -> None:
    ticks = iter(range(1000))

    def die(told: Epoch) -> None:
        raise Killed

    def clock() -> float:
        return next(ticks)

    with pytest.raises(Killed):
        fit_head(people(), HELD_OUT, QUICK, seed=0, device="cpu", checkpoints=tmp_path, told=die, clock=clock)
    ticks = iter(range(5000, 6000))
    fit = fit_head(people(), HELD_OUT, QUICK, seed=0, device="cpu", checkpoints=tmp_path, clock=clock)
    assert fit.seconds == 1 + 7, "one tick before it was killed, and one an epoch and at the end"


def test_the_report_is_plain_json() -> None:
    report = json.loads(json.dumps(fitted(people()).report(), allow_nan=False))
    assert report["chosen"] <= 6
    assert report["epochs"][0]["label_loss"] is None
    assert [epoch["epoch"] for epoch in report["epochs"]] == [*range(7)]


def torchrun(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", "tests.unit.trainer.fit.ranks", str(out), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )


def test_two_processes_of_torchrun_end_with_the_same_weights_also_after_a_kill(tmp_path: Path) -> None:
    assert torchrun(tmp_path, "die").returncode != 0
    assert not list(tmp_path.glob("rank-*"))
    done = torchrun(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }
    report, other = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert report["epochs"] == other["epochs"]
    assert report["epochs"][report["chosen"]]["measure"] > report["epochs"][0]["measure"] + 0.05
    assert report["told"] == [3, 4, 5, 6], "it went on where it was killed"
    assert other["told"] == []
    assert report["left"] == other["left"] == [], "threads of the group would abort a process that ends"


def test_a_process_of_several_fits_alone_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(QUICK, epochs=1)
    plain = fit_head(people(), HELD_OUT, settings, seed=0, device="cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")  # and nothing that a group could be made of
    monkeypatch.setenv("RANK", "0")
    assert weights(fit_head(people(), HELD_OUT, settings, seed=0, device="cpu", alone=True)) == weights(plain)
