"""Refits that begin with the encoder itself: a tiny one with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from model.encoder.files import EncoderFiles, read_files
from model.encoder.load import load_encoder
from model.transfer_weights import TransferWeights
from tests.communities import WORDS, write_community
from tests.tiny_encoder import write_tiny_encoder
from tests.unit.trainer.test_recipe import World
from tests.windows import NOW_MS, MemoryLog, fill
from trainer.adapt import DIRECTORY, Adapting, written
from trainer.crossval import Validated
from trainer.fit.encoder import EncoderSettings, fit_encoder
from trainer.fit.jobs import Job, fit_together
from trainer.fit.pretrain import PretrainSettings, fit_pretrain
from trainer.fit.rounds import Pace, TransformerFit
from trainer.fit.texts import Written
from trainer.learn import Learner
from trainer.prepare import Least, prepare
from trainer.recipe import Refit
from trainer.release import REPORT
from trainer.window import Window
from worker.serving import load_announced

LEARNS: Final = EncoderSettings(Pace(epochs=12, batch=32, round=40, rate=2e-3, new_rate=1e-2))
QUICK: Final = PretrainSettings(Pace(epochs=2, batch=32, round=40, rate=1e-3, new_rate=1e-2))
FOR_NOTHING: Final = PretrainSettings(Pace(epochs=1, batch=32, rate=1e-7, new_rate=1e-2))
"""The head learns, the encoder does not."""


@dataclass(slots=True)
class Seen:
    """learned: part → users whose texts it was given. asked: users of the contest."""

    learned: dict[str, set[int]] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)

    def spied(self, name: str, fit: Callable[..., Any]) -> Callable[..., Any]:
        def spy(texts: Written, *arguments: Any, **options: Any) -> Any:
            self.learned[name] = set(texts.user.tolist())
            return fit(texts, *arguments, **options)

        return spy

    def contest(self, whole: Callable[..., Validated]) -> Callable[..., Validated]:
        def spy(learner: Learner, *arguments: Any) -> Validated:
            found = whole(learner, *arguments)
            self.asked.update(found.items.user.tolist(), found.labels.user.tolist())
            return found

        return spy


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on two, by far where others are at work."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.encoder.load.available_cores", lambda: 1)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


def noisy(directory: Path) -> World:
    """A single word tells what a text is about, and to an encoder with random weights it is one word of many."""
    words = [*WORDS, *(f"noise{number}" for number in range(16)), "About", "[MASK]"]
    tiny = write_tiny_encoder(directory / "tiny", words=words)
    world = World(directory, encoder=str(tiny), current=TransferWeights.default())
    write_community(world.log, 130, noise=10)
    return world


def adapting(
    world: World, *, encoder: EncoderSettings | None = None, pretrain: PretrainSettings | None = None
) -> Adapting:
    def load(path: Path) -> Any:
        return load_encoder(str(path), cache=world.directory, device="cpu", backend="torch")

    files = None if world.encoder == "dummy" else read_files(Path(world.encoder))
    return Adapting(files, load, pretrain, encoder)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return noisy(tmp_path_factory.mktemp("noisy"))


@pytest.fixture(scope="module")
def won(world: World, seen: Seen) -> Refit:
    """One refit, for all tests that only look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.fit.jobs.fit_encoder", seen.spied("encoder", fit_encoder))
        patch.setattr("trainer.fit.jobs.fit_pretrain", seen.spied("pretrain", fit_pretrain))
        patch.setattr(Learner, "contest", seen.contest(Learner.contest))
        return world.refit(blend=None, adapting=adapting(world, encoder=LEARNS, pretrain=QUICK))


def test_an_adapted_encoder_that_wins_is_in_the_release_with_its_own_space(world: World, won: Refit) -> None:
    made, manifest = won.made, won.whole.manifest
    assert made is not None
    assert made.adapted.kept is not None, made.adapted.dropped
    assert set(made.adapted.fits) == {"pretrain", "encoder"}
    assert won.verdict.accepted, won.verdict.reasons
    assert manifest.space == made.adapted.kept.files.space
    assert manifest.space != read_files(Path(world.encoder)).space
    assert manifest.encoder.reference is None
    assert manifest.encoder.name.endswith(", adapted")
    assert manifest.metrics["label_accuracy.candidate.all"] > manifest.metrics["label_accuracy.raw_knn.all"] + 0.1
    assert manifest.metrics["label_accuracy.candidate.all.spread"] == 0, "one hold-out, not folds"
    assert json.loads((won.whole.path / REPORT).read_text())["encoder"]["contest"]["gain.low"] > 0
    assert not (world.directory / DIRECTORY).exists()


def test_nobody_of_the_hold_out_is_learned_from(won: Refit, seen: Seen) -> None:
    assert len(seen.asked) > 20
    assert set(seen.learned) == {"encoder", "pretrain"}
    for users in seen.learned.values():
        assert len(users) > 50
        assert not users & seen.asked


def test_a_worker_can_serve_it(world: World, won: Refit) -> None:
    (told,) = world.told
    encoder, serving = load_announced(told, place=world.place, load=world.load, limit=10)
    assert (serving.release, serving.space) == (told.release, told.space)
    assert encoder.space == won.whole.manifest.space
    assert np.isfinite(encoder.encode(encoder.tokenise(list(WORDS)))).all()


def test_the_release_after_it_has_its_encoder_too(world: World, won: Refit) -> None:
    serving = world.load(won.whole.path)
    world.log.write("newcomer", "beer noise1", item_id="beer-1", timestamp=NOW_MS + 10**9)
    after = world.refit(blend=None, serving=serving)
    assert after.whole.manifest.name != won.whole.manifest.name
    assert after.whole.manifest.encoder == won.whole.manifest.encoder
    own = [path.stat().st_size for path in (after.whole.path / "encoder").rglob("*") if path.is_file()]
    assert after.verdict.numbers["size.bytes"] >= sum(own) > 0
    assert world.load(after.whole.path).encoder.space == serving.encoder.space


def test_a_refit_after_it_asks_nobody_whom_its_encoder_has_learned_from(world: World, won: Refit, seen: Seen) -> None:
    """Whatever the window is by then: here it begins later, and with others."""
    before = won.made
    assert before is not None
    later = World(world.directory / "later", encoder=world.encoder, told=list(world.told))
    later.directory.mkdir()
    for number in range(40):
        later.log.write(f"other-{number}", "beer noise1", item_id="beer-1", labels=["beer"], timestamp=NOW_MS)
    for record in world.log.partitions[0][40:]:
        assert record is not None
        later.log.append(record.key or b"", record.value, timestamp=record.timestamp)
    taught = set().union(*(keys(world, users) for users in seen.learned.values()))
    after = later.refit(blend=None, serving=world.load(won.whole.path)).made
    assert after is not None
    for part in (after.validated.items, after.validated.labels):
        asked = keys(later, set(part.user.tolist()))
        assert len(asked) > 10
        assert not asked & taught
        assert (part.fold == 0).all()


def keys(world: World, users: set[int]) -> set[bytes]:
    """Who the users of a window are, by their numbers in what is prepared of it."""
    with Window(world.directory / "window.sqlite") as window:
        found = window.rows(
            "SELECT name FROM events JOIN users ON users.id = events.user ORDER BY timestamp, occurred, offset"
        )
        order = list(dict.fromkeys(name for (name,) in found))
    return {order[user] for user in users}


def test_an_adapted_encoder_that_does_not_win_is_dropped_and_the_rest_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.adapt.neighbours_of", lambda *_, **__: ("label accuracy", 0.5))
    world = noisy(tmp_path)
    done = world.refit(blend=None, adapting=adapting(world, pretrain=FOR_NOTHING))
    made, manifest = done.made, done.whole.manifest
    assert made is not None
    assert made.adapted.kept is None
    assert "no gain beyond chance in label_accuracy" in " ".join(made.adapted.dropped)
    assert manifest.space == read_files(Path(world.encoder)).space
    assert manifest.metrics["label_accuracy.candidate.all.spread"] > 0, "folds, as without"
    assert sorted(path.name for path in done.whole.path.iterdir()) == ["manifest.json", REPORT]
    with Window(tmp_path / "window.sqlite") as window:
        assert [*window.rows("SELECT DISTINCT space FROM vectors")] == [(manifest.space,)]


@pytest.mark.parametrize("now", [0.4, 0.5])
def test_pretrain_after_which_neighbours_tell_less_is_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    told = iter((0.5, now))
    begun: list[Job] = []

    def spied(job: Job, *arguments: Any) -> TransformerFit:
        begun.append(job)
        return fit_together(job, *arguments)

    monkeypatch.setattr("trainer.adapt.neighbours_of", lambda *_, **__: ("label accuracy", next(told)))
    monkeypatch.setattr("trainer.adapt.fit_together", spied)
    world = noisy(tmp_path)
    short = EncoderSettings(Pace(epochs=1, rate=1e-7))
    made = world.refit(blend=None, adapting=adapting(world, encoder=short, pretrain=QUICK)).made
    assert made is not None
    pretrain, encoder = begun
    assert set(made.adapted.fits) == {"pretrain", "encoder"}
    spoiled = "pretrain: label accuracy fell from 0.500 to 0.400"
    assert (spoiled in made.adapted.dropped) == (now < 0.5)
    assert (encoder.files.space == pretrain.files.space) == (now < 0.5)


def test_an_encoder_without_weights_cannot_be_adapted_and_the_rest_is_judged(tmp_path: Path) -> None:
    world = World(tmp_path)
    write_community(world.log, 60)
    done = world.refit(adapting=adapting(world, encoder=LEARNS))
    assert done.made is not None
    assert "has no weights" in done.made.adapted.dropped[0]
    assert done.made.blend is not None


@pytest.fixture
def files(tmp_path: Path) -> EncoderFiles:
    return read_files(write_tiny_encoder(tmp_path / "tiny"))


def test_what_is_learned_from_is_what_learners_wrote_and_titles_that_say_more(
    files: EncoderFiles, tmp_path: Path
) -> None:
    log = MemoryLog()
    log.write("a", "bread dough", item_id="1", item_title="the bread oven", labels=["x"])
    log.write("b", "proof graph", item_id="2", item_title="a theorem")
    log.write("a", "bake the dough now", item_id="3", item_title="the dough")
    log.write("a", "up down")
    with Window(tmp_path / "window.sqlite") as window:
        fill(window, log)
        data = prepare(window, Least(1, 1, 0))
        found = written(window, data, files, np.array([True, False]))
    assert found.user.tolist() == [0, 0, 0]
    assert found.labels.tolist() == [[0], [-1], [-1]]
    assert len(found.ids[found.text[0]]) == 4
    assert (found.title >= 0).tolist() == [True, False, False], "a title that stands in the text teaches nothing"
    assert len(found.ids[found.title[0]]) == 5
