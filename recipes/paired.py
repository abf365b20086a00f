"""Two ways to a network, compared in pairs: the same images, the same time, the same latency.

Every seed has training images of its own and all test images. What is fitted stays in the work
folder and is not made again; what was killed goes on.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from kept import made_once
from numpy.typing import NDArray
from plotting import gain_cell, machine_line, spread_cell, table
from timing import cell, how_measured

from pocketvision.data.folders import SPLITS, list_images
from pocketvision.data.images import Samples, scan
from pocketvision.errors import BudgetError, GateError
from pocketvision.fitting.artefact import RECORD, RUN, Artefact, load, read_state
from pocketvision.fitting.from_files import pixels_of_row
from pocketvision.measure.latency import FINAL, measure_beside, measure_latency
from pocketvision.measure.untrained import noise
from pocketvision.record.run import Record
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxruntime import in_batches
from pocketvision.storage import from_json, sha256_bytes, to_json, write_atomic

SETTINGS, TRIAL = "settings.json", "trial.json"
BATCH = 100
RESAMPLES = 10_000
FASTER = 1.3  # so much less latency counts as a gain of its own, where accuracy is equal:
EQUAL_POINTS = 1.0  # the interval holds zero, and ends no further below it
RULE = (
    "Rule, set beforehand: the paired interval over all seeds is above zero; or it holds zero, "
    f"reaches no lower than {EQUAL_POINTS:g} point below it, and the latency is {FASTER:g} times "
    "less."
)
REPEATED_SHARE = 0.002  # of the test images; more than rounding can change a file's answers

Rights = NDArray[np.bool_]  # (N,), whether each test image is named right


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedOptions:
    """What every command line here says. minutes: of each arm; 0: no limit but `epochs`."""

    data: Path
    work: Path
    page: Path | None
    minutes: float
    images: int
    seeds: tuple[int, ...]
    epochs: int | None

    @property
    def time_s(self) -> float | None:
        """What each arm has; None: no limit."""
        return 60 * self.minutes or None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """The shipped file of one arm. val_score: by which it may be chosen. seconds: the arm took.

    latency: timed in turns with the other files of its seed. right: "1" or "0" for each test image.
    """

    arm: str
    network: str
    precision: Precision
    val_score: float
    latency: Latency
    seconds: float
    right: str

    @property
    def rights(self) -> Rights:
        """Whether each test image is named right."""
        return np.array([mark == "1" for mark in self.right])


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """trial.json: all arms of one seed. test: SHA-256 of the test images, in their order.

    failed: arm -> why it came to nothing.
    """

    seed: int
    test: str
    entries: tuple[Entry, ...]
    failed: dict[str, str]

    def entry(self, arm: str) -> Entry | None:
        """That of an arm; None: it came to nothing."""
        return next((entry for entry in self.entries if entry.arm == arm), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two files of one seed that are compared."""

    seed: int
    ours: Entry
    rival: Entry

    @property
    def gains(self) -> NDArray[np.int64]:
        """(N,): 1 where ours alone is right, -1 where the rival alone is, else 0."""
        return self.ours.rights.astype(np.int64) - self.rival.rights


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference of top-1 in points, with its 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def arguments(description: str | None, *, work: str, minutes: float) -> argparse.ArgumentParser:
    """A parser of what every command line here says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with train/ and test/, a folder per class")
    parser.add_argument("--work", type=Path, default=Path(work), help="finished runs")
    parser.add_argument("--page", type=Path, help="file to write the page to; else it is printed")
    parser.add_argument("--minutes", type=float, default=minutes, help="of each arm; 0: no limit")
    parser.add_argument("--images", type=int, default=10_000, help="training images of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of each fine-tuning; else as the time allows")
    return parser


def given_words(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """What the command line says, as the options of a recipe take it."""
    given = vars(parser.parse_args())
    return given | {"seeds": tuple(given["seeds"]), "work": given["work"].resolve()}


def publish_trials(
    asked: PairedOptions,
    trial: Callable[[int], Trial],
    page: Callable[[Sequence[Trial]], list[str]],
) -> None:
    """Make what is not made yet, a trial for each seed, and write the page."""
    check_settings(asked)
    trials = [
        made_once(Trial, asked.work / f"seed-{seed}" / TRIAL, partial(trial, seed))
        for seed in asked.seeds
    ]
    publish(page(trials), asked.page)


def check_settings(asked: PairedOptions) -> None:
    """Keep what the work folder is for; seeds may be added. Exits: it is for other settings."""
    settings = to_json(replace(asked, work=Path(), page=None, seeds=()))
    kept = asked.work / SETTINGS
    if not kept.exists():
        write_atomic(kept, settings)
    elif kept.read_text() != settings:
        sys.exit(f"{asked.work} holds runs with other options; give another --work.")


def command(script: str, asked: PairedOptions) -> str:
    """The command that writes the page of a recipe, for every folder CIFAR10."""
    words = [f"python recipes/{script}.py CIFAR10 --work WORK"]
    for field in fields(asked):
        value = getattr(asked, field.name)
        if field.name not in ("data", "work", "page") and value is not None:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{field.name.replace('_', '-')}", *map(_shown, values)]
    name = f"{script}.md" if asked.page is None else asked.page.name
    return " ".join([*words, f"--page recipes/{name}"])


def _shown(value: object) -> str:
    """As a command line has it; of a path the last part, which says what it is of."""
    return f"{value:g}" if isinstance(value, float) else Path(str(value)).name


def about_target(target: str | None) -> list[str]:
    """What limits are of, where that is a latency table."""
    if target is None:
        return []
    return [
        "",
        f"Limits are held by sums over {Path(target).name}, a table of blocks of this machine as "
        "`pocketvision profile` writes it, so that they are the same for all seeds, however fast "
        "the machine is in the minutes of each.",
    ]


def publish(lines: Sequence[str], page: Path | None) -> None:
    """Write a page to its file, or print it."""
    if page is None:
        print("\n".join(lines))
    else:
        write_atomic(page, "\n".join([*lines, ""]))


# Images


def subset(asked: PairedOptions, seed: int) -> Path:
    """A folder with as many training images of each class as of any other, drawn by the seed, and
    with all test images. Exits: a class has too few.
    """
    folder = asked.work / f"images-{seed}"
    if folder.exists():
        return folder
    building = folder.with_name(f".{folder.name}.new")  # a killed run leaves no half of a folder
    shutil.rmtree(building, ignore_errors=True)
    for path in drawn(asked.data, asked.images, seed):
        target = building / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(asked.data / path, target)
    building.rename(folder)
    return folder


def drawn(data: Path, images: int, seed: int) -> list[str]:
    """Paths below `data`: the training images drawn by the seed, and all test images."""
    listing = list_images(data)
    each, generator = images // len(listing.classes), np.random.default_rng(seed)
    by_split = {name: listing.splits == code for code, name in enumerate(SPLITS)}
    paths = [listing.paths[int(row)] for row in np.flatnonzero(by_split["test"])]
    for label, name in enumerate(listing.classes):
        rows = np.flatnonzero(by_split["train"] & (listing.labels == label))
        there = sorted(listing.paths[int(row)] for row in rows)
        if len(there) < each:
            sys.exit(f"{name} has {len(there)} training images, and {each} are asked for.")
        paths += [there[place] for place in generator.permutation(len(there))[:each]]
    return paths


def _link(source: Path, target: Path) -> None:
    """Another name for a file; a copy where the disk is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# What was fitted


def attempt(out: Path, make: Callable[[], object]) -> Artefact | str:
    """The fitted network in `out`, made where it is not; or why there is none.

    Exits: the options leave too little time, or no network.
    """
    if not has_ended(out):
        try:
            make()
        except BudgetError as error:
            sys.exit(f"{out.name}: {error}")
        except GateError:  # a machine that is too noisy leaves a run that can go on
            if not has_ended(out):
                raise
    if read_state(out).status == "done":
        return load(out)
    if not (out / RECORD).exists():
        return "Its training diverged."
    return from_json(Record, (out / RECORD).read_bytes(), source=str(out)).verdict.sentence


def has_ended(out: Path) -> bool:
    """Whether the run in `out` came to its end, with a network or without."""
    return (out / RUN).exists() and read_state(out).status != "unfinished"


def trial_of(
    seed: int, arms: Mapping[str, Artefact | str], seconds: Mapping[str, float], data: Path
) -> Trial:
    """All files of one seed on all test images, and timed in turns.

    seconds: that each arm took. data: the folder of the seed.
    """
    fitted = {arm: found for arm, found in arms.items() if isinstance(found, Artefact)}
    samples = scan(data, seed=seed)
    latencies = timed_together(fitted)
    hashes = [samples.hashes[int(row)] for row in samples.indices("test")]
    return Trial(
        seed=seed,
        test=sha256_bytes(" ".join(hashes).encode()),
        entries=tuple(
            Entry(
                arm=arm,
                network=found.record.network.label,
                precision=found.shipped.precision,
                val_score=val_score(found.record),
                latency=latencies[arm],
                seconds=round(seconds[arm], 1),
                right=marks(rights_on_test(found, samples)),
            )
            for arm, found in fitted.items()
        ),
        failed={arm: found for arm, found in arms.items() if isinstance(found, str)},
    )


def marks(rights: Rights) -> str:
    """As an entry holds them."""
    return "".join(np.where(rights, "1", "0").tolist())


def rights_on_test(artefact: Artefact, samples: Samples) -> Rights:
    """Whether the shipped file names each test image right, from the files.

    Exits: other images than when it was fitted, by what was recorded then.
    """
    rows, session = samples.indices("test"), artefact.session()
    rights = []
    for batch in in_batches(rows, BATCH):
        pixels = [pixels_of_row(samples, row, artefact.preprocessing) for row in batch.tolist()]
        rights.append(session.run(np.stack(pixels)).argmax(1) == samples.labels[batch])
    found, recorded = np.concatenate(rights), artefact.record.headline
    if len(found) != recorded.n or abs(found.sum() - recorded.correct) > REPEATED_SHARE * len(rows):
        sys.exit(
            f"{artefact.folder}: {found.sum()} of {len(found)} test images are named right, and "
            f"{recorded.correct} of {recorded.n} were when it was fitted."
        )
    return found


def timed_together(artefacts: Mapping[str, Artefact]) -> dict[str, Latency]:
    """Latency of all shipped files, in turns, told in multiples of the first of them.

    That one's is its own. A machine that shares its cores has slow seconds, in which one file or
    another happens to be timed; the multiples are of every round, and without them.
    """
    if not artefacts:
        return {}
    runs = {
        name: partial(artefact.session().run, noise(1, artefact.network.spec))
        for name, artefact in artefacts.items()
    }
    (threads,) = {artefact.shipped.threads for artefact in artefacts.values()}
    first = next(iter(runs))
    anchor = runs.pop(first)
    alone = measure_latency({first: anchor}, FINAL, threads)
    anchor_ms = alone[first].median_ms
    return alone | measure_beside(anchor, runs, FINAL, threads, anchor_ms=anchor_ms)


def val_score(record: Record) -> float:
    """Top-1 of the shipped file on the images of val."""
    (shipped,) = (variant for variant in record.variants if variant.shipped)
    assert shipped.comparison is not None  # with the float network; a file is another one
    return shipped.comparison.accuracy.value


# Intervals and verdict


def gain(pairs: Sequence[Pair]) -> Gain:
    """The mean difference of the pairs; its interval from resampled images, for all pairs alike.

    The networks are taken as they are: how far other seeds would lead is not in it.
    """
    gains = np.mean([pair.gains for pair in pairs], axis=0)
    # Images with the same gain are alike, so how often each gain is drawn is all that matters.
    values, counts = np.unique(gains, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(gains), counts / len(gains), RESAMPLES)
    low, high = np.percentile(100 * drawn @ values / len(gains), (2.5, 97.5))
    return Gain(100 * float(gains.mean()), float(low), float(high))


def speedup(pairs: Sequence[Pair]) -> float:
    """How many times the latency of ours the rival's is: geometric mean over the pairs."""
    ratios = [pair.rival.latency.median_ms / pair.ours.latency.median_ms for pair in pairs]
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def verdict(found: Gain, faster: float, ours: str, rival: str) -> str:
    """What follows by `RULE`. faster: how many times the latency of ours the rival's is."""
    figures = f"{found} points of test top-1 at {1 / faster:.2f} times the latency"
    if found.low > 0:
        return f"**{ours} is better than {rival}**: {figures}; the interval is above zero."
    if found.high < 0:
        return f"**{ours} is worse than {rival}**: {figures}; the interval is below zero."
    if found.low >= -EQUAL_POINTS and faster >= FASTER:
        return (
            f"**{ours} is as accurate as {rival} at {faster:.2f} times less latency**: {figures}; "
            "the interval holds zero."
        )
    return (
        f"**{ours} is neither better than {rival} nor as accurate at {FASTER:g} times less "
        f"latency**: {figures}; the interval holds zero."
    )


def outcome(pairs: Sequence[Pair], trials: Sequence[Trial], ours: str, rival: str) -> list[str]:
    """The verdict over all seeds, with both spreads; without a pair for each seed, none."""
    if len(pairs) < len(trials):
        missing = f"{len(trials) - len(pairs)} of {len(trials)} seeds"
        return [f"**Nothing is claimed**: in {missing} an arm came to nothing.", ""]
    if len({trial.test for trial in trials}) > 1:
        sys.exit("The seeds were judged on different test images; give another --work.")
    top1s = [[100 * e.rights.mean() for e in (pair.ours, pair.rival)] for pair in pairs]
    first, second = zip(*top1s, strict=True)
    gains = [a - b for a, b in top1s]
    n = len(pairs[0].ours.right)
    return [
        verdict(gain(pairs), speedup(pairs), ours, rival),
        "",
        f"The interval is a paired bootstrap over the n = {n:,} test images, the same resample for "
        f"all {len(pairs)} seeds, of these very networks. Over the seeds the difference is "
        f"{spread_cell(gains)} points (mean ± standard deviation, {min(gains):+.2f} to "
        f"{max(gains):+.2f}); with Student's 95 % interval over seeds {gain_cell(first, second)}.",
        "",
    ]


# Pieces of a page


def arms_table(trials: Sequence[Trial], pairs: Sequence[Pair]) -> list[str]:
    """Every arm of every seed; the difference stands beside the arm that is ours."""
    known = {pair.seed: pair for pair in pairs}
    rows: list[tuple[str, ...]] = []
    for trial in trials:
        pair = known.get(trial.seed)
        for entry in trial.entries:
            is_ours = pair is not None and entry == pair.ours
            rows.append(
                (
                    str(trial.seed),
                    entry.arm + (" (rival)" if pair is not None and entry == pair.rival else ""),
                    entry.network,
                    entry.precision,
                    cell(entry.latency),
                    f"{entry.val_score:.2%}",
                    f"{entry.rights.mean():.2%}",
                    str(gain([pair])) if pair is not None and is_ours else "",
                )
            )
        for arm in trial.failed:
            rows.append((str(trial.seed), arm, "none", "", "", "", "", ""))
    titles = ("seed", "arm", "network", "file", "ms", "val", "test", "over the rival, points")
    return table(titles, rows)


def failures(trials: Sequence[Trial], work: Path) -> list[str]:
    """Why arms came to nothing; empty where none did."""
    told = [
        f"- Seed {trial.seed}, {arm}: {why.replace(str(work), 'WORK')}"
        for trial in trials
        for arm, why in trial.failed.items()
    ]
    return [*told, ""] if told else []


def conditions(trials: Sequence[Trial], asked: PairedOptions) -> list[str]:
    """What stands below the tables: images, timing, machine."""
    samples = scan(subset(asked, asked.seeds[0]), seed=asked.seeds[0])
    counts = ", ".join(f"{name} {len(samples.indices(name)):,}" for name in samples.split_origins)
    encoded = " (JPEG)" if samples.paths[0].endswith((".jpg", ".jpeg")) else ""
    entries = [entry for trial in trials for entry in trial.entries]
    return [
        f"Images of each seed{encoded}: {counts}; training images are drawn by the seed, equally "
        "many of each class, and val is set aside from them. Nothing was chosen by test. "
        f"{how_measured([entry.latency for entry in entries])} Files of a seed are timed together, "
        "with one image a run, and told in multiples of the first.",
        "",
        machine_line(("torch", "onnxruntime")),
    ]
