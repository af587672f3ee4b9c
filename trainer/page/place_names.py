"""Names beside their points in a picture, none over another. Knows nothing of what the names are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.page.fonts import families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

_DIRECTIONS: Final = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES: Final = (9.0, 20.0, 34.0, 50.0, 70.0)
"""Points from a ring's middle to the name's edge."""
_FAR: Final = 25.0
"""From here on a line leads to the name."""
_POINT: Final = 7.0
"""Half a ring with some air, points."""


def placed(figure: Figure, axes: Any, points: NDArray[np.floating], names: Sequence[str], text: str, paper: str) -> int:
    """Write the names of (N, 2) points, the first ones first, each at the nearest free place; how many found none."""
    figure.draw_without_rendering()  # so that axes have their final place,
    figure.set_layout_engine("none")  # and stay there
    axes.autoscale(enable=False)
    scale = figure.dpi / 72
    at = axes.transData.transform(points)
    frame = axes.get_window_extent()
    rings = [_around(float(x), float(y), _POINT * scale) for x, y in at]
    taken: list[Box] = []
    left_out = 0
    for number, name in enumerate(names):
        written = axes.text(
            *points[number], name, color=text, fontsize=9, fontfamily=list(families()), parse_math=False, zorder=6
        )
        size = written.get_window_extent()
        others = [*taken, *rings[:number], *rings[number + 1 :]]
        place = free_place(
            (float(at[number, 0]), float(at[number, 1])),
            (size.width, size.height),
            others,
            (frame.x0, frame.y0, frame.x1, frame.y1),
            [distance * scale for distance in _DISTANCES],
        )
        if place is None:
            written.remove()
            left_out += 1
            continue
        taken.append(place)
        middle = axes.transData.inverted().transform([((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)])[0]
        written.set(position=tuple(middle), ha="center", va="center_baseline")
        written.set_bbox({"facecolor": paper, "alpha": 0.72, "linewidth": 0, "pad": 0.8})
        edge = np.array([np.clip(at[number, 0], place[0], place[2]), np.clip(at[number, 1], place[1], place[3])])
        if np.linalg.norm(edge - at[number]) > _FAR * scale:
            line = axes.transData.inverted().transform([edge, at[number]])
            axes.plot(*line.T, color=text, linewidth=0.6, alpha=0.6, zorder=3)
    return left_out


def free_place(
    point: tuple[float, float],
    size: tuple[float, float],
    taken: Sequence[Box],
    frame: Box,
    distances: Sequence[float],
) -> Box | None:
    """The nearest box of this size beside a point that is inside the frame and covers nothing; None for none."""
    width, height = size
    for distance in distances:
        for right, up in _DIRECTIONS:
            reach = distance if not (right and up) else distance * 0.7
            x = point[0] + right * (reach + width / 2)
            y = point[1] + up * (reach + height / 2)
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                return box
    return None


def _around(x: float, y: float, reach: float) -> Box:
    return (x - reach, y - reach, x + reach, y + reach)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
