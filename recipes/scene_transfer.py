"""Does a network trained on one scene help on another, with other bands and other classes?

    python recipes/scene_transfer.py INDIAN_PINES > recipes/scene_transfer.md

Two scenes are cut out of one, which is written to the folder INDIAN_PINES if that does not exist:
they share no pixel, no band and no class. Finished trainings lie in the work folder and are not
made again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
from kept import made_once
from plotting import gain_cell, machine_line, table
from scenes import (
    FEWEST,
    OFF_END,
    POOL_SHARE,
    SceneOptions,
    SeedRun,
    arguments,
    command,
    few_labels,
    indian_pines,
    labels_of,
    leak_sentence,
    new_network,
    reduced_source,
    score_cells,
    test_scores,
    trained,
    two_scenes,
)

from pocketvision.data.scene.leakage import class_counts, split_figures
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.mapping.methods import network_map
from pocketvision.models.patch import PatchNetwork
from pocketvision.report.scene_rows import leak_range
from pocketvision.storage import from_json, to_json, write_atomic
from pocketvision.train.scene_config import SceneTrainConfig

Start = Literal["scratch", "transfer"]

STARTS: tuple[Start, ...] = ("scratch", "transfer")
LABELS = (5, 10, 20, 50)  # of each class


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A network trained on all labelled pixels of scene A. named: share of those it then names."""

    seed: int
    named: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(SeedRun):
    """A network trained on few labels of scene B and scored on its test pixels."""

    start: Start
    labels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(SceneOptions):
    """What the command line said."""

    labels: tuple[int, ...]
    source_steps: int
    steps: int


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, window=9, components=15)
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="of each class")
    parser.add_argument("--source-steps", type=int, default=1000, help="of training on scene A")
    parser.add_argument("--steps", type=int, default=300, help="of each training on scene B")
    given = vars(parser.parse_args())
    return Options(**{**given, "labels": tuple(given["labels"])})


def config(asked: Options, steps: int, seed: int) -> SceneTrainConfig:
    """The training that all networks get, patch by patch, as labels are few."""
    return SceneTrainConfig(
        training="patches",
        steps=steps,
        warmup_steps=min(100, steps // 10),
        precision="f32",
        threads=asked.threads,
        accelerator="cuda" if asked.device == "cuda" else "cpu",
        seed=seed,
    )


def pretrained(scene: Scene, seed: int, asked: Options) -> tuple[PatchNetwork, Pretraining]:
    """HybridSN trained on all labelled pixels of scene A, made or from the work folder."""
    weights = work_folder(scene, asked) / f"source-{seed}.safetensors"
    result = weights.with_suffix(".json")
    network = new_network(scene, asked, seed)
    if result.exists():
        network.load_state_dict(safetensors.torch.load_file(weights))
        return network, from_json(Pretraining, result.read_bytes(), source=str(result))
    labels = labels_of(scene)
    labelled = labels > 0
    everything = SceneSplit(
        kind="given",
        guard="none",
        window=asked.window,
        seed=seed,
        train=labelled,
        test=np.zeros_like(labelled),
    )
    source = reduced_source(scene, everything, asked.components)
    made = trained(network, source, config(asked, asked.source_steps, seed))
    named = network_map(network, source.bands)[labelled] == labels[labelled]
    found = Pretraining(seed=seed, named=float(named.mean()), seconds=made.seconds)
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(weights, safetensors.torch.save(network.state_dict()))
    write_atomic(result, to_json(found))
    return network, found


def run_one(
    scene: Scene, source: PatchNetwork, start: Start, per_class: int, seed: int, asked: Options
) -> Run:
    """One training on few labels of scene B."""
    split = few_labels(scene, per_class, asked.window, seed)
    pixels = reduced_source(scene, split, asked.components)
    network = new_network(scene, asked, seed)
    if start == "transfer":
        take_all_but_last_layer(network, source)
    made = trained(network, pixels, config(asked, asked.steps, seed))
    return Run(
        start=start,
        labels=per_class,
        seed=seed,
        scores=test_scores(network, pixels, scene, split),
        split=split_figures(split, labels_of(scene), len(scene.classes)),
        seconds=made.seconds,
    )


def take_all_but_last_layer(network: PatchNetwork, source: PatchNetwork) -> None:
    """Give `network` the weights of `source`, whose classes are others."""
    last = "head.classifier."
    kept = {name: w for name, w in source.state_dict().items() if not name.startswith(last)}
    network.load_state_dict(kept, strict=False)


def work_folder(scene: Scene, asked: Options) -> Path:
    """Where finished trainings of one setting lie."""
    setting = (
        f"{asked.window}x{asked.components}-{asked.source_steps}-{asked.threads}-{asked.device}"
    )
    return asked.work / "scene_transfer" / f"{scene.fingerprint[:8]}-{setting}"


def run_all(a: Scene, b: Scene, asked: Options) -> tuple[list[Pretraining], list[Run]]:
    """Train on A, then on few labels of B from both starts; one seed before the next."""
    sources: list[Pretraining] = []
    runs: list[Run] = []
    for seed in range(asked.seeds):
        network, found = pretrained(a, seed, asked)
        sources.append(found)
        print(f"seed {seed}: names {found.named:.2%} of A's labelled pixels", file=sys.stderr)
        for per_class, start in product(asked.labels, STARTS):
            run = made_once(
                Run,
                work_folder(b, asked) / f"{start}-{per_class}-{asked.steps}-{seed}.json",
                partial(run_one, b, network, start, per_class, seed, asked),
            )
            runs.append(run)
            print(
                f"seed {seed}, {per_class} labels a class, {start}: OA "
                f"{run.scores.overall:.2%} of {run.scores.n}",
                file=sys.stderr,
            )
    return sources, runs


def of(start: Start, per_class: int, runs: Sequence[Run]) -> list[Run]:
    """The runs of one start and number of labels, by seed."""
    found = [run for run in runs if (run.start, run.labels) == (start, per_class)]
    return sorted(found, key=lambda run: run.seed)


def rows(runs: Sequence[Run], asked: Options) -> list[tuple[str, ...]]:
    """One row for each number of labels."""
    cells: list[tuple[str, ...]] = []
    for per_class in asked.labels:
        scratch, transfer = (of(start, per_class, runs) for start in STARTS)
        overall, average, kappa = zip(score_cells(scratch), score_cells(transfer), strict=True)
        gain = gain_cell(
            [100 * run.scores.overall for run in transfer],
            [100 * run.scores.overall for run in scratch],
        )
        labels = number_range([sum(run.split.train) for run in scratch])
        cells.append((f"{per_class}", labels, *overall, gain, *average, *kappa))
    return cells


def number_range(numbers: Sequence[int]) -> str:
    """'25', or '89 to 100' where they differ."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def page(
    a: Scene, b: Scene, sources: Sequence[Pretraining], runs: Sequence[Run], asked: Options
) -> list[str]:
    """The page, line by line."""
    titles = (
        *("labels a class", "labels in all", "OA from scratch, %", "OA from A, %"),
        *("gain in OA, points", "AA from scratch, %", "AA from A, %"),
        *("kappa from scratch", "kappa from A"),
    )
    return [
        "# From one scene to another with other bands and classes",
        "",
        "HybridSN is trained on scene A, then on a few labels of scene B, with A's weights in all "
        "layers but the last; beside it the same training from new weights. Bands are reduced to "
        "as many principal components in both, those of each scene's own training pixels.",
        "",
        "**Both scenes are cut out of one**: one flight over one landscape, one sensor, one day. "
        "That flatters transfer; between two flights expect less.",
        "",
        "```",
        command("scene_transfer", asked, ("labels", "seeds", "source_steps", "steps")),
        "```",
        "",
        *table(("scene", "pixels", "bands", "classes (labelled pixels)"), map(scene_row, (a, b))),
        *table(titles, rows(runs, asked)),
        *conditions(sources, runs, asked),
    ]


def scene_row(scene: Scene) -> tuple[str, ...]:
    """One scene with its classes."""
    height, width, bands = scene.cube.shape
    labels = labels_of(scene)
    counts = class_counts(labels, len(scene.classes), labels > 0)
    names = ", ".join(f"{name} ({n:,})" for name, n in zip(scene.classes, counts, strict=True))
    return scene.name, f"{height} x {width}", f"{bands}", names


def conditions(sources: Sequence[Pretraining], runs: Sequence[Run], asked: Options) -> list[str]:
    """What stands below the tables: split, leakage, training, machine."""
    plan = config(asked, asked.steps, 0)
    return [
        "A has the even bands of the north, B the odd ones of the south without the last "
        f"{OFF_END // 2} of them; the rows between belong to neither, and a class with fewer than "
        f"{FEWEST} pixels in its part to none. B's labels are drawn at random in blocks of "
        f"{2 * asked.window} px that hold about {100 * POOL_SHARE:g} % of its labelled pixels "
        "(half of a class's pixels there where it has fewer than twice as many); test pixels lie "
        f"outside, n = {number_range([run.scores.n for run in runs])} by seed and the same in all "
        f"rows. {leak_sentence(runs)}.",
        "",
        f"Window {asked.window}, {asked.components} whitened components; {asked.source_steps:,} "
        f"steps on A, after which {leak_range([found.named for found in sources])} of its labelled "
        f"pixels, all trained on, are named rightly; {asked.steps:,} steps on B from either start. "
        f"Patch by patch, {plan.batch_size} windows a step or as many as there are labels, AdamW, "
        f"rate {plan.learning_rate:g}, f32, turned and mirrored at random. Seeds 0 to "
        f"{asked.seeds - 1} draw weights, blocks, labels and batches; ± is the standard deviation "
        f"over them (n = {asked.seeds}), a gain is taken within a seed, with Student's 95 % "
        "interval over seeds.",
        "",
        machine_line(("torch",), asked.threads),
    ]


def main() -> None:
    """Train what is not trained yet, print the page."""
    asked = options()
    a, b = two_scenes(indian_pines(asked.data), asked.window)
    sources, runs = run_all(a, b, asked)
    print("\n".join(page(a, b, sources, runs, asked)))


if __name__ == "__main__":
    main()
