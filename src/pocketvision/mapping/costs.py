"""What a run on a scene takes beside its trainings: maps, files, gates, timing, and baselines.

Networks are timed untrained, which changes no second, with the threads of the shipped file.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.files import CALIBRATION_WINDOWS
from pocketvision.mapping.gates import COMPARED
from pocketvision.mapping.making import FORMS
from pocketvision.mapping.svm import svm_seconds
from pocketvision.measure.latency import FINAL
from pocketvision.models.dense import DenseTwin
from pocketvision.models.patch import PatchNetwork
from pocketvision.runtimes.scene_export import TILE
from pocketvision.train.threads import cpu_threads

TRIAL_SIDE, TRIAL_WINDOWS = 16, 16  # of a tile, and windows at once, that are timed
MARGIN = 1.2  # strips overlap, noisy timings are repeated, and machines are sometimes slower
FIXED_S = 15.0  # exporting, the report
QUANTIZE_PASSES = 30  # of all calibration windows, for each INT8 file; from the runs of the recipes
RUNTIME_SHARE = 0.3  # of PyTorch's seconds: the dense file of HybridSN in ONNX Runtime, measured


class Rates(NamedTuple):
    """Seconds of one window by itself, and of one multiply-accumulate of the dense form."""

    window_s: float
    mac_s: float


def other_seconds(
    config: SceneConfig, scene: Scene, split: SceneSplit, networks: dict[str, PatchNetwork]
) -> tuple[dict[str, float], float]:
    """By method, one map of the scene (a support vector machine is trained too); and the finish.

    networks: by method, the one to ship first.
    """
    height, width, bands = scene.cube.shape
    with cpu_threads(config.threads):
        rates = {name: _rates(network.eval()) for name, network in networks.items()}
    map_s = {
        name: MARGIN * rates[name].mac_s * network.spec.dense_macs(height, width)
        for name, network in networks.items()
    }
    if "svm" in config.methods:
        map_s["svm"] = MARGIN * svm_seconds(height * width, int(split.train.sum()), bands)
    shipped, network = next(iter(networks.items()))
    return map_s, _finish_seconds(config, network, rates[shipped], map_s[shipped])


def _finish_seconds(
    config: SceneConfig, network: PatchNetwork, rates: Rates, dense_map_s: float
) -> float:
    """Files, their gates, their timing, and the map by the shipped one."""
    files = len(config.precisions) * len(FORMS)
    runs = FINAL.rounds * FINAL.min_runs
    gate_s = 2 * COMPARED * (files + 1) * rates.window_s
    timing_s = FINAL.span_s + files * max(FINAL.seconds, runs * rates.window_s)
    tile_s = RUNTIME_SHARE * rates.mac_s * network.spec.dense_macs(TILE, TILE)
    timing_s += len(config.precisions) * max(FINAL.seconds, runs * tile_s)
    int8_files = len(FORMS) if "int8" in config.precisions else 0
    int8_s = int8_files * QUANTIZE_PASSES * CALIBRATION_WINDOWS * rates.window_s
    return FIXED_S + MARGIN * (gate_s + timing_s + int8_s) + dense_map_s


def _rates(network: PatchNetwork) -> Rates:
    spec = network.spec
    tile = TRIAL_SIDE + spec.window - 1
    windows = torch.zeros(TRIAL_WINDOWS, spec.bands, spec.window, spec.window)
    return Rates(
        window_s=_seconds(network, windows) / TRIAL_WINDOWS,
        mac_s=_seconds(DenseTwin(network), torch.zeros(1, spec.bands, tile, tile))
        / spec.dense_macs(TRIAL_SIDE, TRIAL_SIDE),
    )


def _seconds(network: nn.Module, spectra: Tensor) -> float:
    """Of one run, behind one that allocates."""
    with torch.inference_mode():
        network(spectra)
        start = time.perf_counter()
        network(spectra)
    return time.perf_counter() - start
