"""The confusion matrix: every true class shared out over the classes that were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pocketvision.report.chart import Chart, label, rectangle, svg, turned
from pocketvision.report.text import clipped, percent

COUNTED_CLASSES = 12  # up to which a cell holds its count
TIPPED_CLASSES = 40  # up to which every cell says what it counts
NAMED_CLASSES = 60  # up to which every row and column is named
MOST_CLASSES = 400  # beyond, a cell would be smaller than a pixel of a screen
SHADES = 8
MARGIN = 32  # pixels for the titles of the axes
CHARACTER = 6.9  # pixels, the mean width in a name


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grid:
    """Where cells lie: `cell` pixels each, the first at (`left`, `top`)."""

    cell: float
    left: float
    top: float
    names: tuple[str, ...]  # empty where there is no room for them

    def size(self, count: int) -> tuple[int, int]:
        return round(self.left + count * self.cell + 8), round(self.top + count * self.cell + 8)


def confusion_chart(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], counted: str = "image"
) -> Chart | None:
    """Shares of each true class; None without counts or with too many classes.

    counted: what one count is; where it is no image, cells tell shares.
    """
    count = len(classes)
    if not any(map(any, confusion)) or count > MOST_CLASSES:
        return None
    right = sum(row[i] for i, row in enumerate(confusion))
    total = sum(map(sum, confusion))
    order = "" if count <= NAMED_CLASSES else " Classes are in the order of their names."
    return Chart(
        id="confusion",
        title="Confusion matrix",
        how_to_read=(
            "Each row is a true class and is shared out over the classes the network named; a "
            f"perfect network fills the diagonal alone, an empty cell is no {counted}.{order}"
        ),
        alt=f"Heat map of {count} by {count} classes; {right:,} of {total:,} {counted}s lie on the "
        "diagonal. The tables below name the classes that are confused.",
        wide=_draw(confusion, classes, _grid(classes, wide=True), counted),
        narrow=_draw(confusion, classes, _grid(classes, wide=False), counted),
    )


def _grid(classes: Sequence[str], *, wide: bool) -> _Grid:
    count = len(classes)
    if count > NAMED_CLASSES:
        cell = (800 if wide else 560) / count
        return _Grid(cell=max(cell, 2), left=MARGIN, top=MARGIN, names=())
    length = 22 if wide else 12
    names = tuple(clipped(name, length) for name in classes)
    room = MARGIN + 8 + CHARACTER * max(map(len, names))
    space, largest = (620, 52) if wide else (165, 40)
    cell = min(largest, max(14, space / count))
    return _Grid(cell=cell, left=room, top=room, names=names)


def _draw(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], grid: _Grid, counted: str
) -> Markup:
    count = len(classes)
    width, height = grid.size(count)
    span = count * grid.cell
    parts = [
        rectangle(grid.left, grid.top, span, span, "plane"),
        label(grid.left + span / 2, 12, "named", "middle", "title"),
        turned(12, grid.top + span / 2, "true class", "middle", "title"),
        *_names(grid),
    ]
    if count > TIPPED_CLASSES:
        return svg(width, height, *parts, *_shades(confusion, grid))
    return svg(width, height, *parts, *_cells(confusion, classes, grid, counted))


def _names(grid: _Grid) -> list[Markup]:
    parts = []
    for number, name in enumerate(grid.names):
        middle = (number + 0.5) * grid.cell + 4
        parts.append(label(grid.left - 8, grid.top + middle, name, "end"))
        parts.append(turned(grid.left + middle, grid.top - 8, name, "start"))
    return parts


def _cells(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], grid: _Grid, counted: str
) -> list[Markup]:
    """A box with words for every cell that counts something."""
    parts = []
    for i, row in enumerate(confusion):
        for j, cell in enumerate(row):
            if not cell:
                continue
            share = cell / sum(row)
            x, y = grid.left + j * grid.cell, grid.top + i * grid.cell
            tip = (
                f"true: {classes[i]}\nnamed: {classes[j]}\n"
                f"{cell:,} of {sum(row):,} {counted}s, {percent(share)}"
            )
            inner = grid.cell - 1
            parts.append(rectangle(x + 0.5, y + 0.5, inner, inner, f"cell h{_shade(share)}", tip))
            if len(classes) <= COUNTED_CLASSES:
                style = "count dark" if _shade(share) > SHADES // 2 else "count"
                middle = grid.cell / 2
                words = f"{cell:,}" if counted == "image" else f"{share:.0%}"
                parts.append(label(x + middle, y + middle + 4, words, "middle", style))
    return parts


def _shades(confusion: Sequence[Sequence[int]], grid: _Grid) -> list[Markup]:
    """One path for all cells of a shade: thousands of cells stay a small file."""
    boxes: dict[int, list[str]] = {}
    side = f"{grid.cell:.3g}"
    box = f"h{side}v{side}h-{side}z"
    for i, row in enumerate(confusion):
        total = sum(row)
        for j, cell in enumerate(row):
            if cell:
                at = f"M{grid.left + j * grid.cell:.1f} {grid.top + i * grid.cell:.1f}{box}"
                boxes.setdefault(_shade(cell / total), []).append(at)
    path = Markup('<path class="cell h{}" d="{}"/>')
    return [path.format(shade, "".join(boxes[shade])) for shade in sorted(boxes)]


def _shade(share: float) -> int:
    """1 for the smallest shares to `SHADES` for all of a class; small ones are told apart."""
    return min(SHADES, 1 + int(SHADES * share**0.7))
