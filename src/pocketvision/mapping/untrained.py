"""What the files of a network for a scene need, whatever its weights are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pocketvision.budget import Budget
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.fitting.ranking import SIZE_HEADROOM, planned_ms
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.making import SHIPPED_FORM, export_files, noise, shipped_bytes
from pocketvision.mapping.networks import fit_reduction
from pocketvision.mapping.scene_target import SceneTarget
from pocketvision.measure.latency import PLANNING, measure_latency
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import PLAIN_INT8
from pocketvision.runtimes.scene_onnx import (
    SceneCalibration,
    open_scene_session,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UntrainedFile:
    """What one file needs, whatever its weights are, with room for what training changes.

    latency: of one pixel; latency_ms: the most to expect. excess: over the budget, as a factor; up
    to 1 it fits.
    """

    precision: Precision
    size_bytes: int
    latency: Latency
    latency_ms: float
    excess: float


def untrained_files(
    config: SceneConfig,
    scene: Scene,
    split: SceneSplit,
    spec: PatchSpec,
    folder: Path,
    target: SceneTarget | None = None,
) -> list[UntrainedFile]:
    """Size and latency of one pixel of the form to ship, untrained, by precision.

    target: by whose table the latency is; None: it is measured.
    """
    bands = scene.cube.shape[2]
    there = None if target is None else target.latency_of(spec, bands)
    files = write_untrained(config, scene, split, spec, folder)
    sessions = {
        precision: open_scene_session(path, precision, config.threads)
        for precision, path in files.items()
    }
    if there is None:
        window = noise(spec.window, bands)
        timed = {str(precision): partial(s.run, window) for precision, s in sessions.items()}
        latencies = measure_latency(timed, PLANNING, config.threads)
    else:
        latencies = dict.fromkeys(map(str, files), there)
    found = []
    for precision, path in files.items():
        size = shipped_bytes(path, sessions[precision].card, config.threads)
        size_bytes = round(SIZE_HEADROOM * size)
        latency_ms = planned_ms(latencies[precision])
        found.append(
            UntrainedFile(
                precision=precision,
                size_bytes=size_bytes,
                latency=latencies[precision],
                latency_ms=latency_ms,
                excess=_excess(latency_ms, size_bytes, config.budget),
            )
        )
    return found


def write_untrained(
    config: SceneConfig, scene: Scene, split: SceneSplit, spec: PatchSpec, folder: Path
) -> dict[Precision, Path]:
    """Untrained files of the form to ship, by precision."""
    reduction = fit_reduction(config, scene, split)
    network = _as_if_trained(spec.build(config.seed).eval())
    window = noise(spec.window, reduction.bands)
    calibration = SceneCalibration(spectra=window, config=PLAIN_INT8)
    forms = (SHIPPED_FORM,)
    files = export_files(config, scene, network, reduction, folder, calibration, forms)
    return {precision: path for (_, precision), path in files.items()}


def _as_if_trained(network: PatchNetwork) -> PatchNetwork:
    """With biases that differ: those of a new network are zero, and equal ones are stored once."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def _excess(latency_ms: float, size_bytes: float, budget: Budget) -> float:
    parts = [0.0]
    if budget.latency_ms is not None:
        parts.append(latency_ms / budget.latency_ms)
    if budget.size_bytes is not None:
        parts.append(size_bytes / budget.size_bytes)
    return max(parts)
