"""Print the figures of runs on hyperspectral scenes as Markdown, several in one table.

python scripts/scene_figures.py fitted/record.json [other/record.json ...] > recipes/NAME.md

Source of OA, AA and kappa: measure/scene_scores.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pocketvision.budget import format_size, format_time
from pocketvision.record.timing import Machine
from pocketvision.report.scene_rows import (
    METHODS,
    SPLITS,
    TRAININGS,
    file_rows,
    leak_range,
    leak_words,
    method_rows,
    spread_number,
    spread_percent,
    steps_words,
)
from pocketvision.report.search_rows import narrowing_sentence
from pocketvision.report.text import percent, points, significant, tiny
from pocketvision.scene_record import SceneRecord, Spread
from pocketvision.storage import from_json

Records = dict[str, SceneRecord]  # by the folder that each lies in
Cells = Sequence[str]


def lines(records: Records) -> list[str]:
    """The page, line by line."""
    first = next(iter(records.values()))
    return [
        f"# {first.scene.name}: {title(first)}",
        "",
        *(f"{prefix(name, records)}{record.verdict.sentence}" for name, record in records.items()),
        "",
        "```",
        *(record.command for record in records.values()),
        "```",
        "",
        *table(("", *(name if len(records) > 1 else "" for name in records)), facts(records)),
        "Overall accuracy (OA), average accuracy over classes (AA) and Cohen's kappa on test "
        "pixels, with the shares of test windows that leak; mean ± standard deviation over n runs:",
        "",
        *table(named(records, METHOD_TITLES), rows_of(records, method_cells)),
        "Every run, with the leakage of its own split:",
        "",
        *table(named(records, RUN_TITLES), rows_of(records, run_cells)),
        "Exported files: median time with its 95 % interval; agreement, drop in OA on training "
        "pixels and largest difference of logits against the float network in PyTorch:",
        "",
        *table(named(records, FILE_TITLES), rows_of(records, file_cells)),
    ]


def title(record: SceneRecord) -> str:
    """What was fitted, and how it was split."""
    return f"{record.network.label}, {SPLITS[record.splits[0].kind]}"


def facts(records: Records) -> list[Cells]:
    """One row for each fact, one column for each record; none for what no record tells."""
    rows = {name: [fact(record) for record in records.values()] for name, fact in FACTS.items()}
    return [(name, *cells) for name, cells in rows.items() if any(cells)]


FACTS: dict[str, Callable[[SceneRecord], str]] = {
    "Scene": lambda r: (
        f"{r.scene.name}, {r.scene.height} x {r.scene.width} pixels, {r.scene.bands} bands, "
        f"{len(r.scene.classes)} classes, {sum(r.scene.counts):,} labelled pixels"
    ),
    "Split": lambda r: (
        f"{SPLITS[r.splits[0].kind]}, guard {r.splits[0].guard}, window {r.splits[0].window}, "
        f"seeds {number_range([split.seed for split in r.splits])}"
    ),
    "Pixels to train": lambda r: number_range([sum(split.train) for split in r.splits]),
    "Pixels to test": lambda r: number_range([sum(split.test) for split in r.splits]),
    "Pixels dropped": lambda r: number_range([sum(split.dropped) for split in r.splits]),
    "Test windows that hold a training centre": lambda r: leak_range(
        [split.leakage.centre for split in r.splits]
    ),
    "Test windows that share pixels with a training window": lambda r: leak_range(
        [split.leakage.window for split in r.splits]
    ),
    "Bands": lambda r: f"{r.reduction.method}, {r.reduction.bands} to {r.reduction.components}",
    "Network": lambda r: f"{r.network.label}, {r.network.start}",
    "Narrowed": lambda r: narrowing_sentence(r.narrowing) if r.narrowing else "",
    "Parameters": lambda r: f"{r.network.parameters:,}",
    "MACs for a pixel, patch by patch": lambda r: f"{r.network.macs:,}",
    "MACs for a pixel, in a whole scene": lambda r: f"{r.network.dense_macs:,}",
    "Shipped": lambda r: (
        f"{r.shipped.form}, {r.shipped.precision}, {format_size(r.shipped.size_bytes)}, "
        f"{threads(r.shipped.threads)}"
    ),
    "Shipped file on the test pixels of the first split": lambda r: (
        f"OA {percent(r.headline.overall)}, AA {percent(r.headline.average)}, kappa "
        f"{r.headline.kappa:.4f}, n = {r.headline.n:,}; {leak_words(r.splits[0].leakage)}"
    ),
    "Map of the whole scene": lambda r: f"{significant(r.map_seconds)} s",
    "Wall clock": lambda r: format_time(r.spent_s),
    "Machine": lambda r: f"{r.machine.cpu}, {r.machine.cores} cores, {features(r.machine)}",
    "System": lambda r: f"{r.machine.system}, Python {r.machine.python}",
    "Versions": lambda r: ", ".join(f"{k} {v}" for k, v in r.machine.versions.items()),
    "Load at the end": lambda r: f"{r.machine.load:.2f}",
    "Scene fingerprint": lambda r: f"`{r.scene.fingerprint[:16]}`",
}

METHOD_TITLES = (
    *("method", "training", "OA", "AA", "kappa", "n", "hold a training centre"),
    *("share pixels with a training window", "steps", "training, minutes", "map, s"),
)
RUN_TITLES = (
    *("method", "training", "seed", "OA, %", "AA, %", "kappa", "test pixels"),
    *("hold a training centre", "share pixels with a training window", "learned from"),
    *("steps", "training, minutes", "map, s"),
)
FILE_TITLES = (
    *("file", "size", "µs for a pixel in a map", "runs of pixels", "µs for a pixel's window"),
    *("agreement", "without a label", "of a tile", "drop, points", "largest difference"),
    *("gate", "budget"),
)


def method_cells(record: SceneRecord) -> list[Cells]:
    """One row for each method, trained one way."""
    return [
        (
            row.label + " (shipped)" * row.shipped,
            row.training,
            spread_percent(row.overall),
            spread_percent(row.average),
            spread_number(row.kappa),
            f"{row.overall.n}",
            row.centre_leak,
            row.window_leak,
            row.steps,
            spread_cell(row.train_seconds, 1 / 60),
            spread_cell(row.map_seconds, 1),
        )
        for row in method_rows(record)
    ]


def run_cells(record: SceneRecord) -> list[Cells]:
    """One row for each run."""
    return [
        (
            METHODS.get(run.method, run.method),
            TRAININGS[run.training],
            f"{run.seed}",
            f"{100 * run.scores.overall:.2f}",
            f"{100 * run.scores.average:.2f}",
            f"{run.scores.kappa:.4f}",
            f"{run.scores.n:,}",
            leak_range([split.leakage.centre]),
            leak_range([split.leakage.window]),
            f"{run.learned_from:,}",
            steps_words([run]),
            f"{run.train_seconds / 60:.2f}",
            f"{run.map_seconds:.2f}",
        )
        for method in method_rows(record)
        for run, split in ((row.run, row.split) for row in method.runs)
    ]


def file_cells(record: SceneRecord) -> list[Cells]:
    """One row for each exported file."""
    return [
        (
            f"{row.file.form} {row.file.precision}" + " (shipped)" * row.file.shipped,
            format_size(row.file.size_bytes),
            f"{significant(row.median_us)} ({significant(row.low_us)} to "
            f"{significant(row.high_us)})",
            f"{row.file.latency.runs} of {row.file.pixels:,}, {threads(row.file.latency.threads)}"
            + f"; {row.file.latency.noise}" * bool(row.file.latency.noise),
            f"{significant(1e3 * row.file.pixel_latency.median_ms)} "
            f"({significant(1e3 * row.file.pixel_latency.low_ms)} to "
            f"{significant(1e3 * row.file.pixel_latency.high_ms)})",
            f"{row.file.agreement:.2%} of {row.file.compared:,}",
            share_or_none(row.file.unlabelled_agreement),
            share_or_none(row.file.tile_agreement),
            points(row.file.drop),
            tiny(row.file.largest_difference),
            "pass" if row.file.passed_gate else "fail",
            "within" if row.file.within_budget else "over",
        )
        for row in file_rows(record.files)
    ]


def share_or_none(share: float | None) -> str:
    """'99.12%', or a dash."""
    return "–" if share is None else f"{share:.2%}"


def spread_cell(one: Spread, scale: float) -> str:
    """Mean and standard deviation, times `scale`."""
    mean = f"{scale * one.mean:.2f}"
    return mean if one.std is None else f"{mean} ± {scale * one.std:.2f}"


def number_range(numbers: Sequence[int]) -> str:
    """'3,074', or '2,951 to 3,102' where they differ."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def threads(count: int) -> str:
    """'1 thread'."""
    return f"{count} thread" + "s" * (count != 1)


def features(machine: Machine) -> str:
    """Instruction sets."""
    return " ".join(machine.features)


def prefix(name: str, records: Records) -> str:
    """What tells one record's sentence from another's."""
    return f"- {name}: " if len(records) > 1 else ""


def named(records: Records, titles: Cells) -> Cells:
    """Titles of a table, with a column for the record where there are several."""
    return ("run", *titles) if len(records) > 1 else titles


def rows_of(records: Records, cells: Callable[[SceneRecord], list[Cells]]) -> list[Cells]:
    """Rows of all records, each beginning with its record's name where there are several."""
    if len(records) == 1:
        return [row for record in records.values() for row in cells(record)]
    return [(name, *row) for name, record in records.items() for row in cells(record)]


def table(titles: Cells, rows: Iterable[Cells]) -> list[str]:
    """A Markdown table, and an empty line after it."""
    head = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return [*head, *("| " + " | ".join(row) + " |" for row in rows), ""]


def read(paths: Sequence[Path]) -> Records:
    """The records by the names of their folders, which must differ."""
    names = [path.resolve().parent.name for path in paths]
    if len(set(names)) < len(paths) or not paths:
        sys.exit(f"The folders are named {names}; give one record or more, of different names.")
    return {
        name: from_json(SceneRecord, path.read_bytes(), source=str(path))
        for name, path in zip(names, paths, strict=True)
    }


if __name__ == "__main__":
    print("\n".join(lines(read([Path(word) for word in sys.argv[1:]]))).rstrip())
