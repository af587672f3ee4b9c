from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.encoder.base import Tokens
from model.encoder.files import EncoderFiles, read_files, write_files
from model.encoder.torch import TorchEncoder
from tests.unit.trainer.fit.writers import HELD_OUT, PACE, TOPICS, of_both, tiny_files, torchrun, write
from trainer.fit.encoder import EncoderSettings, fit_encoder, neighbours_of
from trainer.fit.errors import NothingToFit
from trainer.fit.head import BY_LABELS, BY_USERS
from trainer.fit.held_out import neighbour_accuracy
from trainer.fit.rounds import DIVERGED, Round, TransformerFit
from trainer.fit.texts import Written

QUICK = EncoderSettings(PACE)
ONE_ROUND = EncoderSettings(replace(PACE, epochs=2))


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EncoderFiles:
    return tiny_files(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def whole(files: EncoderFiles) -> TransformerFit:
    """Fitted once for all tests that only look."""
    return fitted(write(files), files)


def fitted(
    written: Written,
    files: EncoderFiles,
    settings: EncoderSettings = QUICK,
    *,
    seed: int = 0,
    checkpoints: Path | None = None,
) -> TransformerFit:
    return fit_encoder(written, HELD_OUT, files, settings, seed=seed, device="cpu", checkpoints=checkpoints)


def test_losses_fall_and_labels_of_unseen_users_are_told_better(whole: TransformerFit) -> None:
    first, last = whole.rounds[1], whole.rounds[-1]
    assert whole.measured == BY_LABELS
    assert last.losses["labels"] < 0.8 * first.losses["labels"]
    assert last.losses["titles"] < 0.9 * first.losses["titles"]
    assert whole.rounds[whole.chosen].measure > whole.rounds[0].measure + 0.1
    assert whole.stopped == "all 56 steps are done"


def test_the_tensors_are_those_of_the_file_and_run_as_an_encoder(
    whole: TransformerFit, files: EncoderFiles, tmp_path: Path
) -> None:
    before = load_file(files.directory / "model.safetensors")
    assert {name: value.shape for name, value in whole.tensors.items()} == {
        name: value.shape for name, value in before.items()
    }
    adapted = write_files(files, whole.weights(), tmp_path / "adapted")
    assert adapted.space != files.space
    encoder = TorchEncoder(read_files(adapted.directory), name="adapted")
    written = write(files)
    vectors = torch.from_numpy(encoder.encode(Tokens(written.ids)))[: len(written.user)]
    outside = torch.from_numpy(HELD_OUT[written.user])
    labels = torch.from_numpy(written.labels.astype(np.int64))
    told = neighbour_accuracy(vectors[~outside], labels[~outside], vectors[outside], labels[outside], TOPICS)
    assert whole.rounds[whole.chosen].measure == pytest.approx(told, abs=0.06)  # bf16 there, float32 here


def test_neighbours_of_an_encoder_as_it_is_are_what_its_fit_begins_with(
    files: EncoderFiles, whole: TransformerFit
) -> None:
    found = neighbours_of(write(files), HELD_OUT, files, seed=0, device="cpu")
    assert found == (whole.measured, whole.rounds[0].measure)


def test_without_labels_texts_of_a_user_draw_together(files: EncoderFiles) -> None:
    fit = fitted(write(files, labels=False), files)
    assert fit.measured == BY_USERS
    assert fit.rounds[-1].losses["contrast"] < 0.9 * fit.rounds[1].losses["contrast"]


def test_titles_alone_teach(files: EncoderFiles) -> None:
    only = replace(QUICK, contrast=0.0, titles=1.0)
    losses = [each.losses["titles"] for each in fitted(write(files, labels=False), files, only).rounds[1:]]
    assert losses[-1] < 0.8 * losses[0]


def test_without_titles_the_rest_is_learned(files: EncoderFiles) -> None:
    fit = fitted(write(files, titles=False), files, ONE_ROUND)
    assert fit.rounds[1].losses["titles"] == 0
    assert fit.rounds[1].losses["labels"] > 0


def test_with_neither_labels_nor_pairs_there_is_nothing_to_fit(files: EncoderFiles) -> None:
    with pytest.raises(NothingToFit, match="texts with labels, or users with two texts"):
        fitted(write(files, labels=False, each=1), files)


def test_an_encoder_that_only_gets_worse_is_the_one_that_came(files: EncoderFiles) -> None:
    wild = EncoderSettings(replace(PACE, rate=3.0, epochs=4))
    fit = fitted(write(files), files, wild)
    assert fit.chosen == 0
    before = load_file(files.directory / "model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in fit.tensors.items())


def test_a_loss_that_is_no_number_ends_it_and_what_was_good_is_kept(files: EncoderFiles) -> None:
    fit = fitted(write(files), files, EncoderSettings(replace(PACE, rate=float("inf"))))
    assert fit.stopped == DIVERGED
    assert all(torch.isfinite(value).all() for value in fit.tensors.values())
    json.dumps(fit.report(), allow_nan=False)


def test_nothing_is_learned_of_held_out_users(files: EncoderFiles) -> None:
    written = write(files)
    outside = np.flatnonzero(HELD_OUT[written.user])
    text, labels = written.text.copy(), written.labels.copy()
    text[outside] = text[outside][::-1]
    labels[outside] = labels[outside][:1]
    first = fitted(written, files, ONE_ROUND).rounds[1]
    second = fitted(replace(written, text=text, labels=labels), files, ONE_ROUND).rounds[1]
    # Their texts and labels change, and the losses on the others, to the last bit, do not.
    assert first.losses == second.losses
    assert first.measure != second.measure


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(files: EncoderFiles) -> None:
    written = write(files)
    first = fitted(written, files, ONE_ROUND).weights()
    assert first == fitted(written, files, ONE_ROUND).weights()
    assert first != fitted(written, files, ONE_ROUND, seed=1).weights()


def test_recomputing_layers_changes_nothing(files: EncoderFiles) -> None:
    plain = replace(ONE_ROUND, recompute=False)
    first, second = (fitted(write(files), files, settings).rounds[1] for settings in (ONE_ROUND, plain))
    assert first.losses == pytest.approx(second.losses, rel=1e-3)


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(
    whole: TransformerFit, files: EncoderFiles, tmp_path: Path
) -> None:
    heard: list[int] = []

    def die(told: Round) -> None:
        heard.append(told.steps)
        if len(heard) == 3:
            raise Killed

    written = write(files)
    with pytest.raises(Killed):
        fit_encoder(written, HELD_OUT, files, QUICK, seed=0, device="cpu", checkpoints=tmp_path, told=die)
    resumed = fit_encoder(
        written,
        HELD_OUT,
        files,
        QUICK,
        seed=0,
        device="cpu",
        checkpoints=tmp_path,
        told=lambda told: heard.append(told.steps),
    )
    assert heard == [each.steps for each in whole.rounds], "no round is done twice"
    assert resumed.weights() == whole.weights()
    assert resumed.rounds == whole.rounds
    again = fitted(written, files, checkpoints=tmp_path)
    assert again.weights() == whole.weights(), "a finished fit is read back"


def test_a_checkpoint_of_another_fit_is_not_gone_on_with(files: EncoderFiles, tmp_path: Path) -> None:
    written = write(files)
    fitted(written, files, ONE_ROUND, checkpoints=tmp_path)
    other = replace(written, title=np.full_like(written.title, -1))
    expected = fitted(other, files, ONE_ROUND).weights()
    assert fitted(other, files, ONE_ROUND, checkpoints=tmp_path).weights() == expected


def test_when_the_time_is_over_the_step_under_way_is_the_last(files: EncoderFiles) -> None:
    ticks = iter(range(0, 10_000, 20))  # every look at the clock takes 20 s
    boxed = EncoderSettings(replace(PACE, minutes=3))
    fit = fit_encoder(write(files), HELD_OUT, files, boxed, seed=0, device="cpu", clock=lambda: float(next(ticks)))
    assert fit.stopped == "3 minutes are over"
    assert 1 <= fit.rounds[-1].steps < 14
    assert len(fit.rounds) == 2


def test_a_fit_without_time_gives_the_encoder_as_it_came(files: EncoderFiles) -> None:
    ticks = iter(range(0, 10_000, 600))
    boxed = EncoderSettings(replace(PACE, minutes=1))
    fit = fit_encoder(write(files), HELD_OUT, files, boxed, seed=0, device="cpu", clock=lambda: float(next(ticks)))
    assert [each.steps for each in fit.rounds] == [0]
    assert fit.chosen == 0


def test_two_processes_of_torchrun_end_with_the_same_weights_also_after_a_kill(tmp_path: Path) -> None:
    assert torchrun("transformer_ranks", "encoder", tmp_path, "die").returncode != 0
    assert not list(tmp_path.glob("rank-*"))
    done = torchrun("transformer_ranks", "encoder", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    report, other = of_both(tmp_path)
    assert report["rounds"][report["chosen"]]["measure"] > report["rounds"][0]["measure"] + 0.1
    assert report["told"] == [28, 42, 56], "it went on where it was killed"
    assert other["told"] == []
