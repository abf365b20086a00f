"""What the small experiments share: arguments, the head of a page, tables, and pictures.

Every recipe is run as `python recipes/NAME.py`: it prints its page and writes images/NAME.svg.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pocketvision.measure.device import machine

STUDENT_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
ACCENT, SECOND, THIRD, SOFT, LINE = "#0069a8", "#c04f00", "#2b7a3d", "#5b6573", "#dfe3e8"


def out_folder(description: str | None) -> Path:
    """The folder of --out, where images/ lies; by default the one of the recipes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out: Path = parser.parse_args().out
    return out


def style() -> AbstractContextManager[None]:
    """Within it, a figure is made and saved; the same figure gives the same file."""
    return pyplot.rc_context(
        {
            "svg.hashsalt": "pocketvision",
            "font.size": 10,
            "axes.edgecolor": LINE,
            "axes.titlesize": 10,
        }
    )


def save(figure: Figure, picture: Path) -> None:
    """Write and close a figure as SVG."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None})
    pyplot.close(figure)


def tidy(axes: Axes) -> None:
    """A light grid, and no frame where there is no axis."""
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def head(name: str, title: str, idea: str, *, picture: bool = True) -> list[str]:
    """The beginning of a page: title, idea, command, and a picture where there is one."""
    return [
        f"# {title}",
        "",
        idea,
        "",
        "```",
        f"python recipes/{name}.py > recipes/{name}.md",
        "```",
        "",
        *([f"![{title}](images/{name}.svg)", ""] if picture else []),
    ]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, and an empty line after it."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def spread_cell(values: Sequence[float], decimals: int = 2) -> str:
    """Mean and sample standard deviation: '60.13 ± 0.29'; the figure alone where there is one."""
    mean = f"{statistics.fmean(values):.{decimals}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{decimals}f}"


def gain_cell(values: Sequence[float], base: Sequence[float]) -> str:
    """Mean of paired differences with Student's 95 % interval: '+0.72 (+0.59 to +0.85)'."""
    gains = [value - other for value, other in zip(values, base, strict=True)]
    mean = statistics.fmean(gains)
    if len(gains) - 1 not in STUDENT_975:
        return f"{mean:+.2f}"
    half = STUDENT_975[len(gains) - 1] * statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def machine_line(packages: Sequence[str], threads: int = 1) -> str:
    """Where the figures of a page come from: processor, threads, system, versions, load."""
    here = machine()
    versions = ", ".join(f"{name} {here.versions[name]}" for name in packages)
    return (
        f"{here.cpu} ({', '.join(here.features)}), {here.cores} cores, "
        f"{threads} thread{'s' if threads > 1 else ''}, {here.system}, Python {here.python}, "
        f"{versions}; load at the end {here.load:.2f}."
    )
