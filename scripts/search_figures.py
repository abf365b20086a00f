"""Print what a search found beside what the same time gave otherwise, and draw its front.

python scripts/search_figures.py searched/record.json --picture recipes/images/NAME.svg > PAGE.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from pocketvision.budget import format_latency, format_size, format_time
from pocketvision.record.run import Record
from pocketvision.record.searched import Arm, Search, SearchedNetwork
from pocketvision.record.timing import Latency
from pocketvision.record.words import Sampling
from pocketvision.storage import from_json

COLOURS: dict[Sampling, str] = {"evolution": "#0069a8", "random": "#9aa4b1", "rl": "#2b7a3d"}
NAMES: dict[Sampling, str] = {
    "evolution": "evolution",
    "random": "random search",
    "rl": "reinforcement learning",
}
ARM_COLOURS = ("#0069a8", "#9aa4b1", "#c04f00", "#2b7a3d")
SECOND, LINE = "#c04f00", "#dfe3e8"


def main() -> None:
    """Read the arguments, print the page and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path, help="record.json of a finished search")
    parser.add_argument("--picture", type=Path, help="an SVG file to write")
    arguments = parser.parse_args()
    text = arguments.record.read_text(encoding="utf-8")
    record = from_json(Record, text, source=str(arguments.record))
    if record.search is None:
        raise SystemExit(f"{arguments.record} is not of a search.")
    print("\n".join(lines(record, record.search, arguments.picture)))
    if arguments.picture is not None:
        draw(record.search, record.budget.latency_ms, arguments.picture)


def lines(record: Record, search: Search, picture: Path | None) -> list[str]:
    """The page, line by line."""
    machine = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    splits = ", ".join(f"{s.name} {sum(s.counts)}" for s in record.data.splits)
    top1, judged = record.headline, f"{search.held_out} of train judge"
    spent = f"{format_time(record.spent_s)} of {format_time(record.budget.time_s or 0)}"
    return [
        f"# A search for {format_latency(record.budget.latency_ms or 0.0)}: {record.network.label}",
        "",
        f"{search.sentence} What ships gets {top1.value:.1%} of {top1.n} "
        f"{record.data.headline_split} images right ({top1.low:.1%} to {top1.high:.1%}).",
        "",
        "```",
        record.command,
        "```",
        "",
        *([f"![Members that were scored]({_relative(picture)})", ""] if picture else []),
        "| | |",
        "|---|---|",
        f"| Images | {splits}; {len(record.data.classes)} classes; {judged} |",
        f"| Space | {search.space}, {search.members:.1e} networks |",
        f"| Latency of | {search.precision} on {search.runtime}, {search.threads} thread(s) |",
        f"| Supernet | {search.supernet_steps} steps |",
        f"| Scored | {_scored(search.scored)} |",
        f"| Wall clock | {spent} |",
        f"| Machine | {machine.cpu}, {machine.cores} cores, {', '.join(machine.features)} |",
        f"| System | {machine.system}, Python {machine.python} |",
        f"| Versions | {versions} |",
        f"| Load at the end | {machine.load:.2f} |",
        "",
        "The same time and data for each arm; accuracy of the file that it would ship, on val:",
        "",
        "| arm | network | val top-1 (95 % interval) | latency (95 % interval) | in turns | size | "
        "time |",
        "|---|---|---|---|---|---|---|",
        *(arm_line(arm) for arm in search.arms),
        "",
        *(f"{arm.name} came to nothing: {arm.note}" for arm in search.arms if arm.note),
    ]


def arm_line(arm: Arm) -> str:
    """One row of the table of arms."""
    name = f"{arm.name}{' (shipped)' if arm.shipped else ''}"
    if arm.accuracy is None or arm.latency is None or arm.size_bytes is None:
        return f"| {name} | – | – | – | – | – | {format_time(arm.seconds)} |"
    top1 = arm.accuracy
    return (
        f"| {name} | {arm.network} | {top1.value:.1%} ({top1.low:.1%} to {top1.high:.1%}, n = "
        f"{top1.n}) | {_interval(arm.latency)} | {_interval(arm.in_turns)} | "
        f"{format_size(arm.size_bytes)} | {format_time(arm.seconds)} |"
    )


def _interval(latency: Latency | None) -> str:
    if latency is None:
        return "–"
    return f"{latency.median_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g})"


def _scored(scored: Sequence[SearchedNetwork]) -> str:
    """How many each way scored, and its best, with weights that all share."""
    words = []
    for origin, name in NAMES.items():
        found = [one.accuracy for one in scored if one.origin == origin]
        if found:
            words.append(f"{len(found)} by {name}, the best {max(found):.1%}")
    return "; ".join(words) + " expected accuracy"


def _relative(picture: Path) -> str:
    return f"{picture.parent.name}/{picture.name}"


def draw(search: Search, latency_ms: float | None, picture: Path) -> None:
    """Write the picture as SVG; the same record gives the same file. latency_ms: asked for."""
    with pyplot.rc_context(
        {"svg.hashsalt": "pocketvision", "font.size": 10, "axes.edgecolor": LINE}
    ):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
        _draw_scored(left, search)
        left.axvline(search.limit_ms, color=SECOND, linestyle="--")
        left.set_xlabel("latency by the table of blocks, ms")
        left.set_ylabel("expected accuracy with shared weights, %")
        _draw_arms(right, search)
        if latency_ms is not None:
            right.axvline(latency_ms, color=SECOND, linestyle="--")
        right.set_xlabel("latency of what each arm would ship, ms")
        right.set_ylabel("top-1 on val, %")
        for axes in (left, right):
            axes.legend(frameon=False)
            axes.grid(color=LINE, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, metadata={"Date": None})
        pyplot.close(figure)


def _draw_arms(axes: Axes, search: Search) -> None:
    """With the 95 % intervals of both."""
    for arm, colour in zip(search.arms, ARM_COLOURS, strict=False):
        if arm.accuracy is None or arm.compared is None:
            continue
        top1, latency = arm.accuracy, arm.compared
        axes.errorbar(
            [latency.median_ms],
            [100 * top1.value],
            xerr=[[latency.median_ms - latency.low_ms], [latency.high_ms - latency.median_ms]],
            yerr=[[100 * (top1.value - top1.low)], [100 * (top1.high - top1.value)]],
            fmt="o",
            color=colour,
            label=f"{arm.name}{' (shipped)' if arm.shipped else ''}",
        )


def _draw_scored(axes: Axes, search: Search) -> None:
    for origin in ("random", "evolution", "rl"):
        found = [one for one in search.scored if one.origin == origin]
        if found:
            axes.scatter(
                [one.latency_ms for one in found],
                [100 * one.accuracy for one in found],
                s=16,
                color=COLOURS[origin],
                label=NAMES[origin],
            )
    best: list[SearchedNetwork] = []
    for one in sorted(search.scored, key=lambda one: (one.latency_ms, -one.accuracy)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    axes.step(
        [one.latency_ms for one in best],
        [100 * one.accuracy for one in best],
        where="post",
        color=SECOND,
        label="front",
    )


if __name__ == "__main__":
    main()
