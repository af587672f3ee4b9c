"""An evaluation as tables for a terminal of 80 columns. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ops.cli.render import plain_table
from trainer.evaluate.answers import KINDRED, OURS
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.measured import ALL, NOVELTY, RECALL, Mean, Part
from trainer.evaluate.names import SAID
from trainer.scores import HIT, LABEL, NDCG

SHOWN_LABELS: Final = 6
NAME_CHARACTERS: Final = 18


def evaluations(found: Sequence[Evaluation]) -> RenderableType:
    """Each set with its tables, and one for all of them."""
    parts: list[RenderableType] = []
    for each in found:
        parts += [*([Text()] if parts else []), *_set(each)]
    return Lines(*parts, *([Text(), _summary(found)] if len(found) > 1 else []))


def _set(found: Evaluation) -> Iterator[RenderableType]:
    yield Text(found.name, style="bold underline")
    languages = ", ".join(found.languages[:4]) or "no language told"
    yield Text(
        f"{found.events:,} events of {found.users:,} users; {found.items:,} items, {found.labels:,} labels; "
        f"{languages}; encoder {found.encoder}"
    )
    for note in found.notes:
        yield Text(note, style="yellow")
    items, labels = found.measured.items, found.measured.labels
    if items is not None:
        yield Text()
        yield Text(
            f"Items: {items.questions:,} questions; in {found.measured.reachable:.0%} of them an item that was taken "
            "later was known already: nobody can hit more."
        )
        yield _items(items, found)
    if labels is not None:
        yield Text()
        yield Text(f"Labels: {labels.questions:,} texts whose own labels were hidden.")
        yield _labels(labels)
    yield Text()
    yield Text("Kindred over the best single baseline, question by question (95 % by user)")
    yield _gains([part for part in (items, labels) if part is not None])
    part, metric = (items, HIT) if items is not None else (labels, LABEL)
    if part is not None and (rows := list(_group_rows(part, metric))):
        yield Text()
        yield Text(
            f"{SAID[metric]} by group; best: {SAID[part.best[metric]]}; gain: of {SAID[_ours(part)[-1]]} over it"
        )
        yield _table(("group", *_heads(part), "gain (95 %)"), rows)


def _items(part: Part, found: Evaluation) -> Table:
    rows = []
    for name in part.contestants:
        scores = part.groups[ALL].scores[name]
        rows.append(
            (
                SAID[name],
                _with_interval(scores[HIT]),
                *(_at(part, known, name, HIT) for known in ("known:1", "known:3")),
                *(_number(scores[metric].mean) for metric in (RECALL, NDCG)),
                f"{found.measured.coverage[name]:.0%}",
                f"{scores[NOVELTY].mean:.1f}" if isfinite(scores[NOVELTY].mean) else "–",
            )
        )
    table = _table(("", "hit@10 (95 %)", "n=1", "n=3", "recall", "nDCG", "cover", "novel"), rows, len(_ours(part)))
    table.caption = (
        "n: texts known. recall, nDCG: @10. cover: share of the items ever recommended. novel: bits, higher is rarer."
    )
    return table


def _labels(part: Part) -> Table:
    rows = [
        (
            SAID[name],
            _with_interval(part.groups[ALL].scores[name][LABEL]),
            *(_at(part, known, name, LABEL) for known in ("known:1", "known:3")),
        )
        for name in part.contestants
    ]
    return _table(("", "accuracy (95 %)", "n=1", "n=3"), rows, len(_ours(part)))


def _gains(parts: Sequence[Part]) -> Table:
    rows = []
    for part in parts:
        for metric in (HIT, NDCG, LABEL):
            for name in _ours(part):
                if metric in part.best:
                    gain = part.groups[ALL].gains[name][metric]
                    rows.append((SAID[metric], SAID[name], SAID[part.best[metric]], _gain(gain)))
    return _table(("metric", "", "over", "gain (95 %)"), rows)


def _heads(part: Part) -> tuple[str, ...]:
    return ("asked", *(SAID[name] for name in _ours(part)), "best")


def _group_rows(part: Part, metric: str) -> Iterator[tuple[str, ...]]:
    """Of the last of Kindred's contestants the gain."""
    ours = _ours(part)
    labels = 0
    for name, group in part.groups.items():
        kind, _, value = name.partition(":")
        labels += kind == "label"
        if kind in (ALL, "known") or (kind == "label" and labels > SHOWN_LABELS):
            continue
        if kind == "language" and sum(other.startswith("language:") for other in part.groups) < 2:
            continue
        if kind == "label" and labels == 1:
            yield ("of the label", *[""] * (len(ours) + 3))
        scores = [_number(group.scores[each][metric].mean) for each in (*ours, part.best[metric])]
        said = {"refit": f"{value} first refit", "texts": f"{value} texts in all", "label": f"  {value}"}
        yield (
            _cut(said.get(kind, f"{kind} {value}")),
            f"{group.questions:,}",
            *scores,
            _gain(group.gains[ours[-1]][metric]),
        )


def _summary(found: Sequence[Evaluation]) -> RenderableType:
    """One line a set, for items and for labels."""
    lines: list[RenderableType] = [Text("All sets", style="bold underline")]
    names = [name for name in OURS if name == KINDRED or any(each.settings.refit_at for each in found)]
    for metric, ours in ((HIT, names), (LABEL, names[:1])):
        rows = []
        for each in found:
            part = each.measured.items if metric == HIT else each.measured.labels
            if part is None:
                rows.append((_cut(each.name), *["–"] * (len(ours) + 2), "not judged"))
                continue
            group, best = part.groups[ALL], part.best[metric]
            reach = f"{each.measured.reachable:.0%}" if metric == HIT else "–"
            told = [_number(group.scores[name][metric].mean) if name in group.scores else "–" for name in ours]
            against = f"{_number(group.scores[best][metric].mean)} {SAID[best]}"
            rows.append((_cut(each.name), reach, *told, _starred(group.gains[_ours(part)[-1]][metric]), against))
        heads = (SAID[metric], "reach", *(SAID[name] for name in ours), "gain", "best single baseline")
        lines += [Text(), _table(heads, rows)]
    said = f"gain: of {SAID[names[-1]]} over that baseline; * where its 95 % interval excludes 0."
    return Lines(*lines, Text(said, style="dim italic"))


def _ours(part: Part) -> list[str]:
    return [name for name in part.contestants if name in OURS]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], bold: int = 0) -> Table:
    """Numbers to the right; the first rows bold."""
    table = plain_table(*heads)
    table.caption_justify = "left"
    for number, column in enumerate(table.columns):
        column.no_wrap = True
        if number and all(row[number][:1] in "+-–.0123456789" for row in rows):
            column.justify = "right"
    for number, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style="bold" if number < bold else None)
    return table


def _at(part: Part, group: str, name: str, metric: str) -> str:
    return _number(part.groups[group].scores[name][metric].mean) if group in part.groups else "–"


def _number(value: float) -> str:
    """Three decimals, without the zero before the point."""
    if not isfinite(value):
        return "–"
    return f"{value:.3f}".removeprefix("0") if value >= 0 else f"-{_number(-value)}"


def _with_interval(mean: Mean) -> str:
    return f"{_number(mean.mean)} {_number(mean.low)}–{_number(mean.high)}"


def _gain(mean: Mean) -> str:
    return f"{_signed(mean.mean)} ({_signed(mean.low)} to {_signed(mean.high)})"


def _starred(mean: Mean) -> str:
    return f"{_signed(mean.mean)}{'*' if mean.low > 0 or mean.high < 0 else ' '}"


def _signed(value: float) -> str:
    return _number(value) if value < 0 else f"+{_number(value)}"


def _cut(name: str, characters: int = NAME_CHARACTERS) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"
