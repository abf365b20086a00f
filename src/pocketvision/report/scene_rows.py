"""The rows of a scene's tables: methods over their seeds, classes, splits, exported files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketvision.errors import ConfigError
from pocketvision.report.rows import taken_for
from pocketvision.report.text import percent
from pocketvision.scene_record import (
    FileFigures,
    Leakage,
    MethodRun,
    SceneRecord,
    SplitFigures,
    Spread,
)

METHODS = {"hybridsn": "HybridSN", "mobile_patch": "compact network", "svm": "SVM"}
TRAININGS = {"dense": "dense", "patches": "patch by patch", "svm": "–"}
SPLITS = {"blocks": "split in blocks", "random": "split at random", "given": "split as given"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run and the split it was trained and scored on."""

    run: MethodRun
    split: SplitFigures


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRow:
    """One method, trained one way, over its seeds."""

    label: str
    training: str
    shipped: bool
    overall: Spread
    average: Spread
    kappa: Spread
    train_seconds: Spread
    map_seconds: Spread
    parameters: int | None
    macs: int | None
    dense_macs: int | None  # known of the shipped network
    runs: tuple[RunRow, ...]

    @property
    def steps(self) -> str:
        """Of its trainings, as `steps_words`."""
        return steps_words([row.run for row in self.runs])

    @property
    def centre_leak(self) -> str:
        """Of the splits behind this row, as `leak_range`."""
        return leak_range([row.split.leakage.centre for row in self.runs])

    @property
    def window_leak(self) -> str:
        """Of the splits behind this row, as `leak_range`."""
        return leak_range([row.split.leakage.window for row in self.runs])


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneClassRow:
    """One class: its pixels in the first split and how many of the test pixels were named rightly.

    colour: as CSS. recall: None where the class has no test pixel. taken_for: "" where none was.
    """

    name: str
    colour: str
    labelled: int
    train: int
    test: int
    dropped: int
    recall: float | None
    taken_for: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRow:
    """One exported file and what one pixel costs in it, in microseconds."""

    file: FileFigures
    median_us: float
    low_us: float
    high_us: float


def share(fraction: float) -> str:
    """A share that says so when it is none or all: 0 -> '0 %', 0.0002 -> 'under 0.1 %'."""
    if fraction in (0, 1):
        return f"{100 * fraction:.0f} %"
    if fraction < 0.0005:
        return "under 0.1 %"
    return "over 99.9 %" if fraction > 0.9995 else percent(fraction)


def leak_range(fractions: Sequence[float]) -> str:
    """Shares of several splits: '0 %' where they are written alike, else '96.1 % to 97.4 %'."""
    low, high = share(min(fractions)), share(max(fractions))
    return low if low == high else f"{low} to {high}"


def steps_words(runs: Sequence[MethodRun]) -> str:
    """Steps of trainings, and where the time cut them short: '3,000', '1,180 to 1,204 of 3,000'."""
    steps = [run.steps for run in runs if run.steps is not None]
    if not steps:
        return "–"
    low, high, asked = min(steps), max(steps), runs[0].steps_asked
    done = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return done if asked in (None, low) else f"{done} of {asked:,}"


def leak_words(leakage: Leakage) -> str:
    """Both leakage figures as one clause, to stand beside an accuracy."""
    return (
        f"{share(leakage.centre)} of test windows hold a training centre; "
        f"{share(leakage.window)} share pixels with a training window"
    )


def leak_sentence(leakage: Leakage) -> str:
    """Both leakage figures as a sentence, to follow the one that holds the accuracy."""
    return (
        f"Of the test windows {share(leakage.centre)} hold a training centre and "
        f"{share(leakage.window)} share pixels with a training window."
    )


def spread_percent(one: Spread) -> str:
    """'87.3 ± 1.2 %', or '87.3 %' of a single run."""
    if one.std is None:
        return percent(one.mean)
    return f"{100 * one.mean:.1f} ± {100 * one.std:.1f} %"


def spread_number(one: Spread) -> str:
    """Kappa to three digits: '0.851 ± 0.012'."""
    return f"{one.mean:.3f}" if one.std is None else f"{one.mean:.3f} ± {one.std:.3f}"


def spread_seconds(one: Spread) -> str:
    """'12.3 ± 0.4 s', with as many decimals as one second needs."""
    decimals = 0 if one.mean >= 100 else 1 if one.mean >= 10 else 2
    mean = f"{one.mean:,.{decimals}f}"
    return f"{mean} s" if one.std is None else f"{mean} ± {one.std:,.{decimals}f} s"


def method_rows(record: SceneRecord) -> list[MethodRow]:
    """Runs by method and training, the shipped network's first, then by overall accuracy.

    Raises: ConfigError: a run whose seed no split has.
    """
    splits = {split.seed: split for split in record.splits}
    groups: dict[tuple[str, str], list[RunRow]] = {}
    for run in record.runs:
        if run.seed not in splits:
            raise ConfigError(
                f"a run of {run.method} has seed={run.seed}, but the splits have {sorted(splits)}."
            )
        row = RunRow(run=run, split=splits[run.seed])
        groups.setdefault((run.method, run.training), []).append(row)
    shipped = shipped_training(record)
    rows = [_method_row(record, rows, shipped=key == shipped) for key, rows in groups.items()]
    return sorted(rows, key=lambda row: (not row.shipped, -row.overall.mean))


def shipped_training(record: SceneRecord) -> tuple[str, str] | None:
    """Method and training of the shipped network: the first run of its method; None without one."""
    of_method = (run for run in record.runs if run.method == record.network.method)
    first = next(of_method, None)
    return None if first is None else (first.method, first.training)


def scene_class_rows(record: SceneRecord) -> list[SceneClassRow]:
    """Every class in the order of its number."""
    scene, split = record.scene, record.splits[0]
    return [
        SceneClassRow(
            name=name,
            colour=css_colour(scene.colours[k]),
            labelled=scene.counts[k],
            train=split.train[k],
            test=split.test[k],
            dropped=split.dropped[k],
            recall=record.headline.per_class[k],
            taken_for=taken_for(record.confusion[k], k, scene.classes),
        )
        for k, name in enumerate(scene.classes)
    ]


def file_rows(files: Sequence[FileFigures]) -> list[FileRow]:
    """The shipped one first, then by time for one pixel."""
    rows = [
        FileRow(
            file=file,
            median_us=1e3 * file.latency.median_ms / file.pixels,
            low_us=1e3 * file.latency.low_ms / file.pixels,
            high_us=1e3 * file.latency.high_ms / file.pixels,
        )
        for file in files
    ]
    return sorted(rows, key=lambda row: (not row.file.shipped, row.median_us))


def css_colour(colour: tuple[int, int, int]) -> str:
    """(255, 0, 128) -> '#ff0080'."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _method_row(record: SceneRecord, rows: Sequence[RunRow], shipped: bool) -> MethodRow:
    runs = [row.run for row in rows]
    first = runs[0]
    return MethodRow(
        label=METHODS.get(first.method, first.method),
        training=TRAININGS[first.training],
        shipped=shipped,
        overall=Spread.over([run.scores.overall for run in runs]),
        average=Spread.over([run.scores.average for run in runs]),
        kappa=Spread.over([run.scores.kappa for run in runs]),
        train_seconds=Spread.over([run.train_seconds for run in runs]),
        map_seconds=Spread.over([run.map_seconds for run in runs]),
        parameters=first.parameters,
        macs=first.macs,
        dense_macs=record.network.dense_macs if first.method == record.network.method else None,
        runs=tuple(rows),
    )
