from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.encoder.files import EncoderFiles, write_files
from model.encoder.torch import TorchEncoder
from tests.unit.trainer.fit.writers import HELD_OUT, PACE, of_both, tiny_files, torchrun, write
from trainer.fit.errors import NothingToFit
from trainer.fit.pretrain import BY_TOKENS, MaskedModel, PretrainSettings, fit_pretrain
from trainer.fit.rounds import Round, TransformerFit
from trainer.fit.texts import Written

QUICK = PretrainSettings(PACE)
ONE_ROUND = PretrainSettings(replace(PACE, epochs=2))


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EncoderFiles:
    return tiny_files(tmp_path_factory.mktemp("encoder") / "tiny")


def fitted(
    written: Written,
    files: EncoderFiles,
    settings: PretrainSettings = QUICK,
    *,
    seed: int = 0,
    checkpoints: Path | None = None,
) -> TransformerFit:
    return fit_pretrain(written, HELD_OUT, files, settings, seed=seed, device="cpu", checkpoints=checkpoints)


def test_hidden_tokens_of_unseen_users_get_likelier_and_the_loss_falls(files: EncoderFiles) -> None:
    fit = fitted(write(files), files)
    assert fit.measured == BY_TOKENS
    assert fit.rounds[-1].losses["tokens"] < fit.rounds[1].losses["tokens"] - 0.2
    assert fit.rounds[fit.chosen].measure > fit.rounds[0].measure + 0.5


def test_a_head_that_the_weights_lack_is_made_tied_to_the_word_embeddings(files: EncoderFiles) -> None:
    net = MaskedModel(files, recompute=False)
    assert net.made_head
    words = net.model.get_input_embeddings().weight
    assert any(weight is words for weight in net.head.parameters())


def test_the_tensors_are_those_of_the_file_and_run_as_an_encoder(files: EncoderFiles, tmp_path: Path) -> None:
    fit = fitted(write(files), files, ONE_ROUND)
    before = load_file(files.directory / "model.safetensors")
    assert {name: value.shape for name, value in fit.tensors.items()} == {
        name: value.shape for name, value in before.items()
    }
    adapted = write_files(files, fit.weights(), tmp_path / "adapted")
    assert adapted.space != files.space
    encoder = TorchEncoder(adapted, name="adapted")
    assert np.isfinite(encoder.encode(encoder.tokenise(["t0w0 c1"]))).all()


def test_a_tokenizer_without_a_mask_cannot_be_pretrained_with_and_says_so(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "tiny", mask=False)
    with pytest.raises(NothingToFit, match="no mask token"):
        fitted(write(files), files)


def test_with_texts_on_one_side_only_there_is_nothing_to_fit(files: EncoderFiles) -> None:
    written = write(files)
    with pytest.raises(NothingToFit, match="0 held out"):
        fit_pretrain(written, np.zeros_like(HELD_OUT), files, QUICK, seed=0, device="cpu")


def test_nothing_is_learned_of_held_out_users(files: EncoderFiles) -> None:
    written = write(files)
    ids = [row.copy() for row in written.ids]
    for text in np.flatnonzero(HELD_OUT[written.user]):
        ids[text][1:-1] = ids[text][1]
    first = fitted(written, files, ONE_ROUND).rounds[1]
    second = fitted(replace(written, ids=ids), files, ONE_ROUND).rounds[1]
    assert first.losses == second.losses
    assert first.measure != second.measure


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(files: EncoderFiles) -> None:
    first = fitted(write(files), files, ONE_ROUND).weights()
    assert first == fitted(write(files), files, ONE_ROUND).weights()
    assert first != fitted(write(files), files, ONE_ROUND, seed=1).weights()


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(files: EncoderFiles, tmp_path: Path) -> None:
    heard: list[int] = []

    def die(told: Round) -> None:
        heard.append(told.steps)
        if len(heard) == 2:
            raise Killed

    written = write(files)
    with pytest.raises(Killed):
        fit_pretrain(written, HELD_OUT, files, QUICK, seed=0, device="cpu", checkpoints=tmp_path, told=die)
    resumed, whole = fitted(written, files, checkpoints=tmp_path), fitted(written, files)
    assert resumed.weights() == whole.weights()
    assert resumed.rounds == whole.rounds


def test_the_process_draws_and_computes_afterwards_as_if_nothing_had_been_fitted(files: EncoderFiles) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(write(files), files, PretrainSettings(replace(PACE, epochs=1)))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_two_processes_of_torchrun_end_with_the_same_weights(tmp_path: Path) -> None:
    done = torchrun("transformer_ranks", "pretrain", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    report, _ = of_both(tmp_path)
    assert report["rounds"][report["chosen"]]["measure"] > report["rounds"][0]["measure"] + 0.5
