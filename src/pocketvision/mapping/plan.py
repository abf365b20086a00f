"""Which network a run on a scene ships, and how long each one trains: frozen before it begins."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.budget import format_latency, format_size, format_time
from pocketvision.cpu import cpu
from pocketvision.data.scene.bands import reduce_scene
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import BudgetError
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.mapping.config import Costs, SceneConfig
from pocketvision.mapping.costs import other_seconds
from pocketvision.mapping.networks import (
    fit_reduction,
    network_spec,
    ordered_networks,
    teacher_of,
)
from pocketvision.mapping.reading import labels_of
from pocketvision.mapping.scene_target import SceneTarget
from pocketvision.mapping.untrained import UntrainedFile, untrained_files
from pocketvision.models.patch import PatchSpec
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene import settled
from pocketvision.train.scene_config import SceneTrainConfig

DEFAULT_STEPS = 3000
MIN_STEPS = 50
WARMUP_STEPS = 100
LEARNING_RATES = {"hybridsn": 1e-3, "mobile_patch": 3e-3}
MAIN_SHARE = 3  # parts of the training time for the network to ship, one for each comparison


def choose_network(
    config: SceneConfig,
    scene: Scene,
    split: SceneSplit,
    reporter: Reporter,
    target: SceneTarget | None = None,
) -> PatchSpec:
    """The first network asked for that the budget allows, its untrained files measured.

    target: by whose table latencies are.

    Raises: BudgetError: none; the message names the nearest. ConfigError: the table lacks one.
    """
    specs = [
        network_spec(config, method, scene.cube.shape[2], len(scene.classes))
        for method in ordered_networks(config)
    ]
    if config.narrowed is not None:  # until its latency was measured to be within the budget
        config = replace(config, budget=replace(config.budget, latency_ms=None))
    if config.budget.is_open:
        return specs[0]
    tried: list[tuple[PatchSpec, UntrainedFile]] = []
    does = "Measuring" if target is None else "Weighing"
    with reporter.progress(f"{does} untrained files"), tempfile.TemporaryDirectory() as folder:
        for spec in specs:
            found = untrained_files(config, scene, split, spec, Path(folder) / spec.name, target)
            if any(file.excess <= 1 for file in found):
                return spec
            tried += [(spec, file) for file in found]
    nearest, file = min(tried, key=lambda pair: pair[1].excess)
    where = "" if target is None else f" by the table of {target.described}"
    raise BudgetError(
        f"No network fits {config.budget}; the nearest is {nearest.label} as {file.precision}, "
        f"which needs {format_latency(file.latency_ms)} a pixel and "
        f"{format_size(file.size_bytes)}{where}. Ask for that much, for a smaller --window, or for "
        "other --models."
    )


def plan_run(
    config: SceneConfig, scene: Scene, split: SceneSplit, spec: PatchSpec, clock: Clock
) -> tuple[dict[str, SceneTrainConfig], Costs]:
    """The training of every network: faster threads and precision, steps that fit; and all costs.

    Where steps are given, neither is left to a clock, so that a run can be made again to the bit.
    spec: of the network to ship, which gets the most of the time.
    Raises: BudgetError: the time does not hold the trainings.
    """
    names = [spec.name, *(name for name in config.networks if name != spec.name)]
    bands, num_classes = scene.cube.shape[2], len(scene.classes)
    networks = {
        name: network_spec(config, name, bands, num_classes).build(config.seed) for name in names
    }
    source = source_of(scene, split, reduce_scene(scene, fit_reduction(config, scene, split)))
    plans: dict[str, SceneTrainConfig] = {}
    rates: dict[str, float] = {}
    for name, network in networks.items():
        teacher = teacher_of(config, name)
        plans[name], rates[name] = settled(network, source, _wanted(config, name), teacher)
    steps = {name: plan.steps for name, plan in plans.items()}
    map_s, finish_s = other_seconds(config, scene, split, networks)
    costs = Costs(train_s={}, map_s=map_s, finish_s=finish_s)
    remaining = clock.remaining_s
    if remaining is not None:
        left_s = remaining - to_come_s(costs, config.methods * config.repeats)
        if config.steps is None:
            parts = (MAIN_SHARE + len(names) - 1) * config.repeats
            for name in names:
                share_s = left_s * (MAIN_SHARE if name == spec.name else 1) / parts
                steps[name] = _steps_within(plans[name], name, rates[name], share_s)
        else:
            _check_asked(config.steps, config.repeats * sum(rates.values()), left_s)
    for name in names:
        # The most steps stay as they are: the clock ends a training that has a deadline.
        plans[name] = replace(plans[name], warmup_steps=min(WARMUP_STEPS, steps[name] // 10))
    train_s = {name: steps[name] * rates[name] for name in names}
    return plans, replace(costs, train_s=train_s)


def to_come_s(costs: Costs, methods: Iterable[str]) -> float:
    """What comes beside the trainings of networks: maps by these methods, and the finish."""
    return costs.finish_s + sum(costs.map_s.get(method, 0.0) for method in methods)


def steps_asked(config: SceneConfig) -> int:
    """Of a training that has time enough."""
    return config.steps or DEFAULT_STEPS


def source_of(scene: Scene, split: SceneSplit, bands: NDArray[np.float32]) -> SceneSource:
    """Reduced bands (H, W, n) with the classes of the training pixels as targets."""
    targets = np.where(split.train, labels_of(scene).astype(np.int64) - 1, -1)
    return SceneSource(bands=bands, targets=targets)


def _wanted(config: SceneConfig, name: str) -> SceneTrainConfig:
    steps = steps_asked(config)
    given = config.steps is not None
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    native: Literal["f32", "bf16"] = "bf16" if on_gpu or cpu().has_bf16 else "f32"
    return SceneTrainConfig(
        training=config.training,
        steps=steps,
        warmup_steps=min(WARMUP_STEPS, steps // 10),
        learning_rate=config.learning_rate or LEARNING_RATES[name],
        precision=native if given else "auto",
        threads=torch.get_num_threads() if given else 0,
        accelerator=config.accelerator,
        seed=config.seed,
    )


def _steps_within(
    plan: SceneTrainConfig, name: str, seconds_per_step: float, share_s: float
) -> int:
    """The steps that a training's share of the time should hold. Raises: BudgetError: too few."""
    steps = min(plan.steps, int(share_s / seconds_per_step))
    if steps < MIN_STEPS:
        raise BudgetError(
            f"The time is too short: {format_time(max(share_s, 0))} are left to train {name}, and "
            f"{MIN_STEPS} steps take {format_time(MIN_STEPS * seconds_per_step)}. Give more "
            "--time, fewer --repeats, or only one of --models."
        )
    return steps


def _check_asked(steps: int, seconds_per_step: float, left_s: float) -> None:
    """Raises: BudgetError: the steps that were asked for, of all trainings, do not fit the time."""
    if steps * seconds_per_step > left_s:
        raise BudgetError(
            f"The time is too short: {format_time(max(left_s, 0))} are left for training, and "
            f"--steps {steps} take {format_time(steps * seconds_per_step)} in all. Give more "
            "--time, or leave --steps away."
        )
