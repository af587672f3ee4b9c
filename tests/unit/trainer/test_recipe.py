from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.fetch import fetch
from model.release import Release, load_release, write_builtin
from model.signals import SIGNALS
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from schemas.announcement import ReleaseAnnouncement
from schemas.release import Manifest
from schemas.settings import ReleasePlace
from tests.communities import WORDS, write_community
from tests.windows import NOW_MS, SECRET, MemoryLog
from trainer.adapt import Adapting
from trainer.errors import TooLittleData
from trainer.fit.blend import BlendSettings
from trainer.fit.head import HeadFit, HeadSettings, fit_head
from trainer.fit.texts import Texts
from trainer.gate import Limits
from trainer.judge import accuracy
from trainer.prepare import Least
from trainer.read import Reach
from trainer.recipe import Options, Parts, Refit, refit
from trainer.release import REPORT
from trainer.window import Window

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BLEND = BlendSettings(least=20)
WORST = TransferWeights(tuple(1.0 if name == "popularity.everybody" else 0.0 for name, _ in SIGNALS))
"""Always the same to everybody."""


@dataclass(slots=True)
class World:
    directory: Path
    log: MemoryLog = field(default_factory=lambda: MemoryLog(cut=500))
    told: list[ReleaseAnnouncement] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    current: TransferWeights = WORST
    encoder: str = "dummy"

    @property
    def place(self) -> ReleasePlace:
        return ReleasePlace(self.directory / "releases")

    def builtin(self) -> Release:
        path = write_builtin(
            self.place.directory,
            self.encoder,
            self.current.to_dict(),
            now=NOW,
            cache=self.directory,
            device="cpu",
            backend="torch",
        )
        return self.load(path)

    def load(self, path: Path) -> Release:
        return load_release(path, cache=self.directory, device="cpu", backend="torch")

    def refit(
        self,
        least: Least | None = None,
        folds: int = 3,
        blend: BlendSettings | None = BLEND,
        head: HeadSettings | None = None,
        adapting: Adapting | None = None,
        serving: Release | None = None,
    ) -> Refit:
        release = serving or self.builtin()
        with Window(self.directory / "window.sqlite") as window:
            parts = Parts(
                window=window,
                texts=self.log,
                items=MemoryLog("items", 0, id=None),
                serving=release,
                announced=self.told[-1] if self.told else None,
                place=self.place,
                announce=self.told.append,
                tell=lambda step, _done, _of: self.steps.append(step),
                adapting=adapting,
            )
            options = Options(
                secret=SECRET,
                reach=Reach(),
                resume_ms=0,
                least=least or Least(10, 10, 10),
                blend=blend,
                head=head,
                device="cpu",
                folds=folds,
                warm_up=0.1,
                seed=0,
                user_ttl_ms=365 * DAY_MS,
                limits=Limits(resamples=300),
                directory=self.directory,
            )
            return refit(parts, options, NOW)


def without_times(manifest: Manifest) -> dict[str, Any]:
    """All of a release but what a clock has told."""
    found = manifest.model_dump()
    del found["verdict"]["numbers"]["latency.ratio"], found["verdict"]["numbers"]["latency.seconds"]
    del found["checksums"][REPORT]
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    write_community(made.log, 120)
    return made


def test_a_better_blend_is_published_and_announced_and_can_be_served(world: World) -> None:
    done = world.refit()
    assert done.verdict.accepted, done.verdict.reasons
    assert done.announced
    (told,) = world.told
    whole = fetch(world.place, told.release, told.sha256)
    release = load_release(whole.path, cache=world.directory)
    assert TransferWeights.from_dict(release.transfer) != WORST
    assert whole.manifest.verdict == done.verdict
    assert whole.manifest.window is not None
    assert whole.manifest.window.end == {"0": 480}
    assert whole.manifest.metrics["ndcg@10.candidate.all"] > whole.manifest.metrics["ndcg@10.current.all"]
    assert sorted(set(world.steps)) == [1, 2, 3, 4, 5, 6, 7]
    assert "verdict" in json.loads((whole.path / REPORT).read_text())


def test_labels_of_newcomers_are_told_and_their_accuracy_stands_in_the_manifest(world: World) -> None:
    done = world.refit()
    assert done.made is not None
    assert accuracy(done.made.validated) > 0.9
    assert done.whole.manifest.metrics["label_accuracy.popularity.1"] < 0.5


def test_what_is_not_better_than_what_serves_is_published_with_its_reasons_and_not_announced(world: World) -> None:
    first = world.refit()
    world.current = TransferWeights.from_dict(first.whole.manifest.transfer)
    second = world.refit()
    assert not second.verdict.accepted
    assert any("no gain beyond chance" in reason for reason in second.verdict.reasons)
    assert not second.announced
    assert len(world.told) == 1
    assert fetch(world.place, second.whole.manifest.name).manifest.verdict == second.verdict


def test_the_same_window_is_not_refitted_again_and_what_was_left_is_done(world: World) -> None:
    """As after a kill between the publishing and the announcing."""
    first = world.refit()
    world.told.clear()
    world.steps.clear()
    again = world.refit()
    assert again.made is None
    assert again.whole == first.whole
    assert again.announced
    assert set(world.steps) <= {1, 7}
    assert not world.refit().announced, "it is announced once"


def test_a_release_that_an_operator_went_back_from_is_not_announced_again(world: World) -> None:
    made = world.refit()
    (told,) = world.told
    gone_back = told.model_copy(
        update={"release": "builtin-one", "created_at": told.created_at + timedelta(minutes=1), "before": ()}
    )
    world.told.append(gone_back)
    again = world.refit()
    assert again.whole.manifest.name == made.whole.manifest.name
    assert not again.announced
    assert world.told == [told, gone_back]


def test_the_same_log_gives_the_same_release_on_another_machine(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", world.log)
    other.directory.mkdir()
    one, two = (without_times(done.whole.manifest) for done in (world.refit(), other.refit()))
    assert one == two


def test_new_events_make_a_new_release(world: World) -> None:
    first = world.refit()
    world.log.write("newcomer", "beer1 beer2", item_id="beer-1", timestamp=NOW_MS + 10**9)
    assert world.refit().whole.manifest.name != first.whole.manifest.name


def test_too_little_data_publishes_nothing_and_says_what_is_missing(world: World) -> None:
    with pytest.raises(TooLittleData, match="1000"):
        world.refit(Least(1_000, 10, 10))
    assert world.told == []
    assert [path.name for path in world.place.directory.iterdir() if not path.name.startswith((".", "builtin"))] == []


def test_without_a_part_to_fit_nothing_is_accepted(world: World) -> None:
    done = world.refit(blend=None)
    assert not done.verdict.accepted
    assert any("nothing was fitted" in reason for reason in done.verdict.reasons)


def test_a_head_that_does_not_win_is_dropped_and_the_rest_is_judged(world: World) -> None:
    done = world.refit(head=HeadSettings(hidden=8, epochs=1))
    assert done.verdict.accepted, done.verdict.reasons
    assert done.whole.manifest.head is None
    assert done.made is not None
    assert any("no gain beyond chance in label_accuracy" in reason for reason in done.made.dropped)
    assert "label_accuracy.without_head.all" not in done.whole.manifest.metrics


def test_a_head_that_wins_is_part_of_the_release_and_can_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a single word tells what a text is about, and a few that everybody writes do not, plain similarity is led
    astray."""
    world = World(tmp_path)
    write_community(world.log, 150, noise=16)
    learned: list[NDArray[np.int32]] = []

    def spied(texts: Texts, *arguments: Any, **options: Any) -> HeadFit:
        learned.append(texts.user)
        return fit_head(texts, *arguments, **options)

    monkeypatch.setattr("trainer.learn.fit_head", spied)
    done = world.refit(head=HeadSettings(hidden=64, epochs=8, rate=5e-3, batch=64, decay=1.0))
    manifest = done.whole.manifest
    assert done.made is not None
    assert manifest.head is not None, done.made.dropped
    assert manifest.metrics["label_accuracy.candidate.all"] > manifest.metrics["label_accuracy.raw_knn.all"] + 0.05
    assert set(manifest.labels) == set(WORDS)
    release = load_release(done.whole.path, cache=world.directory)
    vectors = release.encoder.encode(release.encoder.tokenise(["beer1 and a lot of other words"]))
    assert not np.allclose(release.head(vectors), vectors)

    # Whom it has learned from it knows by heart: from now on only others are asked.
    world.log.write("newcomer", "beer noise1", item_id="beer-1", timestamp=NOW_MS + 10**9)
    after = world.refit(serving=release).made
    assert after is not None
    assert len(np.unique(done.made.validated.labels.user)) > 0.6 * done.made.data.users
    asked = np.unique(np.concatenate([after.validated.items.user, after.validated.labels.user]))
    assert len(asked) > 15
    assert after.data.reserved[asked].all()
    assert learned
    assert not done.made.data.reserved[learned[0]].any()
