"""A refit's report for people: one HTML file that needs nothing else, and its pictures beside it.

It is written after everything else is done, so that no release waits for a picture or is lost by one: what cannot be
drawn is said in the log and in the page.
"""

from __future__ import annotations

import base64
import logging
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment

from schemas.settings import ReleasePlace
from trainer.calibration import calibration
from trainer.gate import CANDIDATE, Limits
from trainer.interests import interest_map
from trainer.judge import accuracy
from trainer.learn import head_of
from trainer.page import facts, words
from trainer.publish import PAGE, report_directory
from trainer.recipe import STEPS, Refit
from trainer.release import Made
from trainer.scores import HIT, LABEL, NDCG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainer.page.plots import Ink

log = logging.getLogger(__name__)

_COUNTS: Final = {
    "read": "records read",
    "events": "events in the window",
    "repeats": "dropped: repeats of an event_id",
    "duplicates": "dropped: exact duplicates",
    "kept": "events learned from",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What is told. seconds: of each step that there was. peaks: most memory up to the end of each, bytes."""

    done: Refit
    seconds: Mapping[str, float]
    peaks: Mapping[str, int]
    limits: Limits


def write_page(place: ReleasePlace, run: Run) -> Path | None:
    """Where the page is now; None where there is none: this window had been refitted before, or the page could not be
    written, which the log says. Raises nothing."""
    made = run.done.made
    if made is None:
        return None
    try:
        directory = report_directory(place, run.done.whole.manifest.name)
        directory.mkdir(parents=True, exist_ok=True)
        html, pngs = page(run, made)
        for name, data in pngs.items():
            _replace(directory / f"{name}.png", data)
        _replace(directory / PAGE, html.encode())
        return directory / PAGE
    except Exception as error:
        log.error(
            "the report of %s could not be written (%s: %s); the release is not touched by that",
            run.done.whole.manifest.name,
            type(error).__name__,
            error,
        )
        return None


def page(run: Run, made: Made) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures on light paper as PNG by name. The same run: the same bytes."""
    validated, manifest = made.validated, run.done.whole.manifest
    tables, gains = facts.folds(validated), facts.gains(validated)
    curves = facts.curves(made.tried, made.blend)
    weights = facts.weights(manifest.transfer, made.before)
    sure = facts.confident(validated)
    calibrated = None if sure is None else calibration(*sure)
    head = made.serving_head if made.head is None else head_of(made.head)
    drawn = interest_map(made.data, made.vectors, head)
    unnamed = 0

    def map_figure(ink: Ink) -> Figure:
        nonlocal unnamed
        assert drawn is not None  # noqa: S101 (asked for only where there is one)
        figure, unnamed = plots.map_figure(drawn, ink)
        return figure

    from trainer.page import plots  # takes half a second, and a worker's machine may have no use for it

    wanted: dict[str, Callable[[Ink], Figure]] = {}
    if tables:
        wanted["folds"] = lambda ink: plots.folds_figure(tables, ink)
    if gains:
        wanted["gain"] = lambda ink: plots.gains_figure(gains, ink)
    if calibrated is not None:
        wanted["calibration"] = lambda ink: plots.calibration_figure(calibrated, ink)
    if curves:
        wanted["learning"] = lambda ink: plots.curves_figure(curves, ink)
    if drawn is not None:
        wanted["interests"] = map_figure
    wanted["blend"] = lambda ink: plots.weights_figure(weights, ink)
    light, shown = {}, {}
    for name, figure in wanted.items():
        try:
            light[name], dark = (plots.png(figure(ink)) for ink in (plots.LIGHT, plots.DARK))
        except Exception as error:
            log.warning("the picture %s could not be drawn (%s: %s)", name, type(error).__name__, error)
            light.pop(name, None)
            continue
        width, height = struct.unpack(">II", light[name][16:24])  # of the PNG's first chunk
        shown[name] = {"light": _uri(light[name]), "dark": _uri(dark), "width": width // 2, "height": height // 2}
    html = _template().render(
        release=manifest.name,
        word="accepted" if run.done.verdict.accepted else "rejected",
        made=f"made {manifest.created_at:%Y-%m-%d %H:%M} UTC",
        encoder=manifest.encoder.name,
        standing=words.standing(run.done),
        figures=list(_figures(run, made)),
        verdict=list(words.verdict(run.done, made)),
        reasons=run.done.verdict.reasons,
        dropped=made.dropped,
        checks=list(words.fitness(run.done.verdict.numbers, run.limits)),
        folds=[_table(table) for table in tables],
        fold_count=len(tables[0].rows[0].folds) if tables else 0,
        labelled=any(table.title == facts.TITLES[LABEL] for table in tables),
        gains=[_gain(each) for each in gains],
        gain_known=[_texts(known) for known in (gains[0].points if gains else ())],
        calibration=calibrated and dict(zip(("sentence", "caption"), words.calibrated(calibrated), strict=True)),
        learning=list(words.learning(made)),
        curves=curves,
        map=drawn and dict(zip(("sentence", "caption"), words.mapped(drawn, unnamed), strict=True)),
        blend_sentence=words.blended(made),
        weights=[
            {"part": each.part, "signal": each.signal}
            | {name: f"{getattr(each, name):.3f}" for name in ("now", "before", "shipped")}
            for each in weights
        ],
        counts=list(_counts(made)),
        stretches=_stretches(run.done),
        steps=list(_steps(run)),
        pictures=shown,
    )
    return html, light


def _template() -> Any:
    environment = Environment(autoescape=True, trim_blocks=False)
    return environment.from_string(files("trainer.page").joinpath("page.html").read_text(encoding="utf-8"))


def _figures(run: Run, made: Made) -> Any:
    numbers, validated = run.done.verdict.numbers, made.validated
    for metric in (NDCG, HIT):
        scores = validated.items.scores[metric].get(CANDIDATE)
        if scores is not None and len(scores):
            yield {"name": f"{facts.TITLES[metric]} of the candidate", "value": f"{scores.mean():.3f}"}
    if "gain.mean" in numbers:
        yield {"name": "gain in nDCG@10 that was judged", "value": f"{numbers['gain.mean']:+.3f}"}
    if len(validated.labels.user):
        yield {"name": "Accuracy(D): label accuracy, one text known", "value": f"{accuracy(validated):.3f}"}
    yield {"name": "events learned from", "value": f"{made.data.counts['kept']:,}"}
    yield {"name": "users", "value": f"{made.data.users:,}"}


def _table(table: facts.Folds) -> dict[str, object]:
    return {
        "title": table.title,
        "known": [_texts(known) for known in table.known],
        "rows": [
            {
                "name": row.name,
                "mine": row.name == facts.CONTESTANTS[CANDIDATE],
                "cells": [
                    {"mean": f"{row.cells[known][0]:.3f}", "spread": f"{row.cells[known][1]:.3f}"}
                    for known in table.known
                ],
            }
            for row in table.rows
        ],
    }


def _gain(each: facts.Gains) -> dict[str, object]:
    cells = [
        {"mean": f"{gain.mean:+.4f}", "low": f"{gain.low:+.4f}", "high": f"{gain.high:+.4f}"}
        for gain in each.points.values()
    ]
    return {"title": each.title, "against": each.against, "cells": cells}


def _counts(made: Made) -> Any:
    data = made.data
    rows = {name: count for name, count in data.counts.items() if name not in _COUNTS}
    for name, called in _COUNTS.items():
        if name in data.counts:
            yield {"name": called, "value": f"{data.counts[name]:,}"}
        if name == "read":
            for reason, count in rows.items():
                yield {"name": f"left out: {reason}", "value": f"{count:,}"}
    yield {"name": "of these with no text left after cleaning", "value": f"{int((data.text < 0).sum()):,}"}
    yield {"name": "users", "value": f"{data.users:,}"}
    yield {"name": "items", "value": f"{len(data.item_ids):,}"}
    yield {"name": "labels", "value": f"{len(data.label_names):,}"}
    languages = sum(1 for language in data.languages if language)
    yield {"name": "languages that are named", "value": f"{languages:,}"}


def _stretches(done: Refit) -> list[dict[str, object]]:
    window = done.whole.manifest.window
    if window is None:
        return []
    return [
        {"partition": name, "start": f"{window.start.get(name, 0):,}", "end": f"{window.end[name]:,}"}
        for name in sorted(window.end, key=lambda name: (len(name), name))
    ]


def _steps(run: Run) -> Any:
    most = max(run.seconds.values(), default=0.0) or 1.0
    for number, step in enumerate(STEPS, 1):
        if step in run.seconds:
            seconds, peak = run.seconds[step], run.peaks.get(step)
            yield {
                "number": number,
                "name": step,
                "seconds": f"{seconds:,.1f}",
                "share": round(100 * seconds / most, 1),
                "memory": "" if peak is None else f"{peak / 1e9:.2f} GB",
            }


def _texts(known: str) -> str:
    return "all" if known == facts.ALL else f"{known} text{'' if known == '1' else 's'} known"


def _uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _replace(file: Path, data: bytes) -> None:
    aside = file.with_name(f".{file.name}.aside")
    aside.write_bytes(data)
    os.replace(aside, file)
