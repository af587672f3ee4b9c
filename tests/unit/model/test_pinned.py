"""A release that an earlier version wrote is read for ever: its files lie here as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.clean import CLEANING_VERSION
from model.head import label_logits, read_head
from model.manifest import check_files, read_manifest
from model.release import load_release
from model.transfer_weights import TransferWeights
from schemas.release import MANIFEST_FORMAT
from tests.pinned_release import PINNED


def test_manifest_and_files_are_read_and_whole() -> None:
    _, manifest = read_manifest(PINNED)
    check_files(PINNED, manifest)
    assert manifest.format == 1 <= MANIFEST_FORMAT
    assert manifest.verdict is not None
    assert manifest.verdict.accepted
    assert manifest.verdict.numbers["gain.low"] > 0
    assert manifest.window is not None
    assert manifest.window.end == {"0": 600}
    assert set(manifest.labels) == {"beer", "proof", "boat", "garden", "camera"}
    assert manifest.metrics["label_accuracy.candidate.1"] > 0.5


def test_its_head_gives_the_interests_that_it_gave_then() -> None:
    _, manifest = read_manifest(PINNED)
    assert manifest.head is not None
    weights = read_head(PINNED / manifest.head.file, manifest.head, dimension=64, labels=len(manifest.labels))
    assert weights.up_weight.shape == (16, 64)
    assert label_logits(weights, np.zeros((1, 64), np.float32)) is not None


def test_its_transfer_weights_are_those_of_todays_signals() -> None:
    """A signal that is added or renamed must not make releases unusable that are in service."""
    _, manifest = read_manifest(PINNED)
    assert sum(TransferWeights.from_dict(manifest.transfer).signals) > 0


def test_it_can_be_served(tmp_path: Path) -> None:
    """With every check of a load: checksums, shapes, space, golden vectors and interests. (A new version of the text
    cleaning is a new space by design: then a release with it is to be pinned beside this one.)"""
    release = load_release(PINNED, cache=tmp_path)
    assert release.manifest.encoder.cleaning == CLEANING_VERSION
    given = release.encoder.encode(release.encoder.tokenise(["beer1 and more", ""]))
    interests = release.head(given)
    assert not np.allclose(interests[0], given[0])
    assert abs(np.linalg.norm(interests[0]) - 1) < 1e-5
    assert not interests[1].any()
