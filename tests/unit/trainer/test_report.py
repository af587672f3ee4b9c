"""What a terminal shows of a refit, in a narrow one too."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tests.refits import run, validated
from trainer.crossval import Scored, Validated
from trainer.report import show


def shown(directory: Path, **changes: Any) -> str:
    told = io.StringIO()
    made = run(directory, **changes)
    show(made.done, made.seconds, 10**9, None, Console(file=told, width=80))
    return told.getvalue()


def one_fold(part: Scored) -> Scored:
    return replace(part, fold=np.zeros_like(part.fold))


def test_folds_are_told_with_their_spread_and_every_line_fits(tmp_path: Path) -> None:
    said = shown(tmp_path)
    assert "240 questions of newcomers, 100% reachable" in said
    assert said.count("±") > 10
    assert "…" not in said
    assert "Accuracy(D), one text known" in said
    assert "is accepted" in said


def test_one_hold_out_has_no_spread(tmp_path: Path) -> None:
    found = validated()
    said = shown(tmp_path, validated=Validated(one_fold(found.items), one_fold(found.labels)))
    assert "newcomers who teach nothing" in said
    assert "±" not in said
