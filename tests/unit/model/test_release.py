"""The release directory: whole or not there, and refused with a reason when anything about it is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from model.encoder.dummy import DummyEncoder
from model.encoder.load import load_encoder
from model.errors import EncoderNotFound, Refusal, ReleaseRefused, ReleaseUnwritten
from model.head import HeadWeights, identity, interest, label_logits
from model.release import GOLDEN_TEXTS, Release, golden, load_release, write_builtin
from model.write import write_release
from schemas.codec import encode_manifest
from schemas.release import MANIFEST_FILE, EncoderEntry, HeadEntry, Manifest
from tests.tiny_encoder import write_tiny_encoder

NOW = datetime(2026, 1, 31, tzinfo=UTC)
TRANSFER = {"donors": 1.0, "popularity": 0.3}


@pytest.fixture
def builtin(tmp_path: Path) -> Path:
    return write_builtin(tmp_path / "releases", "dummy", TRANSFER, now=NOW, cache=tmp_path)


def _load(path: Path) -> Release:
    return load_release(path, cache=path.parent.parent / "cache", device="cpu", backend="torch")


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    change(manifest)
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_the_built_in_release_is_the_encoder_as_shipped(builtin: Path) -> None:
    release = _load(builtin)
    assert release.encoder.backend == "dummy"
    assert release.manifest.space == release.encoder.space == DummyEncoder().space
    assert release.head is identity
    assert release.transfer == TRANSFER
    assert release.manifest.created_at == NOW
    assert release.manifest.verdict is not None
    assert release.manifest.verdict.accepted
    assert release.sha256 == sha256((builtin / MANIFEST_FILE).read_bytes()).hexdigest()
    assert len(release.manifest.golden) == len(GOLDEN_TEXTS)


def test_nothing_but_the_manifest_is_left_behind(builtin: Path) -> None:
    assert [path.name for path in builtin.iterdir()] == [MANIFEST_FILE]
    assert [path.name for path in builtin.parent.iterdir() if path.is_dir()] == [builtin.name]


def test_a_second_start_finds_the_first_ones_release(builtin: Path, tmp_path: Path) -> None:
    before = (builtin / MANIFEST_FILE).stat()
    again = write_builtin(builtin.parent, DummyEncoder(), TRANSFER, now=datetime.now(UTC), cache=tmp_path)
    assert again == builtin
    assert (builtin / MANIFEST_FILE).stat() == before


def test_other_transfer_weights_or_another_encoder_make_another_release(builtin: Path, tmp_path: Path) -> None:
    others = [
        write_builtin(builtin.parent, "dummy", {"donors": 2.0}, now=NOW, cache=tmp_path),
        write_builtin(builtin.parent, "dummy-128", TRANSFER, now=NOW, cache=tmp_path),
    ]
    assert len({builtin, *others}) == 3


def test_workers_that_start_together_write_one_release(tmp_path: Path) -> None:
    def start(_: int) -> Path:
        return write_builtin(tmp_path / "releases", "dummy", TRANSFER, now=datetime.now(UTC), cache=tmp_path)

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(start, range(16)))
    assert len(paths) == 1
    _load(paths.pop())


def test_a_writer_that_fails_leaves_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReleaseUnwritten, match=r"could not be written \(no space left on device\); make room there"):
        write_builtin(tmp_path / "releases", "dummy", TRANSFER, now=NOW, cache=tmp_path)
    assert [path for path in (tmp_path / "releases").iterdir() if path.is_dir()] == []


def test_an_encoder_in_service_is_taken_over_when_the_space_is_the_same(builtin: Path, tmp_path: Path) -> None:
    running, other = DummyEncoder(), DummyEncoder(128)
    assert load_release(builtin, cache=tmp_path, running=running).encoder is running
    assert load_release(builtin, cache=tmp_path, running=other).encoder is not other


def test_a_name_that_is_no_encoder_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound):
        write_builtin(tmp_path / "releases", "no-such-encoder", TRANSFER, now=NOW, cache=tmp_path)
    assert not (tmp_path / "releases").exists()


def _off(manifest: dict[str, Any]) -> None:
    manifest["golden"][3]["vector"] = manifest["golden"][4]["vector"]


def _zero(manifest: dict[str, Any]) -> None:
    manifest["golden"][0]["vector"] = [0.0] * 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest.update(format=2), Refusal.UNKNOWN_FORMAT),
        (lambda manifest: manifest.update(format="1"), Refusal.UNKNOWN_FORMAT),
        (lambda manifest: manifest.update(head={"file": "h.safetensors", "shapes": {}}), Refusal.CHECKSUM),
        (lambda manifest: manifest.pop("space"), Refusal.BAD_MANIFEST),
        (lambda manifest: manifest.update(space="0" * 16), Refusal.SPACE),
        (lambda manifest: manifest["encoder"].update(dimension=65), Refusal.SHAPE),
        (lambda manifest: manifest["encoder"].update(max_tokens=31), Refusal.SHAPE),
        (lambda manifest: manifest["encoder"].update(reference="no-such-encoder"), Refusal.ENCODER),
        (lambda manifest: manifest["encoder"].update(files={"config.json": "0" * 64}), Refusal.CHECKSUM),
        (lambda manifest: manifest["golden"][0].update(vector=[1.0]), Refusal.SHAPE),
        (lambda manifest: manifest.update(golden=[]), Refusal.GOLDEN),
        (_off, Refusal.GOLDEN),
        (_zero, Refusal.GOLDEN),
        (lambda manifest: manifest.update(checksums={"gone.safetensors": "0" * 64}), Refusal.MISSING_FILE),
        (lambda manifest: manifest.update(checksums={"../gone": "0" * 64}), Refusal.UNSAFE_PATH),
        (lambda manifest: manifest.update(checksums={"/etc/hostname": "0" * 64}), Refusal.UNSAFE_PATH),
        (lambda manifest: manifest["encoder"].update(files={"a/../../b": "0" * 64}), Refusal.UNSAFE_PATH),
        (lambda manifest: manifest.update(head={"file": "..\\h", "shapes": {}}), Refusal.UNSAFE_PATH),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_for_its_reason(
    builtin: Path, change: Callable[[dict[str, Any]], object], reason: Refusal
) -> None:
    _edit(builtin, change)
    with pytest.raises(ReleaseRefused, match=f"release refused \\({reason}\\)") as refused:
        _load(builtin)
    assert refused.value.reason is reason
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", Refusal.BAD_MANIFEST), (b"[" * 100_000, Refusal.BAD_MANIFEST), (b"[]", Refusal.BAD_MANIFEST)],
)
def test_a_file_that_is_no_manifest_is_refused(builtin: Path, content: bytes, reason: Refusal) -> None:
    (builtin / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ReleaseRefused) as refused:
        _load(builtin)
    assert refused.value.reason is reason


def test_a_directory_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        _load(tmp_path / "releases" / "gone")
    assert refused.value.reason is Refusal.NO_MANIFEST


@pytest.fixture(scope="module")
def with_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with an encoder of its own, as a fitted one has it."""
    path = tmp_path_factory.mktemp("releases") / "fitted"
    directory = write_tiny_encoder(path / "encoder")
    encoder = load_encoder(str(directory), device="cpu", backend="torch", cache=path.parent)
    names = [file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()]
    sums = {name: sha256((directory / name).read_bytes()).hexdigest() for name in names}
    manifest = Manifest(
        name="fitted", created_at=NOW, space=encoder.space, golden=golden(encoder),
        encoder=EncoderEntry(
            name="fitted", dimension=encoder.dimension, max_tokens=encoder.max_tokens, pooling="mean", cleaning=1,
            files=sums,
        ),
        checksums={f"encoder/{name}": value for name, value in sums.items()},
    )  # fmt: skip
    (path / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return path


@pytest.fixture
def fitted(with_copy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(with_copy, tmp_path / "releases" / "fitted"))


def test_a_release_with_its_own_encoder_is_served_wherever_it_is_copied_to(fitted: Path) -> None:
    release = _load(fitted)
    vectors = release.head(release.encoder.encode(release.encoder.tokenise(["the bread", ""])))
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0], atol=1e-5)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _with_file(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)
    _edit(path, lambda manifest: manifest["checksums"].update({name: sha256(content).hexdigest()}))


def _link_outside(path: Path) -> None:
    outside = path.parent / "outside.json"
    (path / "encoder" / "config.json").rename(outside)
    (path / "encoder" / "config.json").symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: _flip(path / "encoder" / "model.safetensors"), Refusal.CHECKSUM),
        (lambda path: (path / "encoder" / "tokenizer.json").unlink(), Refusal.MISSING_FILE),
        (lambda path: _edit(path, lambda manifest: manifest["checksums"].popitem()), Refusal.CHECKSUM),
        (lambda path: _with_file(path, "extra.pkl", b"\x80\x04."), Refusal.NOT_SAFETENSORS),
        (lambda path: _with_file(path, "extra.safetensors", b"\x80\x04." * 9), Refusal.NOT_SAFETENSORS),
        (_link_outside, Refusal.UNSAFE_PATH),
    ],
    ids=["a bit", "a file", "a checksum", "a pickle", "a pickle by another name", "a link"],
)
def test_a_file_that_is_wrong_refuses_the_release(
    fitted: Path, damage: Callable[[Path], object], reason: Refusal
) -> None:
    damage(fitted)
    with pytest.raises(ReleaseRefused) as refused:
        _load(fitted)
    assert refused.value.reason is reason


def _write_with_head(releases: Path, learned: HeadWeights) -> Path:
    """A release of the dummy encoder with a learned head."""
    encoder = DummyEncoder()
    tensors = learned.tensors()
    manifest = Manifest(
        name="learned",
        created_at=NOW,
        space=encoder.space,
        encoder=EncoderEntry(
            name="dummy", dimension=encoder.dimension, max_tokens=encoder.max_tokens, pooling="sum", cleaning=1,
            reference="dummy",
        ),
        head=HeadEntry(file="head.safetensors", shapes={name: values.shape for name, values in tensors.items()}),
        labels=("bread", "jazz"),
        golden=golden(encoder, partial(interest, learned)),
    )  # fmt: skip
    return write_release(releases, manifest, {"head.safetensors": save(tensors)})


def _learned(seed: int = 1) -> HeadWeights:
    draw, d, h = np.random.default_rng(seed), DummyEncoder().dimension, 8
    shapes: list[tuple[int, ...]] = [(h, d), (h,), (d, h), (d,), (2, d), (2,)]
    return HeadWeights(*(draw.normal(scale=0.3, size=shape).astype(np.float32) for shape in shapes))


def test_a_learned_head_is_served_with_its_labels(tmp_path: Path) -> None:
    learned = _learned()
    release = _load(_write_with_head(tmp_path / "releases", learned))
    vectors = release.encoder.encode(release.encoder.tokenise(["the bread", ""]))
    interests = release.head(vectors)
    assert np.allclose(interests, interest(learned, vectors))
    assert np.allclose(np.linalg.norm(interests, axis=1), [1, 0], atol=1e-5)
    assert release.head_weights is not None
    logits = label_logits(release.head_weights, interests)
    assert logits is not None
    assert logits.shape == (2, len(release.manifest.labels))


def _no_interest(manifest: dict[str, Any]) -> None:
    manifest["golden"][2]["interest"] = None


def _short_interest(manifest: dict[str, Any]) -> None:
    manifest["golden"][2]["interest"].pop()


def _other_interest(manifest: dict[str, Any]) -> None:
    manifest["golden"][2]["interest"] = manifest["golden"][3]["interest"]


def _interest_is_the_vector(manifest: dict[str, Any]) -> None:
    for entry in manifest["golden"]:
        entry["interest"] = entry["vector"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_no_interest, Refusal.GOLDEN),
        (_short_interest, Refusal.GOLDEN),
        (_other_interest, Refusal.GOLDEN),
        (_interest_is_the_vector, Refusal.GOLDEN),
        (lambda manifest: manifest.update(head=None), Refusal.GOLDEN),
        (lambda manifest: manifest.update(labels=["bread"]), Refusal.SHAPE),
        (lambda manifest: manifest["head"]["shapes"].pop("up.bias"), Refusal.SHAPE),
    ],
)
def test_a_head_that_does_not_fit_its_manifest_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: Refusal
) -> None:
    path = _write_with_head(tmp_path / "releases", _learned())
    _edit(path, change)
    with pytest.raises(ReleaseRefused) as refused:
        _load(path)
    assert refused.value.reason is reason


def test_another_head_under_a_right_checksum_is_refused_by_the_golden_texts(tmp_path: Path) -> None:
    path = _write_with_head(tmp_path / "releases", _learned())
    _with_file(path, "head.safetensors", save(_learned(seed=2).tensors()))
    with pytest.raises(ReleaseRefused, match="the head gives another interest") as refused:
        _load(path)
    assert refused.value.reason is Refusal.GOLDEN


def test_an_encoder_directory_that_changed_since_is_refused(tmp_path: Path) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    path = write_builtin(
        tmp_path / "releases", str(directory), TRANSFER, now=NOW, cache=tmp_path, device="cpu", backend="torch"
    )
    assert _load(path).manifest.encoder.reference == str(directory)
    shutil.rmtree(directory)
    write_tiny_encoder(directory, seed=1)
    with pytest.raises(ReleaseRefused, match=r"model\.safetensors of the encoder") as refused:
        _load(path)
    assert refused.value.reason is Refusal.CHECKSUM
