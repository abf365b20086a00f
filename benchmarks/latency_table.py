"""How well a table of blocks foretells whole networks: 20 random members of a search space.

    python benchmarks/latency_table.py                  # with the openvino extra
    python benchmarks/latency_table.py --task segment --resolution 256 --precision f32

Each block is timed inside a small network (see `measure/table.py`), each member as a whole; sums
are scaled by the other members alone. Beside it, what multiply-accumulates foretell. Segmenters and
detectors, for which there is no space, are random narrower forms of the usual head on the backbone
that the space is named for, as NetAdapt makes them; of these, the last column is the error of sums
over the blocks of three forms alone, as the table of another device has them.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pocketvision.compress.netadapt import forms_between
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.measure.local_table import WHOLES, LocalTable
from pocketvision.measure.table import (
    LatencyTable,
    Timed,
    check_table,
    rank_correlation,
    terms,
)
from pocketvision.models.networks import AnySpec
from pocketvision.models.spaces import SPACES
from pocketvision.models.widths import groups_of, narrower, widths_of
from pocketvision.record.words import Precision, TaskName
from pocketvision.runtimes.registry import installed_runtimes

MEMBERS = 20
MULTIPLE = 8  # of channels
BACKBONES = {"v3_large": "mobilenet_v3_large", "v3_small": "mobilenet_v3_small"}
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")


def members(task: TaskName, space_name: str, resolution: int, seed: int) -> list[AnySpec]:
    """Drawn at random, of 10 classes."""
    generator = random.Random(seed)
    if task == "classify":
        space = replace(SPACES[space_name], resolutions=(resolution,))
        return [space.spec(space.sample(generator), 10) for _ in range(MEMBERS)]
    seed_of_all = widest(task, space_name, resolution)
    return [narrowed(seed_of_all, generator) for _ in range(MEMBERS)]


def widest(task: TaskName, space_name: str, resolution: int) -> AnySpec:
    """The segmenter or detector of which the others are narrower forms."""
    backbone = TASKS[task].backbone(BACKBONES[space_name], 1.0, resolution)
    return TASKS[task].network(backbone, 10, None)


def narrowed(spec: AnySpec, generator: random.Random) -> AnySpec:
    """About half of its widths drawn anew, as multiples of 8."""
    for name in [group.name for group in groups_of(spec)]:
        group = next(group for group in groups_of(spec) if group.name == name)
        widths = widths_of(spec, group, MULTIPLE)
        if widths and generator.random() < 0.5:
            spec = narrower(spec, group, generator.choice(widths))
    return spec


def error_by_forms(local: LocalTable, spec: AnySpec, wholes: Iterable[Timed]) -> float:
    """Median error for narrower forms of `spec`, by the blocks of three forms and one scale."""
    carriers = dict.fromkeys(carrier for form in forms_between(spec) for carrier in terms(form))
    local.ensure_carriers(carriers)
    known = replace(
        local.sums.table,
        carriers=tuple(one for one in local.sums.table.carriers if one.network in carriers),
        wholes=local.time([spec], WHOLES),
    )
    sums = LatencyTable(known)
    errors = [abs(sums.latency_ms(one.network) / one.latency.median_ms - 1) for one in wholes]
    return float(np.median(errors))


def shown(correlation: float | None) -> str:
    return "not known" if correlation is None else f"{correlation:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="classify", choices=sorted(TASKS))
    parser.add_argument("--space", default="v3_large", choices=sorted(BACKBONES))
    parser.add_argument("--resolution", type=int, nargs="+", default=[96, 224])
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    print(
        f"{here.cpu}, {here.cores} cores, threads: {asked.threads}, {here.system}, {versions}; "
        f"{asked.task}, {MEMBERS} members of {asked.space}, seed {asked.seed}, load "
        f"{here.load:.2f}\n"
    )
    print(
        "| px | runtime | precision | members, ms | blocks | median error | worst | rank "
        "correlation | of MACs | by three forms |"
    )
    print("|---:|---|---|---|---:|---:|---:|---:|---:|---:|")
    for resolution in asked.resolution:
        specs = members(asked.task, asked.space, resolution, asked.seed)
        macs = np.array([float(count(spec).macs) for spec in specs])
        for runtime in installed_runtimes():
            for precision in (p for p in asked.precision if p in runtime.precisions):
                with tempfile.TemporaryDirectory() as folder:  # nothing timed before
                    os.environ["POCKETVISION_CACHE"] = folder
                    local = LocalTable(runtime, precision, asked.threads)
                    local.check(specs)
                    table, by_forms = local.sums.table, "–"
                    if asked.task != "classify":
                        seed = widest(asked.task, asked.space, resolution)
                        by_forms = f"{error_by_forms(local, seed, table.wholes):.1%}"
                found = check_table(table)
                measured = np.array([timed.latency.median_ms for timed in table.wholes])
                print(
                    f"| {resolution} | {runtime.name} | {precision} | {measured.min():.2f} to "
                    f"{measured.max():.2f} | {len(table.carriers)} | {found.median_error:.1%} | "
                    f"{found.worst_error:.1%} | {shown(found.rank_correlation)} | "
                    f"{shown(rank_correlation(macs, measured))} | {by_forms} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
