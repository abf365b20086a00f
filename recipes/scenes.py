"""What the experiments on hyperspectral scenes share: options, the scenes, a training, its scores.

Finished trainings lie in the work folder and are not made again; one that was interrupted starts
anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from plotting import spread_cell

from pocketvision.data.samples import write_sample
from pocketvision.data.scene.bands import fit_bands, reduce_scene
from pocketvision.data.scene.leakage import class_counts
from pocketvision.data.scene.reading import open_scene
from pocketvision.data.scene.scene import ArrayCube, Labels, Scene
from pocketvision.data.scene.splits import SceneSplit, blocks_split, random_split
from pocketvision.mapping.methods import network_map
from pocketvision.measure.scene_scores import score
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch import PatchNetwork
from pocketvision.report.scene_rows import leak_range
from pocketvision.scene_record import Scores, SplitFigures
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene import SceneTraining, train_scene
from pocketvision.train.scene_config import SceneTrainConfig

FEWEST = 100  # labelled pixels of a class in its half of a scene; smaller classes are left out
OFF_END = 20  # bands that the southern half lacks at its end
POOL_SHARE = 0.5  # of the labelled pixels, in blocks from which a few labels are drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOptions:
    """What every command line here says."""

    data: Path
    work: Path
    seeds: int
    window: int
    components: int
    threads: int
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One finished training, scored on the test pixels of its split. seconds: of the training."""

    seed: int
    seconds: float
    scores: Scores
    split: SplitFigures


def arguments(description: str | None, *, window: int, components: int) -> argparse.ArgumentParser:
    """A parser of what every command line here says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with the scene; written if missing")
    parser.add_argument("--work", type=Path, default=Path("scene-runs"), help="finished runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--window", type=int, default=window)
    parser.add_argument("--components", type=int, default=components)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


def command(name: str, asked: SceneOptions, options: Sequence[str]) -> str:
    """The command that prints the page of a recipe, with these options first."""
    words = [f"python recipes/{name}.py INDIAN_PINES"]
    for option in (*options, "window", "components", "threads", "device"):
        value = getattr(asked, option)
        values = value if isinstance(value, tuple) else (value,)
        shown = [f"{one:g}" if isinstance(one, float) else str(one) for one in values]
        words += [f"--{option.replace('_', '-')}", *shown]
    return " ".join([*words, f"> recipes/{name}.md"])


def indian_pines(folder: Path) -> Scene:
    """The scene in `folder`; Indian Pines is written there first if there is no such folder."""
    if not folder.exists():
        write_sample("indian-pines", folder)
    return open_scene(folder)


def labels_of(scene: Scene) -> Labels:
    """(H, W): 0 unlabelled, k the class k - 1 of the scene."""
    if scene.labels is None:
        sys.exit(f"{scene.name} has no labels, and training needs some.")
    return scene.labels


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


def reduced_source(scene: Scene, split: SceneSplit, components: int) -> SceneSource:
    """Principal components of the training pixels, whitened; the training pixels as targets."""
    reduction = fit_bands(scene, split.train, components=components)
    targets = np.where(split.train, labels_of(scene).astype(np.int64) - 1, -1)
    return SceneSource(bands=reduce_scene(scene, reduction), targets=targets)


def new_network(scene: Scene, asked: SceneOptions, seed: int) -> PatchNetwork:
    """HybridSN for the classes of a scene, with new weights."""
    return hybridsn(
        bands=asked.components, window=asked.window, num_classes=len(scene.classes)
    ).build(seed)


def trained(
    network: PatchNetwork,
    source: SceneSource,
    plan: SceneTrainConfig,
    deadline: float | None = None,
) -> SceneTraining:
    """Train `network` in place, with no checkpoint that outlives it; deadline: time.monotonic."""
    with tempfile.TemporaryDirectory() as folder:
        return train_scene(network, source, plan, Path(folder), deadline=deadline)


def test_scores(
    network: PatchNetwork, source: SceneSource, scene: Scene, split: SceneSplit
) -> Scores:
    """Scores on the test pixels of the map that the network makes of the scene."""
    named = network_map(network, source.bands)
    return score(named[split.test] - 1, labels_of(scene)[split.test] - 1, len(scene.classes))


def score_cells(runs: Sequence[SeedRun]) -> tuple[str, str, str]:
    """OA and AA in %, and kappa, over the seeds."""
    return (
        spread_cell([100 * run.scores.overall for run in runs]),
        spread_cell([100 * run.scores.average for run in runs]),
        spread_cell([run.scores.kappa for run in runs], decimals=4),
    )


def leak_sentence(runs: Sequence[SeedRun]) -> str:
    """Both leakage figures of the splits of these runs."""
    leaks = [run.split.leakage for run in runs]
    return (
        f"{leak_range([leak.centre for leak in leaks])} of test windows hold a training centre, "
        f"{leak_range([leak.window for leak in leaks])} share pixels with a training window"
    )
