"""A class map of Indian Pines: window by window against all windows of a tile at once.

    python benchmarks/scene_map.py [--rows 145] [--turns 5] [--threads 2]

HybridSN untrained, 30 principal components fitted on the labelled pixels; every way classifies with
the same weights. PyTorch goes through the whole scene window by window once, which takes minutes;
the dense form does it in turns; ONNX Runtime's windows are timed on pixels drawn over the scene.
The first rows of the scene stand for it where --rows says so. Without training many pixels are
close calls, so integers change more classes here than in a network that is of use.

Then the dense INT8 file maps the scene and ten copies of it, beside and below each other, every
time in a process of its own: VmHWM is all that was resident, libraries and the mapped file's own
pages included; anonymous is the most seen after any tile without these pages.

Source: Roy et al., HybridSN, IEEE GRSL 17 (2020), Table I; the scene: Baumgardner et al. 2015.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorly
import tensorly.datasets
import torch
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction, fit_bands
from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.mapping.mosaic import WINDOWS_AT_ONCE, class_numbers, tile_logits, tiles
from pocketvision.mapping.tiles import classify_scene, windows_at
from pocketvision.measure.device import machine
from pocketvision.models.dense import DenseTwin
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch import PatchNetwork
from pocketvision.record.words import Precision
from pocketvision.runtimes.scene_export import TILE, SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import SceneCalibration, open_scene_session, quantize_scene
from pocketvision.scene_record import Form

COMPONENTS, WINDOW, CLASSES = 30, 25, 16
CALIBRATION = 64  # windows
SAMPLE = 1024  # pixels
COPIES = {"1x": (1, 1), "10x beside": (1, 10), "10x below": (10, 1)}  # down, across

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Way(NamedTuple):
    """How a map is made. pixels: "all" once, "turns" all in turns, "sample" some in turns."""

    runtime: str
    form: Form
    precision: Precision
    pixels: str


WAYS = (
    Way("torch", "patch", "f32", "all"),
    Way("torch", "dense", "f32", "turns"),
    Way("onnxruntime", "patch", "f32", "sample"),
    Way("onnxruntime", "dense", "f32", "turns"),
    Way("onnxruntime", "patch", "int8", "sample"),
    Way("onnxruntime", "dense", "int8", "turns"),
)


def scene_of(array: NDArray[np.generic], labels: NDArray[np.int16] | None = None) -> Scene:
    """A cube with Indian Pines' sixteen classes."""
    return Scene(
        name="Indian Pines",
        cube=ArrayCube(array=array),
        labels=labels,
        classes=tuple(f"class {k + 1}" for k in range(CLASSES)),
        class_ids=tuple(range(1, CLASSES + 1)),
        colours=((0, 0, 0),) * CLASSES,
    )


def indian_pines(rows: int) -> Scene:
    """The first rows of the scene."""
    pines = tensorly.datasets.load_indian_pines()
    cube = np.ascontiguousarray(pines.tensor[:rows], dtype=np.uint16)
    return scene_of(cube, np.asarray(pines.ticks[0])[:rows].astype(np.int16))


def make_files(
    scene: Scene, network: PatchNetwork, reduction: BandReduction, folder: Path
) -> dict[tuple[str, str], Path]:
    """(form, precision) -> file."""
    assert scene.labels is not None
    places = np.random.default_rng(0).permutation(np.argwhere(scene.labels > 0))[:CALIBRATION]
    spectra = windows_at(scene, places, WINDOW, reduction.mean)
    found: dict[tuple[str, str], Path] = {}
    forms: tuple[Form, ...] = ("dense", "patch")
    for form in forms:
        card = SceneCard.for_scene(
            scene, name=network.spec.label, form=form, window=WINDOW, reduction=reduction
        )
        found[form, "f32"] = folder / f"{form}_f32.onnx"
        found[form, "int8"] = folder / f"{form}_int8.onnx"
        export_scene(network, reduction, found[form, "f32"], card)
        quantize_scene(found[form, "f32"], found[form, "int8"], SceneCalibration(spectra=spectra))
    return found


def torch_run(network: PatchNetwork, reduction: BandReduction, form: Form) -> Run:
    """What a session's run is, in eager PyTorch."""
    twin = DenseTwin(network)

    @torch.inference_mode()
    def run(spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(reduction.apply(spectra)).permute(0, 3, 1, 2)
        if form == "patch":
            return np.asarray(network(inputs))
        return np.asarray(twin(inputs).permute(0, 2, 3, 1))

    return run


def mapped(scene: Scene, run: Run, form: Form, fill: NDArray[np.float32]) -> NDArray[np.int64]:
    """The classes of all pixels (H, W)."""
    classes = np.zeros(scene.cube.shape[:2], np.int64)
    for part in tiles(scene.cube.rows, scene.cube.shape, WINDOW, fill, None, TILE):
        numbers = class_numbers(tile_logits(run, form, WINDOW, part.spectra), part.measured)
        classes[part.top : part.bottom, part.left : part.right] = numbers
    return classes


def named(
    scene: Scene, run: Run, places: NDArray[np.int64], fill: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The classes of some pixels (n,), window by window."""
    groups = np.array_split(places, -(-len(places) // WINDOWS_AT_ONCE))
    logits = [run(windows_at(scene, group, WINDOW, fill)) for group in groups]
    return np.asarray(np.concatenate(logits).argmax(1) + 1)


def compare(scene: Scene, runs: dict[Way, Run], fill: NDArray[np.float32], turns: int) -> None:
    """Every way, in turns, set against the float patches."""
    height, width, _ = scene.cube.shape
    drawn = np.random.default_rng(0).permutation(height * width)[:SAMPLE]
    places = np.stack(np.divmod(np.sort(drawn), width), 1)
    rows, columns = places.T
    micros: dict[Way, list[float]] = {way: [] for way in WAYS}
    classes: dict[Way, NDArray[np.int64]] = {}
    for turn in range(turns):
        for way, run in runs.items():
            if way.pixels == "all" and turn:
                continue
            start = time.perf_counter()
            if way.pixels == "sample":
                classes[way] = named(scene, run, places, fill)
            else:
                classes[way] = mapped(scene, run, way.form, fill)
            seconds = time.perf_counter() - start
            micros[way].append(1e6 * seconds / classes[way].size)
    whole = classes[WAYS[0]]
    print("| runtime | form | precision | pixels | n | µs per pixel | patch / dense | same class |")
    print("|---|---|---|---|---|---|---|---|")
    for way, values in micros.items():
        patch = next(w for w in WAYS if (w.runtime, w.precision) == (way.runtime, way.precision))
        ratio = statistics.median(micros[patch]) / statistics.median(values)
        expected = whole[rows, columns] if way.pixels == "sample" else whole
        print(
            f"| {way.runtime} | {way.form} | {way.precision} | {classes[way].size:,} | "
            f"{len(values)} | {spread(values, ',.1f')} | {ratio:.1f} | "
            f"{(classes[way] == expected).mean():.2%} |",
            flush=True,
        )


def status_bytes(key: str) -> int:
    """A line of this process's status, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(x for x in status.splitlines() if x.startswith(key)).split()[1])


def run_here(model: str, cube: str, threads: int) -> dict[str, float]:
    """Map a stored cube through the dense INT8 file in this process."""
    scene = scene_of(np.load(cube, mmap_mode="r"))
    session = open_scene_session(Path(model), "int8", threads)
    classes = np.zeros(scene.cube.shape[:2], np.uint8)
    before = status_bytes("VmRSS:")
    anonymous: list[int] = []
    start = time.perf_counter()
    classify_scene(
        scene, session, classes, progress=lambda *_: anonymous.append(status_bytes("RssAnon:"))
    )
    seconds = time.perf_counter() - start
    return {
        "s per megapixel": 1e6 * seconds / classes.size,
        "before, MB": before / 1e6,
        "VmHWM, MB": status_bytes("VmHWM:") / 1e6,
        "anonymous, MB": max(anonymous) / 1e6,
    }


def measure_memory(scene: Scene, model: Path, folder: Path, turns: int, threads: int) -> None:
    """The scene and ten copies of it, each in processes of their own."""
    height, width, _ = scene.cube.shape
    head = True
    for name, (down, across) in COPIES.items():
        cube = folder / "cube.npy"
        np.save(cube, np.tile(scene.cube.rows(0, height), (down, across, 1)))
        command = [sys.executable, __file__, "--model", str(model), "--cube", str(cube)]
        command += ["--threads", str(threads)]
        found = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(turns)
        ]
        if head:
            print(f"\n| scene | pixels | {' | '.join(found[0])} |")
            print("|---|---|" + "---|" * len(found[0]))
            head = False
        cells = [spread([one[key] for one in found], ",.1f") for key in found[0]]
        size = f"{height * down}x{width * across}"
        print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def main(rows: int, turns: int, threads: int) -> None:
    """Print both tables as Markdown."""
    torch.set_num_threads(threads)
    here = machine()
    scene = indian_pines(rows)
    assert scene.labels is not None
    height, width, bands = scene.cube.shape
    reduction = fit_bands(scene, scene.labels > 0, components=COMPONENTS)
    spec = hybridsn(bands=COMPONENTS, window=WINDOW, num_classes=CLASSES)
    network = spec.build(seed=0).eval()
    print(
        f"{here.cpu}, {here.cores} cores, threads: {threads}, {here.system}, torch "
        f"{here.versions['torch']}, onnxruntime {here.versions['onnxruntime']}, tensorly "
        f"{tensorly.__version__}; {spec.label}, {height}x{width}x{bands}, tile {TILE}, median "
        f"(range) of n in turns, load {here.load:.2f}\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make_files(scene, network, reduction, folder)
        runs = {
            way: torch_run(network, reduction, way.form)
            if way.runtime == "torch"
            else open_scene_session(files[way.form, way.precision], way.precision, threads).run
            for way in WAYS
        }
        compare(scene, runs, reduction.mean.astype(np.float32), turns)
        measure_memory(scene, files["dense", "int8"], folder, turns, threads)


def spread(values: list[float], form: str) -> str:
    """The median, and the range in brackets."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Map Indian Pines in every way.")
    parser.add_argument("--rows", type=int, default=145)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--cube", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        print(json.dumps(run_here(options.model, options.cube, options.threads)))
    else:
        main(options.rows, options.turns, options.threads)
