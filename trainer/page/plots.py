"""Numbers → pictures as PNG, the same bytes for the same numbers. Knows no file and no HTML.

Figures are made without pyplot: nothing here is global, and no window system is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trainer.calibration import Calibration
from trainer.interests import Map
from trainer.page.facts import ALL, Folds, Gains, Line, Weight
from trainer.page.fonts import drawable, families
from trainer.page.place_names import placed

from matplotlib.backends.backend_agg import FigureCanvasAgg  # isort: skip (after fonts has quietened its log)
from matplotlib.figure import Figure  # isort: skip

DPI: Final = 144
WIDTH: Final = 9.2
"""Inches; a page shows as many pixels as DPI / 2 gives."""


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours of a picture. series: the first is the candidate's."""

    paper: str
    text: str
    faint: str
    line: str
    series: tuple[str, ...]


LIGHT: Final = Ink(
    "#ffffff",
    "#1d2630",
    "#66727f",
    "#dfe4ea",
    ("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c", "#b08900", "#1864ab", "#7f4f24"),
)
DARK: Final = Ink(
    "#171c22",
    "#e6eaee",
    "#98a3ae",
    "#303842",
    ("#3bc9db", "#ff922b", "#b197fc", "#69db7c", "#f783ac", "#ffd43b", "#74c0fc", "#d4a373"),
)


def png(figure: Figure) -> bytes:
    """The figure at DPI."""
    written = io.BytesIO()
    FigureCanvasAgg(figure)  # the figure draws on it
    figure.savefig(
        written, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )  # a version would change the bytes
    return written.getvalue()


def folds_figure(tables: Sequence[Folds], ink: Ink) -> Figure:
    """A panel a metric: each fold a dot, their mean a bar, contestants from top to bottom."""
    most = max(len(table.rows) for table in tables)
    figure = new_figure(1.0 + 0.34 * most, ink)
    names = [row.name for row in max(tables, key=lambda table: len(table.rows)).rows]
    for number, table in enumerate(tables):
        axes = new_axes(figure, ink, (1, len(tables), number + 1))
        axes.set_title(table.title, loc="left", color=ink.text, fontsize=10.5)
        for row in table.rows:
            at, colour = names.index(row.name), ink.series[0] if row.name == names[0] else ink.faint
            axes.plot(row.folds, [at] * len(row.folds), "o", color=colour, alpha=0.55, markersize=5, markeredgewidth=0)
            axes.plot([row.cells[ALL][0]] * 2, [at - 0.3, at + 0.3], color=colour, linewidth=2.4)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names))
        axes.grid(axis="x", color=ink.line, linewidth=0.8)
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.12)
    return figure


def gains_figure(found: Sequence[Gains], ink: Ink) -> Figure:
    """A panel a metric: the gain and its interval, by number of texts known."""
    titles = list(dict.fromkeys(each.title for each in found))
    figure = new_figure(3.5, ink)
    for number, title in enumerate(titles):
        axes = new_axes(figure, ink, (1, len(titles), number + 1))
        axes.set_title(f"gain in {title}", loc="left", color=ink.text, fontsize=10.5)
        mine = [each for each in found if each.title == title]
        known = list(dict.fromkeys(key for each in mine for key in each.points))
        axes.axhline(0, color=ink.faint, linewidth=1)
        for nth, each in enumerate(mine):
            shift = (nth - (len(mine) - 1) / 2) * 0.2
            at = [known.index(key) + shift for key in each.points]
            mean = np.array([gain.mean for gain in each.points.values()])
            low = np.array([gain.low for gain in each.points.values()])
            high = np.array([gain.high for gain in each.points.values()])
            axes.vlines(at, low, high, color=ink.series[nth], linewidth=2)
            axes.plot(at, mean, "o", color=ink.series[nth], markersize=6, label=f"over {each.against}")
        axes.set_xticks(range(len(known)), [_texts(key) for key in known])
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.grid(axis="y", color=ink.line, linewidth=0.8)
        axes.margins(y=0.15)
        if number == 0:
            _legend(figure, axes, ink)
    return figure


def calibration_figure(found: Calibration, ink: Ink) -> Figure:
    """Share of hits against confidence, with the diagonal on which both are the same, and how many answers each point
    stands for."""
    figure = new_figure(4.0, ink)
    axes = new_axes(figure, ink, (1, 2, 1))
    sure = [each.confidence for each in found.bins]
    axes.plot([0, 1], [0, 1], color=ink.faint, linewidth=1, linestyle=(0, (4, 3)))
    axes.vlines(
        sure,
        [each.low for each in found.bins],
        [each.high for each in found.bins],
        color=ink.series[0],
        linewidth=2,
    )
    axes.plot(sure, [each.hits for each in found.bins], "o-", color=ink.series[0], markersize=6, linewidth=1.2)
    axes.set_title("share of hits", loc="left", color=ink.text, fontsize=10.5)
    axes.set_xlabel("confidence")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color=ink.line, linewidth=0.8)
    counts = new_axes(figure, ink, (1, 2, 2))
    width = 1 / len(found.histogram)
    middles = (np.arange(len(found.histogram)) + 0.5) * width
    counts.bar(middles, found.histogram, width * 0.86, color=ink.series[0], alpha=0.85)
    counts.set_title("answers", loc="left", color=ink.text, fontsize=10.5)
    counts.set_xlabel("confidence")
    counts.set_xlim(-0.02, 1.02)
    counts.grid(axis="y", color=ink.line, linewidth=0.8)
    return figure


def curves_figure(panels: Sequence[Line], ink: Ink) -> Figure:
    """A panel a fit and measure; the epoch that was kept is marked."""
    columns = 3 if len(panels) == 3 else min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.0 * rows, ink)
    for number, panel in enumerate(panels):
        axes = new_axes(figure, ink, (rows, columns, number + 1))
        axes.set_title(panel.title, loc="left", color=ink.text, fontsize=10.5)
        axes.axvline(panel.chosen, color=ink.faint, linewidth=1, linestyle=(0, (4, 3)))
        for nth, (name, points) in enumerate(panel.lines.items()):
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, "o-", color=ink.series[nth], markersize=3, linewidth=1.6, label=name)
        axes.set_xlabel(f"epoch ({panel.chosen} is kept)", loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color=ink.line, linewidth=0.8)
        axes.margins(y=0.15)
        below = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.2), "borderaxespad": 0.0, "borderpad": 0.2}
        axes.legend(**below, fontsize=8.5, frameon=False, labelcolor=ink.text)
    return figure


def weights_figure(found: Sequence[Weight], ink: Ink) -> Figure:
    """A bar a signal; a mark where the release in service has it, and a ring where the shipped blend has it."""
    figure = new_figure(0.9 + 0.235 * len(found), ink)
    axes = new_axes(figure, ink, (1, 1, 1))
    parts = list(dict.fromkeys(each.part for each in found))
    at = np.array([number + 0.6 * parts.index(each.part) for number, each in enumerate(found)])
    colours = [ink.series[parts.index(each.part)] for each in found]
    axes.barh(at, [each.now for each in found], 0.62, color=colours, alpha=0.85)
    axes.plot([each.before for each in found], at, "|", color=ink.text, markersize=10, markeredgewidth=2, clip_on=False)
    axes.plot([each.shipped for each in found], at, "o", color=ink.text, markersize=5, fillstyle="none", clip_on=False)
    axes.set_yticks(at, [f"{each.part}: {each.signal}" for each in found])
    axes.tick_params(axis="y", pad=9)
    axes.set_ylim(at[-1] + 0.7, -0.7)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=ink.line, linewidth=0.8)
    return figure


def map_figure(found: Map, ink: Ink) -> tuple[Figure, int]:
    """People as dots, labels as rings with their names where they do not cover each other; and how many names that
    left without a place."""
    figure = new_figure(6.2, ink)
    axes = new_axes(figure, ink, (1, 1, 1))
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    count = np.bincount(found.label_of[found.label_of >= 0], minlength=len(found.names))
    coloured = [label for label in np.argsort(-count, kind="stable")[: len(ink.series)].tolist() if count[label]]
    size = 14 if len(found.people) <= 500 else 7
    others = ~np.isin(found.label_of, coloured)
    axes.scatter(*found.people[others].T, s=size, color=ink.faint, alpha=0.25, linewidths=0)
    colours = [ink.faint] * len(found.names)
    for label, colour in zip(coloured, ink.series, strict=False):
        colours[label] = colour
        axes.scatter(*found.people[found.label_of == label].T, s=size, color=colour, alpha=0.5, linewidths=0)
    axes.scatter(*found.labels.T, s=46, facecolor=ink.paper, edgecolor=colours, linewidths=2, zorder=4)
    axes.set(**_view(found))
    left_out = placed(figure, axes, found.labels, [drawable(name) for name in found.names], ink.text, ink.paper)
    return figure, left_out


def _view(found: Map) -> dict[str, tuple[float, float]]:
    """Limits that show every label and nearly everybody: a few people far off would press all others together."""
    low, high = np.quantile(found.people, [0.01, 0.99], axis=0)
    if len(found.labels):
        low, high = np.minimum(low, found.labels.min(axis=0)), np.maximum(high, found.labels.max(axis=0))
    margin = np.maximum(0.06 * (high - low), 1e-3)
    ends = np.stack([low - margin, high + margin]).tolist()
    return {"xlim": (ends[0][0], ends[1][0]), "ylim": (ends[0][1], ends[1][1])}


def new_figure(height: float, ink: Ink) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=ink.paper)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1, wspace=0.04, hspace=0.04)
    return figure


def new_axes(figure: Figure, ink: Ink, place: tuple[int, int, int]) -> Any:
    axes = figure.add_subplot(*place, facecolor=ink.paper)
    axes.tick_params(colors=ink.faint, labelsize=8.5, length=0, labelfontfamily=list(families()))
    axes.xaxis.label.set(color=ink.faint, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_axisbelow(True)
    return axes


def _legend(figure: Figure, axes: Any, ink: Ink) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9, labelcolor=ink.text
    )


def _texts(known: str) -> str:
    return "all" if known == ALL else f"{known} text{'' if known == '1' else 's'}"
