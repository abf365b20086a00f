"""How well sums of layers foretell whole networks for scenes, narrowed at random.

    python benchmarks/layer_table.py          # HybridSN 25x25x30 and mobile_patch, INT8 and float

As `shrink` uses its table: the whole network sets the scale, narrower forms are foretold. Printed:
errors as shares of what the whole untrained file takes for one pixel, and the rank correlation;
last, the median error of sums over the layers of three forms alone, as the table of another device
has them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pocketvision.compress.netadapt import forms_between
from pocketvision.data.samples import write_sample
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.layer_table import LayerTable
from pocketvision.mapping.narrowing import timed_files
from pocketvision.mapping.networks import network_spec
from pocketvision.mapping.reading import read_scene, split_scene
from pocketvision.measure.device import machine
from pocketvision.measure.layer_sums import LayerSums
from pocketvision.measure.table import DeviceTable, TimedLayer, TimedScene, rank_correlation
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import layer_forms
from pocketvision.models.widths import groups_of, narrower, widths_of
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision

MULTIPLE = 8
PRECISIONS: tuple[Precision, ...] = ("int8", "f32")


def narrowed(spec: PatchSpec, generator: random.Random) -> PatchSpec:
    """Every width drawn evenly from those it can have."""
    for name in [group.name for group in groups_of(spec)]:
        group = next(one for one in groups_of(spec) if one.name == name)
        width = generator.choice((group.width, *widths_of(spec, group, MULTIPLE)))
        spec = narrower(spec, group, width)
    return spec


def main() -> None:
    """Print a row for each network and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=12, help="Narrower forms of each network.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, 1 thread, {here.system}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}; load {here.load:.2f}; {asked.count} forms, seed "
        f"{asked.seed}\n"
    )
    print("| network | precision | median error | worst | rank correlation | by three forms |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        data = write_sample("indian-pines", Path(folder) / "pines")
        for method in ("hybridsn", "mobile_patch"):
            compare(SceneConfig(data=str(data), methods=(method,)), asked.count, asked.seed)


def compare(config: SceneConfig, count: int, seed: int) -> None:
    """Print the rows of one network."""
    (method,) = config.methods
    scene = read_scene(config, config.data)
    whole = network_spec(config, method, scene.cube.shape[2], len(scene.classes))
    split = split_scene(config, scene, whole.window)[0]
    generator = random.Random(seed)
    forms = [narrowed(whole, generator) for _ in range(count)]
    for precision in PRECISIONS:
        table = LayerTable(precision, config.threads)
        taken = [
            timed_files(config, scene, split, spec, (precision,))[precision]
            for spec in (whole, *forms)
        ]
        table.meet(whole, taken[0])
        measured = np.array([latency.median_ms for latency in taken[1:]])
        summed = np.array([table.latency_ms(spec) for spec in forms])
        errors = np.abs(summed / measured - 1)
        few = few_layers(table, whole, scene.cube.shape[2], taken[0])
        by_forms = np.abs([few.latency_ms(spec) for spec in forms] / measured - 1)
        print(
            f"| {whole.label} | {precision} | {np.median(errors):.1%} | {errors.max():.1%} | "
            f"{rank_correlation(summed, measured):.3f} | {np.median(by_forms):.1%} |",
            flush=True,
        )


def few_layers(table: LayerTable, whole: PatchSpec, bands: int, taken: Latency) -> LayerSums:
    """Sums over the layers of a network and of two narrower forms of it."""
    forms = [layer for form in forms_between(whole) for layer in layer_forms(form)]
    table.time(forms)
    known = DeviceTable(
        machine=machine(),
        runtime="onnxruntime",
        precision=table.precision,
        threads=table.threads,
        carriers=(),
        scenes=(TimedScene(network=whole, bands=bands, latency=taken),),
        layers=tuple(
            TimedLayer(form=form, latency=table.known[form]) for form in dict.fromkeys(forms)
        ),
    )
    return LayerSums(known)


if __name__ == "__main__":
    main()
