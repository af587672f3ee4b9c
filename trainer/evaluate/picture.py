"""Evaluations as one picture: a row a set, a panel for items and one for labels. Knows no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.figure import Figure

from trainer.evaluate.answers import OURS
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.measured import Part
from trainer.evaluate.names import SAID
from trainer.page.fonts import drawable
from trainer.page.plots import LIGHT, Ink, new_axes, new_figure, png
from trainer.scores import HIT, LABEL

_KNOWN: Final = (("known:1", "1 text known", "o", -0.16), ("known:3", "3 texts known", "s", 0.16))
_ROW: Final = 0.36
"""Inches a contestant takes."""


def drawn(found: Sequence[Evaluation], ink: Ink = LIGHT) -> bytes:
    """As PNG: each contestant's mean and its 95 % interval, by number of texts known."""
    return png(figure_of(found, ink))


def figure_of(found: Sequence[Evaluation], ink: Ink) -> Figure:
    heights = [0.9 + _ROW * max(len(part.contestants) for part in _parts(each) if part is not None) for each in found]
    figure = new_figure(sum(heights) + 0.4, ink)
    handles: dict[str, Any] = {}
    for row, each in enumerate(found):
        for column, (part, metric) in enumerate(zip(_parts(each), (HIT, LABEL), strict=True)):
            axes = new_axes(figure, ink, (len(found), 2, 2 * row + column + 1))
            axes.set_title(f"{drawable(each.name)}: {SAID[metric]}", loc="left", color=ink.text, fontsize=10.5)
            if part is None:
                axes.text(0, 0.5, "not judged", color=ink.faint, fontsize=9)
                axes.set_xticks([])
                axes.set_yticks([])
                continue
            _panel(axes, part, metric, ink, handles)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        labelcolor=ink.text,
    )
    return figure


def _panel(axes: Any, part: Part, metric: str, ink: Ink, handles: dict[str, Any]) -> None:
    for group, said, marker, shift in _KNOWN:
        if group not in part.groups:
            continue
        for place, name in enumerate(part.contestants):
            mean = part.groups[group].scores[name][metric]
            colour = ink.series[0] if name in OURS else ink.faint
            axes.hlines(place + shift, mean.low, mean.high, color=colour, linewidth=1.8, alpha=0.7)
            (dot,) = axes.plot(mean.mean, place + shift, marker, color=colour, markersize=5.5, linestyle="none")
            handles.setdefault(said, dot)
    axes.set_yticks(range(len(part.contestants)), [SAID[name] for name in part.contestants])
    axes.set_ylim(len(part.contestants) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=ink.line, linewidth=0.8)


def _parts(found: Evaluation) -> tuple[Part | None, Part | None]:
    return found.measured.items, found.measured.labels
