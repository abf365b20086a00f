"""The four guidelines of ShuffleNetV2, timed here beside the paper's figures.

python recipes/shufflenet_guidelines.py [--out recipes]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from plotting import (
    ACCENT,
    LINE,
    SECOND,
    SOFT,
    head,
    machine_line,
    out_folder,
    save,
    style,
    table,
    tidy,
)
from shufflenet_stacks import GUIDELINES, Guideline, Variant, graph, macs, memory_access
from timing import cell, how_measured, measure_graphs

from pocketvision.record.timing import Latency

CLOSE = 0.03  # ratios of times nearer to 1 count as no difference


def main() -> None:
    """Time all variants, each guideline's against each other; write the picture, print the page."""
    out = out_folder(__doc__)
    latencies: dict[str, Latency] = {}
    for guideline in GUIDELINES:
        variants = guideline.wide + guideline.narrow
        latencies |= measure_graphs({one.name: graph(one) for one in variants})
    draw(latencies, out / "images" / "shufflenet_guidelines.svg")
    print("\n".join(lines(latencies)))


def relative_time(latency: Latency, first: Latency) -> tuple[float, float, float]:
    """Ratio of the medians, and the widest interval that both intervals allow."""
    return (
        latency.median_ms / first.median_ms,
        latency.low_ms / first.high_ms,
        latency.high_ms / first.low_ms,
    )


def direction(low: float, high: float) -> str:
    """What an interval of a ratio of times says."""
    if low > 1 + CLOSE:
        return "slower"
    if high < 1 - CLOSE:
        return "faster"
    return "the same" if low >= 1 - CLOSE and high <= 1 + CLOSE else "undecided"


def lines(latencies: Mapping[str, Latency]) -> list[str]:
    """The page, line by line."""
    page = head(
        "shufflenet_guidelines",
        "The guidelines of ShuffleNetV2, timed on this processor",
        "At equal multiply-accumulates, networks still differ in speed by what they read and write "
        "and by how they are cut up: four experiments, each a stack of ten blocks (Ma et al., "
        "section 2, Tables 1 to 4). The paper timed them on a GPU and an ARM processor; here they "
        "run on this one.",
    )
    page += [_summary(latencies), ""]
    for guideline in GUIDELINES:
        page += _section(guideline, latencies)
    return [
        *page,
        "Time is relative to the first row of its kind, wide or narrow, and its interval the "
        "widest that both rows' intervals allow; the GPU's and ARM's are the paper's speeds, "
        "inverted. The paper's maps are 56x56 with 128 channels (GPU) or 32 and 64 (ARM) in the "
        "first row, and its counts differ by up to 5.5 % in multiply-accumulates, these by less "
        "than 1 %. Wide maps are 28x28, narrow ones 56x56: the narrow compute less for each "
        "element they move. Memory access is the paper's hw(c1 + c2) + c1 c2 / g, which it gives "
        "for G1 and G2. G1 to G3 are bare 1x1 convolutions; in parallel, their outputs are added. "
        "A convolution from one channel, not counted, goes before each stack.",
        "",
        how_measured(latencies.values())
        + " ONNX Runtime, float, batch 1, with all of its graph optimisations: it computes a ReLU "
        "or a sum within the convolution before it where it can.",
        "",
        machine_line(("numpy", "onnxruntime")),
    ]


def _section(guideline: Guideline, latencies: Mapping[str, Latency]) -> list[str]:
    titles = ("blocks", "MMACs", "memory access", "ms", "time", "ARM", "GPU")
    rows = [
        _row(one, variants[0], guideline.has_formula, latencies)
        for variants in (guideline.wide, guideline.narrow)
        for one in variants
    ]
    return [
        f"## {guideline.name}: {guideline.claim} (Table {guideline.table})",
        "",
        *table(titles, rows),
        *_compared(guideline, latencies),
        "",
    ]


def _row(
    one: Variant, first: Variant, has_formula: bool, latencies: Mapping[str, Latency]
) -> tuple[str, ...]:
    ratio, low, high = relative_time(latencies[one.name], latencies[first.name])
    access = f"{memory_access(one) / memory_access(first):.2f}"
    arm = gpu = "–"
    if one.speeds and first.speeds:
        arm = f"{first.speeds.arm / one.speeds.arm:.2f}"
        gpu = f"{first.speeds.gpu / one.speeds.gpu:.2f}"
    return (
        one.name,
        f"{macs(one) / 1e6:.0f}",
        access if has_formula else "–",
        cell(latencies[one.name]),
        "1" if one is first else f"{ratio:.2f} ({low:.2f} to {high:.2f})",
        arm,
        gpu,
    )


def here_and_there(
    one: Variant, first: Variant, latencies: Mapping[str, Latency]
) -> tuple[str, str]:
    """The direction of a row that the paper has, here and on the paper's ARM processor."""
    assert one.speeds is not None
    assert first.speeds is not None
    _, low, high = relative_time(latencies[one.name], latencies[first.name])
    paper = first.speeds.arm / one.speeds.arm
    return direction(low, high), direction(paper, paper)


def _compared(guideline: Guideline, latencies: Mapping[str, Latency]) -> list[str]:
    """Which rows go as on the paper's ARM processor, which do not, and how the narrow ones go."""
    agree, disagree, undecided, narrow = [], [], [], []
    first, *others = guideline.wide
    for one in others:
        here, there = here_and_there(one, first, latencies)
        if here == "undecided":
            undecided.append(one.name)
        elif here == there:
            agree.append(f"{one.name} ({here})")
        else:
            disagree.append(f"{one.name} ({here} here, {there} in the paper)")
    first, *others = guideline.narrow
    for one in others:
        _, low, high = relative_time(latencies[one.name], latencies[first.name])
        narrow.append(f"{one.name.removeprefix('narrow, ')} ({direction(low, high)})")
    return [
        *([f"As on the paper's ARM: {'; '.join(agree)}."] if agree else []),
        *([f"Not as on the paper's ARM: {'; '.join(disagree)}."] if disagree else []),
        *([f"Undecided here: {'; '.join(undecided)}."] if undecided else []),
        f"Narrow, against their first row: {'; '.join(narrow)}.",
    ]


def _summary(latencies: Mapping[str, Latency]) -> str:
    pairs = [
        here_and_there(one, guideline.wide[0], latencies)
        for guideline in GUIDELINES
        for one in guideline.wide[1:]
    ]
    return (
        f"Of the paper's {len(pairs)} comparisons, {sum(here == there for here, there in pairs)} "
        "go here as they did on its ARM processor, and "
        f"{sum(here == 'undecided' for here, _ in pairs)} are undecided. A time is the same where "
        f"its whole interval lies within {CLOSE:.0%} of the first row's, and another where all of "
        "it lies beyond."
    )


def draw(latencies: Mapping[str, Latency], picture: Path) -> None:
    """One panel for each guideline: time relative to the first row, here and in the paper."""
    with style():
        figure, grid = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
        for axes, guideline in zip(grid.flat, GUIDELINES, strict=True):
            _draw_panel(axes, guideline, latencies)
        for axes in grid[1]:
            axes.set_xlabel("time relative to the first row, wide or narrow")
        handles = [
            Line2D([], [], color=ACCENT, marker="o", label="here"),
            Line2D([], [], color=SECOND, marker="s", ls="", mfc="none", label="paper, ARM"),
            Line2D([], [], color=SOFT, marker="^", ls="", mfc="none", label="paper, GPU"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        save(figure, picture)


def _draw_panel(axes: Axes, guideline: Guideline, latencies: Mapping[str, Latency]) -> None:
    tidy(axes)
    names: list[str] = []
    for variants in (guideline.wide, guideline.narrow):
        first = variants[0]
        for one in variants:
            y = len(names)
            names.append(one.name)
            ratio, *ends = relative_time(latencies[one.name], latencies[first.name])
            if one.speeds and first.speeds:
                axes.plot(first.speeds.arm / one.speeds.arm, y, "s", color=SECOND, mfc="none")
                axes.plot(first.speeds.gpu / one.speeds.gpu, y, "^", color=SOFT, mfc="none")
            axes.plot(ratio, y, "o", color=ACCENT)
            axes.plot(ends if one is not first else (1, 1), (y, y), color=ACCENT)
    axes.axhline(len(guideline.wide) - 0.5, color=LINE)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(f"{guideline.name}: {guideline.claim}", fontsize=9)


if __name__ == "__main__":
    main()
