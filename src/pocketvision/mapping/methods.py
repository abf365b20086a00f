"""Train every method on every split, and score it on the test pixels."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction, reduce_scene
from pocketvision.data.scene.leakage import leakage
from pocketvision.data.scene.scene import Labels
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import TRAINING
from pocketvision.fitting.run import saving
from pocketvision.mapping.artefact import BANDS, save_patch_network
from pocketvision.mapping.networks import fit_reduction, network_spec, new_network, teacher_of
from pocketvision.mapping.plan import source_of, steps_asked, to_come_s
from pocketvision.mapping.reading import labels_of
from pocketvision.mapping.run import SceneRun, with_step
from pocketvision.mapping.svm import svm_map
from pocketvision.measure.scene_scores import score
from pocketvision.models.dense import DenseTwin
from pocketvision.models.patch import PatchNetwork
from pocketvision.record.run import Step
from pocketvision.report.scene_rows import leak_words
from pocketvision.scene_record import MethodRun
from pocketvision.train.scene import SceneTraining, train_scene

STRIP_ROWS = 64  # of a scene that go through the network at once


def run_methods(run: SceneRun) -> None:
    """Train and score what is not done yet; the network to ship is saved in the output folder.

    Raises: GateError: a loss became NaN or infinite.
    """
    for split in run.splits:
        for method in _in_order(run):
            if _done(run, method, split.seed):
                continue
            is_svm = method == "svm"
            found = _run_svm(run, split) if is_svm else _run_network(run, split, method)
            run.save(replace(run.state, runs=(*run.state.runs, found)))
            _say(run, split, found)
    shutil.rmtree(run.out / TRAINING, ignore_errors=True)


def network_map(network: PatchNetwork, bands: NDArray[np.float32]) -> Labels:
    """(H, W) of classes 1..K for reduced bands (H, W, n), strip by strip."""
    height, width, count = bands.shape
    half = network.spec.window // 2
    classes = np.empty((height, width), np.int16)
    twin = DenseTwin(network).eval()
    for start in range(0, height, STRIP_ROWS):
        stop = min(height, start + STRIP_ROWS)
        first, last = max(0, start - half), min(height, stop + half)
        strip = np.zeros((stop - start + 2 * half, width + 2 * half, count), np.float32)
        top = first - (start - half)
        strip[top : top + last - first, half : half + width] = bands[first:last]
        with torch.inference_mode():
            logits = twin(torch.from_numpy(strip).permute(2, 0, 1)[None])[0]
        classes[start:stop] = logits.argmax(0).numpy() + 1
    return classes


def _in_order(run: SceneRun) -> list[str]:
    """The network to ship first, so that what matters most is trained first."""
    first = run.state.spec.name
    return [first, *(method for method in run.config.methods if method != first)]


def _done(run: SceneRun, method: str, seed: int) -> bool:
    return any(found.method == method and found.seed == seed for found in run.state.runs)


def _run_svm(run: SceneRun, split: SceneSplit) -> MethodRun:
    with run.reporter.progress(f"Support vector machine, seed {split.seed}"):
        found = svm_map(run.scene, split.train, seed=split.seed)
    trained = int(split.train.sum())
    if found.learned_from < trained:
        run.reporter.say(
            f"The support vector machine learned from {found.learned_from:,} of the {trained:,} "
            "training pixels."
        )
    labels, classes = _test_pixels(run, split, found.classes)
    return MethodRun(
        method="svm",
        training="svm",
        seed=split.seed,
        scores=score(classes, labels, len(run.scene.classes)),
        train_seconds=found.train_seconds,
        map_seconds=found.map_seconds,
        learned_from=found.learned_from,
    )


def _run_network(run: SceneRun, split: SceneSplit, method: str) -> MethodRun:
    config, scene = run.config, run.scene
    reduction = fit_reduction(config, scene, split)
    bands = reduce_scene(scene, reduction)
    spec = network_spec(config, method, scene.cube.shape[2], len(scene.classes))
    network, _ = new_network(config, spec, scene.classes, split.seed)
    trained = _train(run, split, method, network, bands)
    start = time.monotonic()
    classes = network_map(network, bands)
    map_seconds = time.monotonic() - start
    labels, named = _test_pixels(run, split, classes)
    if method == run.state.spec.name and split is run.splits[0]:
        _keep(run, network, reduction)
        plan = run.state.train[method]
        note = f"{trained.steps} of {plan.steps} steps, {plan.threads} threads, {plan.precision}"
        step = Step(name="train", seconds=trained.seconds, note=note)
        run.save(replace(with_step(run.state, step), curves=trained.curves))
    return MethodRun(
        method=method,
        training=config.training,
        seed=split.seed,
        scores=score(named, labels, len(scene.classes)),
        train_seconds=trained.seconds,
        map_seconds=map_seconds,
        parameters=sum(layer.parameters for layer in spec.layers()),
        macs=sum(layer.macs for layer in spec.layers()),
        steps=trained.steps,
        steps_asked=steps_asked(config),
        learned_from=int(split.train.sum()),
    )


def _train(
    run: SceneRun,
    split: SceneSplit,
    method: str,
    network: PatchNetwork,
    bands: NDArray[np.float32],
) -> SceneTraining:
    """Train in place, or go on. Raises: GateError: it diverged; the run has failed then."""
    folder = run.out / TRAINING / f"{method}-{split.seed}"
    with run.reporter.progress(f"Training {method}, seed {split.seed}") as advance:
        try:
            return train_scene(
                network,
                source_of(run.scene, split, bands),
                replace(run.state.train[method], seed=split.seed),
                folder,
                teacher=teacher_of(run.config, method),
                on_step=saving(advance, lambda: run.save(run.state)),
                deadline=_deadline(run, method),
                say=run.reporter.say,
            )
        except GateError as error:
            # What its checkpoint holds may be broken already: nothing goes on from there.
            shutil.rmtree(folder, ignore_errors=True)
            run.save(replace(run.state, status="failed"))
            raise GateError(
                f"{method}, seed {split.seed}: {error} Fit again into another --out."
            ) from error


def _test_pixels(run: SceneRun, split: SceneSplit, classes: Labels) -> tuple[Labels, Labels]:
    """Of the test pixels: true classes and named ones, both 0..K - 1."""
    return labels_of(run.scene)[split.test] - 1, classes[split.test] - 1


def _keep(run: SceneRun, network: PatchNetwork, reduction: BandReduction) -> None:
    save_patch_network(network, run.out, classes=run.scene.classes)
    reduction.save(run.out / BANDS)


def _deadline(run: SceneRun, method: str) -> float | None:
    """The end of one training: its planned share of what is left for all that are to come."""
    remaining = run.clock.remaining_s
    if remaining is None or run.config.steps is not None:
        return None
    costs = run.state.costs
    to_come = [
        name
        for split in run.splits
        for name in run.config.methods
        if not _done(run, name, split.seed)
    ]
    training_s = sum(costs.train_s.get(name, 0.0) for name in to_come)
    left_s = remaining - to_come_s(costs, to_come)
    return time.monotonic() + left_s * costs.train_s[method] / training_s


def _say(run: SceneRun, split: SceneSplit, found: MethodRun) -> None:
    run.reporter.say(
        f"{found.method}, seed {found.seed}: OA {found.scores.overall:.2%}, AA "
        f"{found.scores.average:.2%}, kappa {found.scores.kappa:.4f} on {found.scores.n:,} test "
        f"pixels ({leak_words(leakage(split))}), trained in {found.train_seconds:.0f} s."
    )
