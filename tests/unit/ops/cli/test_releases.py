"""Looking at releases needs no stack, no weights and nothing but their manifests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli.app import app
from schemas.codec import encode_manifest
from schemas.release import MANIFEST_FILE, EncoderEntry, HeadEntry, Manifest, Verdict, Window

FITTED = Manifest(
    name="fitted",
    created_at=datetime(2026, 1, 31, tzinfo=UTC),
    space="0123456789abcdef",
    encoder=EncoderEntry(name="minilm", dimension=384, max_tokens=256, pooling="mean", cleaning=1, reference="minilm"),
    head=HeadEntry(file="head.safetensors", shapes={"up.weight": (8, 384), "up.bias": (8,)}),
    transfer={"donors.blend": 1.5},
    labels=("bread", "jazz"),
    window=Window(start={"0": 5, "1": 0}, end={"0": 905, "1": 40}, events=930, users=77),
    metrics={"folds.hit@10.mean": 0.1234},
    verdict=Verdict(accepted=False, reasons=("no gain beyond chance",), numbers={"gain.mean": -0.0012}),
)
BUILTIN = Manifest(
    name="builtin",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    space="fedcba9876543210",
    encoder=EncoderEntry(name="dummy", dimension=64, max_tokens=32, pooling="sum", cleaning=1),
)


@pytest.fixture(autouse=True)
def _releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "CONFIG"):
        monkeypatch.delenv(f"KINDRED_{name}", raising=False)
    monkeypatch.setenv("KINDRED_RELEASES", str(tmp_path / "releases"))
    monkeypatch.setenv("COLUMNS", "160")
    for manifest in (FITTED, BUILTIN):
        (tmp_path / "releases" / manifest.name).mkdir(parents=True)
        (tmp_path / "releases" / manifest.name / MANIFEST_FILE).write_bytes(encode_manifest(manifest))


def model(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["model", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_show_says_where_the_report_is(tmp_path: Path) -> None:
    assert "none on this machine" in model("show", "fitted")
    page = tmp_path / "releases" / "reports" / "fitted" / "index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    assert str(page) in model("show", "fitted").replace("\n", "")
    assert "reports" not in model("list")


def test_releases_are_listed_newest_first() -> None:
    said = model("list")
    assert said.index("fitted") < said.index("builtin")
    assert "rejected" in said
    assert "head.safetensors" in said


def test_a_release_is_shown_with_all_that_speaks_for_and_against_it() -> None:
    said = model("show", "fitted")
    for part in (
        "rejected", "no gain beyond chance", "gain.mean", "-0.0012", "folds.hit@10.mean", "0.1234", "donors.blend",
        "minilm, 384 dimensions", "up.weight 8x384", "930 events of 77 users, offsets 0: 5 to 905, 1: 0 to 40",
    ):  # fmt: skip
        assert part in said, part


def test_a_release_of_which_little_is_known_is_shown_too() -> None:
    said = model("show", "builtin")
    assert "identity" in said
    assert "none" in said


def test_machines_get_the_manifest_without_the_golden_vectors() -> None:
    found = json.loads(model("show", "fitted", "--json"))
    assert (found["name"], found["announced"], found["window"]["users"]) == ("fitted", False, 77)
    assert "golden" not in found
    assert found == json.loads(model("list", "--json"))[0]


def test_a_release_that_is_not_there_is_an_error() -> None:
    assert "kindred model list" in model("show", "gone", code=1)


def test_without_an_answer_of_kafka_the_releases_are_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["model", "list"])
    assert done.exit_code == 0
    assert "fitted" in done.stdout
    assert "Which release is announced is not known" in done.stderr


def test_a_place_that_cannot_be_opened_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_RELEASE_SCHEMES", "nowhere")
    monkeypatch.setenv("KINDRED_RELEASES", "nowhere://bucket/releases")
    assert "name a directory in KINDRED_RELEASES" in model("list", code=1)
