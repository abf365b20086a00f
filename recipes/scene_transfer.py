"""Does a network trained on one scene help on another, with other bands and other classes?

    python recipes/scene_transfer.py INDIAN_PINES > recipes/scene_transfer.md

Two scenes are cut out of one, which is written to the folder INDIAN_PINES if that does not exist:
they share no pixel, no band and no class. Finished trainings lie in the work folder and are not
made again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
from dense_training import indian_pines, labels_of, reduced_source, test_scores
from plotting import gain_cell, machine_line, spread_cell, table

from pocketvision.data.scene.leakage import class_counts, split_figures
from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.data.scene.splits import SceneSplit, blocks_split, random_split
from pocketvision.mapping.methods import network_map
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch import PatchNetwork
from pocketvision.report.scene_rows import leak_range
from pocketvision.scene_record import Scores, SplitFigures
from pocketvision.storage import from_json, to_json, write_atomic
from pocketvision.train.scene import train_scene
from pocketvision.train.scene_config import SceneTrainConfig

Start = Literal["scratch", "transfer"]

STARTS: tuple[Start, ...] = ("scratch", "transfer")
LABELS = (5, 10, 20, 50)  # of each class
FEWEST = 100  # labelled pixels of a class in its scene; smaller classes are left out
OFF_END = 20  # bands that the second scene lacks at its end
POOL_SHARE = 0.5  # of the second scene's labelled pixels, in blocks from which labels are drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A network trained on all labelled pixels of scene A. named: share of those it then names."""

    seed: int
    named: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A network trained on few labels of scene B and scored on its test pixels."""

    start: Start
    labels: int
    seed: int
    scores: Scores
    split: SplitFigures
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line said."""

    data: Path
    work: Path
    labels: tuple[int, ...]
    seeds: int
    source_steps: int
    steps: int
    window: int
    components: int
    threads: int
    device: str


def options() -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the scene; written if missing")
    parser.add_argument("--work", type=Path, default=Path("scene-runs"), help="finished runs")
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--source-steps", type=int, default=1000, help="of training on scene A")
    parser.add_argument("--steps", type=int, default=300, help="of each training on scene B")
    parser.add_argument("--window", type=int, default=9)
    parser.add_argument("--components", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = vars(parser.parse_args())
    return Options(**{**given, "labels": tuple(given["labels"])})


def two_scenes(scene: Scene, window: int) -> tuple[Scene, Scene]:
    """The northern part with the even bands, the southern part with the odd ones but the last.

    The rows between are left out, so that no window of one part reaches into one of the other. A
    class belongs to the part where it has more pixels, and is unlabelled in the other one.
    """
    height, _, bands = scene.cube.shape
    north, south = slice(0, (height - window + 1) // 2), slice((height + window) // 2, height)
    labels, classes = labels_of(scene), len(scene.classes)
    rows = np.arange(height)[:, None] + np.zeros_like(labels)
    in_north = class_counts(labels, classes, rows < north.stop)
    in_south = class_counts(labels, classes, rows >= south.start)
    ours = [k for k in range(classes) if in_north[k] > in_south[k] and in_north[k] >= FEWEST]
    theirs = [k for k in range(classes) if in_south[k] >= max(in_north[k], FEWEST)]
    return (
        part(scene, "A", north, range(0, bands, 2), ours),
        part(scene, "B", south, range(1, bands - OFF_END, 2), theirs),
    )


def part(scene: Scene, name: str, rows: slice, bands: range, classes: Sequence[int]) -> Scene:
    """Some rows, bands and classes of a scene as one of its own; other pixels are unlabelled."""
    cube = scene.cube.rows(rows.start, rows.stop)[..., bands.start : bands.stop : bands.step]
    labels = np.zeros_like(labels_of(scene)[rows])
    for new, old in enumerate(classes, 1):
        labels[labels_of(scene)[rows] == old + 1] = new
    return Scene(
        name=name,
        cube=ArrayCube(array=np.ascontiguousarray(cube)),
        labels=labels,
        classes=tuple(scene.classes[k] for k in classes),
        class_ids=tuple(scene.class_ids[k] for k in classes),
        colours=tuple(scene.colours[k] for k in classes),
        no_data=scene.no_data,
    )


def few_labels(scene: Scene, per_class: int, window: int, seed: int) -> SceneSplit:
    """`per_class` training pixels of each class, drawn in blocks away from the test pixels.

    Blocks and test pixels depend on the seed alone: they are the same whatever `per_class`, and no
    test window shares a pixel with a window in the blocks. More labels contain the fewer.
    """
    labels = labels_of(scene)
    pool = blocks_split(
        labels,
        train_share=POOL_SHARE,
        window=window,
        seed=seed,
        guard="full",
        classes=scene.classes,
    )
    drawn = random_split(
        np.where(pool.train, labels, 0).astype(np.int16),
        window=window,
        seed=seed,
        train_per_class=per_class,
    )
    return replace(pool, train=drawn.train)


def new_network(scene: Scene, asked: Options, seed: int) -> PatchNetwork:
    """HybridSN for the classes of a scene, with new weights."""
    return hybridsn(
        bands=asked.components, window=asked.window, num_classes=len(scene.classes)
    ).build(seed)


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
    with tempfile.TemporaryDirectory() as folder:
        plan = config(asked, asked.source_steps, seed)
        trained = train_scene(network, source, plan, Path(folder))
    named = network_map(network, source.bands)[labelled] == labels[labelled]
    found = Pretraining(seed=seed, named=float(named.mean()), seconds=trained.seconds)
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(weights, safetensors.torch.save(network.state_dict()))
    write_atomic(result, to_json(found))
    return network, found


def run_one(
    scene: Scene, source: PatchNetwork, start: Start, per_class: int, seed: int, asked: Options
) -> Run:
    """One training on few labels of scene B, made or from the work folder."""
    result = work_folder(scene, asked) / f"{start}-{per_class}-{asked.steps}-{seed}.json"
    if result.exists():
        return from_json(Run, result.read_bytes(), source=str(result))
    labels, classes = labels_of(scene), len(scene.classes)
    split = few_labels(scene, per_class, asked.window, seed)
    pixels = reduced_source(scene, split, asked.components)
    network = new_network(scene, asked, seed)
    if start == "transfer":
        take_all_but_last_layer(network, source)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_scene(network, pixels, config(asked, asked.steps, seed), Path(folder))
    run = Run(
        start=start,
        labels=per_class,
        seed=seed,
        scores=test_scores(network, pixels, labels, split, classes),
        split=split_figures(split, labels, classes),
        seconds=trained.seconds,
    )
    write_atomic(result, to_json(run))
    return run


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
    sources, runs = [], []
    work_folder(b, asked).mkdir(parents=True, exist_ok=True)
    for seed in range(asked.seeds):
        network, found = pretrained(a, seed, asked)
        sources.append(found)
        print(f"seed {seed}: names {found.named:.2%} of A's labelled pixels", file=sys.stderr)
        for per_class in asked.labels:
            for start in STARTS:
                run = run_one(b, network, start, per_class, seed, asked)
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
        overall = [[100 * run.scores.overall for run in found] for found in (scratch, transfer)]
        average = [[100 * run.scores.average for run in found] for found in (scratch, transfer)]
        kappa = [[run.scores.kappa for run in found] for found in (scratch, transfer)]
        cells.append(
            (
                f"{per_class}",
                number_range([sum(run.split.train) for run in scratch]),
                *(spread_cell(values) for values in overall),
                gain_cell(overall[1], overall[0]),
                *(spread_cell(values) for values in average),
                *(spread_cell(values, decimals=4) for values in kappa),
            )
        )
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
        "labels a class",
        "labels in all",
        "OA from scratch, %",
        "OA from A, %",
        "gain in OA, points",
        "AA from scratch, %",
        "AA from A, %",
        "kappa from scratch",
        "kappa from A",
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
        command(asked),
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


def command(asked: Options) -> str:
    """The command that prints the page."""
    return (
        f"python recipes/scene_transfer.py INDIAN_PINES --labels "
        f"{' '.join(str(n) for n in asked.labels)} --seeds {asked.seeds} --source-steps "
        f"{asked.source_steps} --steps {asked.steps} --window {asked.window} --components "
        f"{asked.components} --threads {asked.threads} --device {asked.device} "
        "> recipes/scene_transfer.md"
    )


def conditions(sources: Sequence[Pretraining], runs: Sequence[Run], asked: Options) -> list[str]:
    """What stands below the tables: split, leakage, training, machine."""
    splits = [run.split for run in runs]
    plan = config(asked, asked.steps, 0)
    return [
        "A has the even bands of the north, B the odd ones of the south without the last "
        f"{OFF_END // 2} of them; the rows between belong to neither, and a class with fewer than "
        f"{FEWEST} pixels in its part to none. B's labels are drawn at random in blocks of "
        f"{2 * asked.window} px that hold about {100 * POOL_SHARE:g} % of its labelled pixels "
        "(half of a class's pixels there where it has fewer than twice as many); test pixels lie "
        "outside, "
        f"n = {number_range([run.scores.n for run in runs])} by seed and the same in all rows. "
        f"{leak_range([split.leakage.centre for split in splits])} of test windows hold a "
        f"training centre, {leak_range([split.leakage.window for split in splits])} share pixels "
        "with a training window.",
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
