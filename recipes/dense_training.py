"""Dense or patch by patch? HybridSN trained both ways for equal minutes, on Indian Pines.

    python recipes/dense_training.py INDIAN_PINES > recipes/dense_training.md

The scene is written to the folder INDIAN_PINES if that does not exist. Finished trainings lie in
the work folder and are not made again; one that was interrupted starts anew, its minutes with it.

Source: Roy et al., HybridSN, section III (random 30 %, window 25, 30 components); Long et al.,
Fully Convolutional Networks, section 4.3 (patchwise training).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from kept import made_once
from matplotlib import pyplot
from plotting import ACCENT, SECOND, machine_line, save, spread_cell, style, table, tidy
from scenes import (
    SceneOptions,
    SeedRun,
    arguments,
    command,
    indian_pines,
    labels_of,
    leak_sentence,
    new_network,
    reduced_source,
    score_cells,
    test_scores,
    trained,
)

from pocketvision.data.scene.leakage import split_figures
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import random_split
from pocketvision.models.patch import PatchNetwork
from pocketvision.train.crops import MAX_LABELLED, CropSampler, Sampler, SceneSource, WindowSampler
from pocketvision.train.scene import settled
from pocketvision.train.scene_config import SceneTrainConfig, Training

TRAININGS: tuple[Training, ...] = ("dense", "patches")
NAMES = {"dense": "dense", "patches": "patch by patch"}
COLOURS = {"dense": ACCENT, "patches": SECOND}
SPARE = 4  # times the steps that fit as timed, so that the minutes end a training


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(SeedRun):
    """A training of so many planned minutes. pixels: labelled pixels learned from, with repeats."""

    training: Training
    minutes: float
    steps: int
    pixels: int
    precision: str

    @property
    def epochs(self) -> float:
        """How often each training pixel was learned from, on average."""
        return self.pixels / sum(self.split.train)

    @property
    def seconds_per_thousand(self) -> float:
        """Seconds of training for 1,000 labelled pixels learned from."""
        return 1e3 * self.seconds / self.pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(SceneOptions):
    """What the command line said."""

    out: Path
    minutes: tuple[float, ...]
    train_share: float


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, window=25, components=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 6.0])
    parser.add_argument("--train-share", type=float, default=0.3)
    given = vars(parser.parse_args())
    return Options(**{**given, "minutes": tuple(given["minutes"])})


def run_all(scene: Scene, asked: Options) -> list[Run]:
    """Train both ways for all minutes; everything with one seed before the next seed."""
    setting = (
        f"{scene.fingerprint[:8]}-{asked.train_share:g}-{asked.window}x{asked.components}"
        f"-{asked.threads}-{asked.device}"
    )
    jobs = [
        (seed, minutes, training)
        for seed in range(asked.seeds)
        for minutes in asked.minutes
        for training in TRAININGS
    ]
    runs: list[Run] = []
    for seed, minutes, training in jobs:
        run = made_once(
            Run,
            asked.work / "dense_training" / setting / f"{training}-{minutes:g}m-{seed}.json",
            partial(run_one, scene, training, minutes, seed, asked),
        )
        runs.append(run)
        print(
            f"{len(runs)}/{len(jobs)}: {NAMES[training]}, {minutes:g} minutes, seed {seed}: "
            f"OA {run.scores.overall:.2%} of {run.scores.n}",
            file=sys.stderr,
        )
    return runs


def run_one(scene: Scene, training: Training, minutes: float, seed: int, asked: Options) -> Run:
    """The training of one kind for so many minutes with one seed."""
    labels = labels_of(scene)
    split = random_split(labels, window=asked.window, seed=seed, train_share=asked.train_share)
    source = reduced_source(scene, split, asked.components)
    network = new_network(scene, asked, seed)
    plan = planned(network, source, training, minutes, seed, asked)
    made = trained(network, source, plan, deadline=time.monotonic() + 60 * minutes)
    return Run(
        training=training,
        minutes=minutes,
        seed=seed,
        steps=made.steps,
        pixels=pixels_seen(source, plan, made.steps),
        seconds=made.seconds,
        precision=plan.precision,
        scores=test_scores(network, source, scene, split),
        split=split_figures(split, labels, len(scene.classes)),
    )


def planned(
    network: PatchNetwork,
    source: SceneSource,
    training: Training,
    minutes: float,
    seed: int,
    asked: Options,
) -> SceneTrainConfig:
    """A training that the deadline ends: more steps than the minutes are timed to hold here."""
    timed, seconds_per_step = settled(
        network,
        source,
        SceneTrainConfig(
            training=training,
            threads=asked.threads,
            accelerator="cuda" if asked.device == "cuda" else "cpu",
            seed=seed,
        ),
    )
    steps = max(2, round(60 * minutes / seconds_per_step))
    return replace(timed, steps=SPARE * steps, warmup_steps=min(100, steps // 10))


def pixels_seen(source: SceneSource, plan: SceneTrainConfig, steps: int) -> int:
    """Labelled pixels that `steps` steps learned from: what one draws depends on its number."""
    places = replace(source, bands=source.bands[..., :1])  # their spectra do not count
    sampler: Sampler
    if plan.training == "dense":
        sampler = CropSampler(places, window=1, side=plan.side, crops=plan.crops, seed=plan.seed)
    else:
        sampler = WindowSampler(places, window=1, batch_size=plan.batch_size, seed=plan.seed)
    return sum(len(sampler.draw(step).targets) for step in range(steps))


def of(training: Training, minutes: float, runs: Sequence[Run]) -> list[Run]:
    """The runs of one training and length, by seed."""
    found = [run for run in runs if (run.training, run.minutes) == (training, minutes)]
    return sorted(found, key=lambda run: run.seed)


def rows(runs: Sequence[Run], asked: Options) -> list[tuple[str, ...]]:
    """One row for each length and training; ratios are to patch by patch of that length."""
    cells: list[tuple[str, ...]] = []
    for minutes in asked.minutes:
        base = statistics.fmean(run.seconds_per_thousand for run in of("patches", minutes, runs))
        for training in TRAININGS:
            found = of(training, minutes, runs)
            per_thousand = statistics.fmean(run.seconds_per_thousand for run in found)
            cells.append(
                (
                    f"{minutes:g} ({spread_cell([run.seconds / 60 for run in found])})",
                    NAMES[training],
                    f"{statistics.fmean(run.steps for run in found):,.0f}",
                    f"{statistics.fmean(run.pixels for run in found):,.0f}",
                    f"{statistics.fmean(run.epochs for run in found):.1f}",
                    *score_cells(found),
                    f"{per_thousand:.3g} (x{base / per_thousand:.2f})",
                )
            )
    return cells


def page(runs: Sequence[Run], scene: Scene, asked: Options) -> list[str]:
    """The page, line by line."""
    titles = (
        *("minutes planned (taken)", "training", "steps", "labelled pixels seen", "epochs"),
        *("test OA, %", "test AA, %", "kappa", "s per 1,000 labelled pixels (times faster)"),
    )
    return [
        "# HybridSN, trained densely and patch by patch for equal minutes",
        "",
        "Windows of neighbouring pixels share nearly all their convolutions. Patch by patch they "
        "are computed for each window; a dense step computes them once for a few crops and learns "
        "from all training pixels within, which are more alike than pixels drawn one by one. So "
        "both get the same minutes.",
        "",
        "```",
        command("dense_training", asked, ("minutes", "seeds", "train_share")),
        "```",
        "",
        "![OA on test pixels by minutes of training](images/dense_training.svg)",
        "",
        *table(titles, rows(runs, asked)),
        *conditions(runs, scene, asked),
    ]


def conditions(runs: Sequence[Run], scene: Scene, asked: Options) -> list[str]:
    """What stands below the table: split, leakage, training, machine."""
    plan = SceneTrainConfig()
    return [
        f"{scene.name}, {100 * asked.train_share:g} % of each class drawn at random to train on "
        f"({sum(runs[0].split.train):,} pixels), tested on the others (n = {runs[0].scores.n:,}). "
        f"**Random splits leak**: {leak_sentence(runs)}; the accuracies compare with papers and "
        "say little of another scene.",
        "",
        f"Window {asked.window}, {asked.components} whitened principal components of the training "
        f"pixels. Each row is a training of its own, whose cosine ends with its minutes. Dense: "
        f"{plan.crops} crops of {plan.side} px output a step, each around a pixel of a class drawn "
        f"evenly, at most {MAX_LABELLED:,} labelled pixels; patch by patch: at most "
        f"{plan.batch_size} windows a step, every training pixel once an epoch. Both: AdamW, rate "
        f"{plan.learning_rate:g}, turned and mirrored at random, in "
        f"{' or '.join(sorted({run.precision for run in runs}))}, the faster as timed. "
        f"Seeds 0 to {asked.seeds - 1} draw split, weights and batches; ± is the standard "
        f"deviation over them (n = {asked.seeds}); other figures are means.",
        "",
        machine_line(("torch",), asked.threads),
    ]


def draw(runs: Sequence[Run], asked: Options, picture: Path) -> None:
    """OA by minutes of training: the mean over seeds, between the lowest and the highest."""
    with style():
        figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
        minutes = sorted(asked.minutes)
        for training in TRAININGS:
            found = [[100 * run.scores.overall for run in of(training, m, runs)] for m in minutes]
            overall, colour = np.array(found), COLOURS[training]
            axes.plot(minutes, overall.mean(1), "o-", color=colour, label=NAMES[training])
            axes.fill_between(
                minutes, overall.min(1), overall.max(1), color=colour, alpha=0.15, lw=0
            )
        axes.set_xlabel("minutes of training")
        axes.set_ylabel("OA on test pixels, % (mean and range over seeds)")
        axes.legend(frameon=False)
        tidy(axes)
        save(figure, picture)


def main() -> None:
    """Train what is not trained yet, draw the curves, print the page."""
    asked = options()
    scene = indian_pines(asked.data)
    runs = run_all(scene, asked)
    draw(runs, asked, asked.out / "images" / "dense_training.svg")
    print("\n".join(page(runs, scene, asked)))


if __name__ == "__main__":
    main()
