"""What the small experiments share: arguments, the head of a page, tables, and pictures.

Every recipe is run as `python recipes/NAME.py`: it prints its page and writes images/NAME.svg.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pocketvision.measure.device import machine

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


def head(name: str, title: str, idea: str) -> list[str]:
    """The beginning of a page: title, idea, command, picture."""
    return [
        f"# {title}",
        "",
        idea,
        "",
        "```",
        f"python recipes/{name}.py > recipes/{name}.md",
        "```",
        "",
        f"![{title}](images/{name}.svg)",
        "",
    ]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, and an empty line after it."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def machine_line(packages: Sequence[str], threads: int = 1) -> str:
    """Where the figures of a page come from: processor, threads, system, versions, load."""
    here = machine()
    versions = ", ".join(f"{name} {here.versions[name]}" for name in packages)
    return (
        f"{here.cpu} ({', '.join(here.features)}), {here.cores} cores, "
        f"{threads} thread{'s' if threads > 1 else ''}, {here.system}, Python {here.python}, "
        f"{versions}; load at the end {here.load:.2f}."
    )
