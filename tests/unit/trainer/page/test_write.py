"""The report for people: whole, safe whatever labels are called, in need of nothing from outside."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from schemas.release import Verdict
from schemas.settings import ReleasePlace
from tests.refits import HOSTILE, run, scored, validated
from trainer.crossval import Validated
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN
from trainer.page import plots
from trainer.page.write import page, write_page
from trainer.publish import PAGE, report_directory
from trainer.scores import HIT, LABEL, NDCG, RECALL

SECTIONS = ("verdict", "folds", "gain", "calibration", "learning", "interests", "blend", "window", "steps")
PICTURES = {"folds", "gain", "calibration", "learning", "interests", "blend"}


class Read(HTMLParser):
    """A page as a browser takes it: tags, attributes, and the text of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.sections: dict[str, str] = {}
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self._open = dict(attrs)["id"] or ""
            self.sections[self._open] = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.sections[self._open] += f"{' '.join(data.split())} "


def shown(directory: Path, **changes: Any) -> tuple[Read, dict[str, bytes], str]:
    made = run(directory, **changes)
    assert made.done.made is not None
    html, pngs = page(made, made.done.made)
    return Read(html), pngs, html


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Read, dict[str, bytes], str]:
    return shown(tmp_path_factory.mktemp("run"))


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch, whole: tuple[Read, dict[str, bytes], str]) -> None:
    """Figures are made, but all of them are painted as one that is there already: painting is what takes long."""
    one = next(iter(whole[1].values()))
    monkeypatch.setattr(plots, "png", lambda _figure: one)


def test_the_page_has_every_section_with_what_it_promises(whole: tuple[Read, dict[str, bytes], str]) -> None:
    read, pngs, _ = whole
    assert tuple(read.sections) == SECTIONS
    assert set(pngs) == PICTURES
    said = read.sections
    assert "0.5000 against 0.4500 of the release in service (+11.1%)" in said["verdict"]
    assert "between +0.0200 and +0.0800" in said["verdict"]
    assert "1.21 at most 1.50" in said["verdict"]
    assert "over 3 folds" in said["folds"]
    assert "in service" in said["folds"]
    assert "±" in said["folds"]
    assert "nDCG@10 over raw kNN" in said["gain"]
    assert "rank correlation" in said["calibration"]
    assert "served held-out users best; the head was kept" in said["learning"]
    assert "donors: sharp" in said["blend"]
    assert "dropped: exact duplicates" in said["window"]
    assert "with no text left after cleaning" in said["window"]
    assert "10 7 1,007" in said["window"]
    assert "4 cross-validate 4.5 0.40 GB" in said["steps"]
    assert not any("could not be drawn" in text for text in said.values())


def test_every_picture_can_be_read_and_has_something_on_it(whole: tuple[Read, dict[str, bytes], str]) -> None:
    _, pngs, _ = whole
    for name, data in pngs.items():
        with Image.open(BytesIO(data)) as picture:
            picture.load()
            assert picture.width > 1_000, name
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 20, name


def test_nothing_is_asked_for_from_outside_and_nothing_runs(whole: tuple[Read, dict[str, bytes], str]) -> None:
    read, _, html = whole
    assert not set(read.tags) & {"script", "link", "iframe", "object", "embed", "a", "base", "form"}
    for name, value in read.attributes:
        assert not name.startswith("on"), name
        if name in ("src", "srcset", "href", "action", "data"):
            assert value.startswith("data:image/png;base64,"), name
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"(?i)(https?:)?//|@import|url\(", without_pictures)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in read.attributes


@pytest.mark.usefixtures("unpainted")
def test_what_users_provide_is_escaped(tmp_path: Path) -> None:
    """Reasons name labels."""
    reasons = tuple(f"label {label} (60 users) falls from 0.5 to 0.1" for label in HOSTILE)
    read, _, html = shown(tmp_path, verdict=Verdict(accepted=False, reasons=reasons), dropped=reasons)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "label <script>alert(1)</script> (60 users)" in read.sections["verdict"]
    assert "烹饪" in read.sections["verdict"]


def test_no_text_and_no_user_is_in_it(whole: tuple[Read, dict[str, bytes], str]) -> None:
    _, _, html = whole
    assert not re.search(r"user-\d", html)
    assert not re.search(r"beer\d", html)


def test_names_in_any_script_are_drawn_or_boxed_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are errors here; a machine without a Chinese font has only what comes with matplotlib."""
    from trainer.page import fonts

    monkeypatch.setattr(fonts, "CHINESE", ())
    fonts.families.cache_clear()
    fonts.characters.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            _, pngs, _ = shown(tmp_path)
    finally:
        fonts.families.cache_clear()
        fonts.characters.cache_clear()
    assert set(pngs) == PICTURES
    assert not caplog.records


def test_the_same_run_gives_the_same_bytes(whole: tuple[Read, dict[str, bytes], str], tmp_path: Path) -> None:
    _, pngs, html = whole
    _, again, told = shown(tmp_path)
    assert again == pngs
    assert told == html


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(
    ("changes", "section", "sentence"),
    [
        ({"head": None, "tried": None}, "learning", "No head was learned"),
        ({"head": None, "dropped": ("no gain",)}, "learning", "the head was dropped afterwards"),
        ({"head": None, "dropped": ("no gain",)}, "verdict", "A head was learned and dropped"),
        ({"blend": None}, "learning", "No blend was fitted"),
        ({"blend": None}, "blend", "The weights of the release in service stay"),
        ({"head": None, "tried": None, "blend": None}, "learning", "No head was learned"),
        ({"validated": validated(labelled=0)}, "folds", "carry no labels"),
        ({"validated": validated(0, 0)}, "folds", "nothing could be asked"),
        ({"validated": validated(0, 0)}, "gain", "Too few users"),
        ({"validated": validated(3, 0)}, "gain", "Too few users"),
        ({"validated": validated(9, 0)}, "calibration", "Too few answers"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, Any], section: str, sentence: str, tmp_path: Path) -> None:
    read, _, _ = shown(tmp_path, **changes)
    assert tuple(read.sections) == SECTIONS
    assert sentence in read.sections[section]
    assert not any("could not be drawn" in text for text in read.sections.values())


@pytest.mark.usefixtures("unpainted")
def test_a_first_release_is_held_against_raw_knn(tmp_path: Path) -> None:
    items = scored(240, (HIT, RECALL, NDCG), (CANDIDATE, CURRENT, RAW_KNN))
    numbers = {"ndcg@10.candidate": 0.5, "ndcg@10.raw_knn": 0.0, "gain.mean": 0.5, "gain.low": 0.4, "gain.high": 0.6}
    read, _, _ = shown(
        tmp_path,
        validated=Validated(items, scored(0, (LABEL,), (CANDIDATE, CURRENT, RAW_KNN))),
        verdict=Verdict(accepted=True, numbers=numbers),
    )
    assert "0.5000 against 0.0000 of raw kNN, which a first release has to beat." in read.sections["verdict"]


def test_without_labels_the_map_shows_people(tmp_path: Path) -> None:
    made = run(tmp_path)
    assert made.done.made is not None
    data = made.done.made.data
    bare = replace(made.done.made, data=replace(data, labels=data.labels * 0 - 1, label_names=()))
    html, pngs = page(made, bare)
    assert "no label of three users or more" in Read(html).sections["interests"]
    assert "interests" in pngs


@pytest.mark.usefixtures("unpainted")
def test_a_rejected_refit_has_its_page_with_the_reasons(tmp_path: Path) -> None:
    place = ReleasePlace(tmp_path / "releases")
    verdict = Verdict(accepted=False, reasons=("no gain beyond chance in ndcg@10",))
    written = write_page(place, run(tmp_path, verdict=verdict))
    assert written == report_directory(place, "refit-0123456789ab") / PAGE
    assert written is not None
    said = Read(written.read_text()).sections["verdict"]
    assert "It is rejected" in said
    assert "no gain beyond chance" in said
    assert {file.name for file in written.parent.iterdir()} == {PAGE, *(f"{name}.png" for name in PICTURES)}


@pytest.mark.usefixtures("unpainted")
def test_a_picture_that_fails_is_said_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "gains_figure", fails)
    read, pngs, _ = shown(tmp_path)
    assert set(pngs) == PICTURES - {"gain"}
    assert "could not be drawn" in read.sections["gain"]
    assert "the picture gain could not be drawn (RuntimeError: no ink)" in caplog.text


def test_a_page_that_cannot_be_written_is_said_and_raises_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "releases").write_text("a file where a directory should be")
    assert write_page(ReleasePlace(tmp_path / "releases"), run(tmp_path)) is None
    assert "the report of refit-0123456789ab could not be written" in caplog.text


@pytest.mark.usefixtures("unpainted")
def test_a_window_that_was_refitted_before_keeps_the_page_of_then(tmp_path: Path) -> None:
    place, made = ReleasePlace(tmp_path / "releases"), run(tmp_path)
    written = write_page(place, made)
    assert written is not None
    before = written.read_bytes()
    assert write_page(place, replace(made, done=replace(made.done, made=None))) is None
    assert written.read_bytes() == before
