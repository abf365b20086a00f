"""The trained network as files: dense and patch form, float and INT8, gated and timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketvision.budget import Budget, format_latency, format_size
from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.fitting.artefact import CANDIDATES
from pocketvision.fitting.ranking import HEADROOM, SIZE_HEADROOM, fits
from pocketvision.fitting.run import stopwatch
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.gates import FileKey, compare_files, sample_places
from pocketvision.mapping.networks import fit_reduction
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.standalone import scene_script
from pocketvision.mapping.tiles import windows_at
from pocketvision.measure.latency import FINAL, PLANNING, LatencyProtocol, measure_latency
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.record import Latency, Precision, Step
from pocketvision.runtimes.runtime import PLAIN_INT8
from pocketvision.runtimes.scene_export import SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import (
    SceneCalibration,
    SceneSession,
    open_scene_session,
    quantize_scene,
)
from pocketvision.scene_record import FileFigures, Form

CALIBRATION_WINDOWS = 96  # of training pixels

FORMS: tuple[Form, ...] = ("dense", "patch")
SHIPPED_FORM: Form = "dense"


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """One file of the trained network."""

    figures: FileFigures
    path: Path
    card: SceneCard


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
    config: SceneConfig, scene: Scene, split: SceneSplit, spec: PatchSpec, folder: Path
) -> list[UntrainedFile]:
    """Size and latency of one pixel of the form to ship, untrained, by precision."""
    reduction = fit_reduction(config, scene, split)
    network = _as_if_trained(spec.build(config.seed).eval())
    window = noise(spec.window, reduction.bands)
    calibration = SceneCalibration(spectra=window, config=PLAIN_INT8)
    forms = (SHIPPED_FORM,)
    files = _export(config, scene, network, reduction, folder, calibration, forms)
    sessions = {
        precision: open_scene_session(path, precision, config.threads)
        for (_, precision), path in files.items()
    }
    timed = {str(precision): partial(s.run, window) for precision, s in sessions.items()}
    latencies = measure_latency(timed, PLANNING, config.threads)
    found = []
    for (_, precision), path in files.items():
        size = _shipped_bytes(path, sessions[precision].card, config.threads)
        size_bytes = round(SIZE_HEADROOM * size)
        latency_ms = HEADROOM * latencies[precision].high_ms
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


def build_files(run: SceneRun, network: PatchNetwork, reduction: BandReduction) -> list[Built]:
    """Export, quantize, gate and time the trained network in every form and precision."""
    config = run.config
    folder = run.out / CANDIDATES
    shutil.rmtree(folder, ignore_errors=True)
    train = sample_places(run.splits[0].train, CALIBRATION_WINDOWS, config.seed)
    with stopwatch() as seconds, run.reporter.progress("Exporting and quantizing"):
        spectra = windows_at(run.scene, train, network.spec.window, reduction.mean)
        calibration = SceneCalibration(spectra=spectra)
        files = _export(config, run.scene, network, reduction, folder, calibration, FORMS)
    run.add_step(Step(name="export", seconds=seconds[0], note=f"{len(files)} files"))
    sessions = {
        (form, precision): open_scene_session(path, precision, config.threads)
        for (form, precision), path in files.items()
    }
    with stopwatch() as seconds, run.reporter.progress("Comparing with the float network"):
        compared = compare_files(run, network, reduction, sessions)
    run.add_step(
        Step(name="gate", seconds=seconds[0], note="no label of a test pixel is looked at")
    )
    with stopwatch() as seconds, run.reporter.progress("Measuring"):
        latencies = measure_files(sessions, FINAL, config.threads)
    run.add_step(Step(name="measure", seconds=seconds[0]))
    built = []
    for (form, precision), path in files.items():
        card, one = sessions[form, precision].card, compared[form, precision]
        size = _shipped_bytes(path, card, config.threads)
        latency, pixel_latency = latencies[form, precision]
        figures = FileFigures(
            form=form,
            precision=precision,
            size_bytes=size,
            latency=latency,
            pixels=timed_pixels(card),
            pixel_latency=pixel_latency,
            agreement=one.agreement,
            unlabelled_agreement=one.unlabelled,
            tile_agreement=one.tile,
            compared=one.n,
            drop=one.drop,
            largest_difference=one.largest_difference,
            passed_gate=one.passes(precision, config.max_drop_points),
            within_budget=fits(pixel_latency, size, config.budget),
        )
        built.append(Built(figures=figures, path=path, card=card))
    return built


def timed_again(run: SceneRun, built: list[Built]) -> list[Built]:
    """The same files with what they take now."""
    config = run.config
    sessions = {
        (one.figures.form, one.figures.precision): open_scene_session(
            one.path, one.figures.precision, config.threads
        )
        for one in built
    }
    with stopwatch() as seconds, run.reporter.progress("Measuring"):
        latencies = measure_files(sessions, FINAL, config.threads)
    run.add_step(Step(name="measure", seconds=seconds[0]))
    again = []
    for one in built:
        figures = one.figures
        latency, pixel_latency = latencies[figures.form, figures.precision]
        within = fits(pixel_latency, figures.size_bytes, config.budget)
        figures = replace(
            figures, latency=latency, pixel_latency=pixel_latency, within_budget=within
        )
        again.append(replace(one, figures=figures))
    return again


def measure_files(
    sessions: dict[FileKey, SceneSession], protocol: LatencyProtocol, threads: int
) -> dict[FileKey, tuple[Latency, Latency]]:
    """Of every file: one run as maps use it, a tile or a window; and one pixel from its window."""
    timed: dict[str, Callable[[], object]] = {}
    for (form, precision), session in sessions.items():
        card = session.card
        timed[f"{form} {precision}"] = partial(session.run, timed_spectra(card))
        if form == "dense":
            window = noise(card.window, card.bands)
            timed[f"pixel {precision}"] = partial(session.run, window)
    found = measure_latency(timed, protocol, threads)
    return {
        (form, precision): (
            found[f"{form} {precision}"],
            found[f"{'pixel' if form == 'dense' else form} {precision}"],
        )
        for form, precision in sessions
    }


def choose_file(built: list[Built]) -> Built | None:
    """The fastest file of the form to ship that passes its gate within the budget."""
    passing = [
        b
        for b in built
        if b.figures.form == SHIPPED_FORM and b.figures.passed_gate and b.figures.within_budget
    ]
    return min(passing, key=lambda b: b.figures.latency.median_ms) if passing else None


def too_slow_alone(built: list[Built], budget: Budget) -> Built | None:
    """One that could ship but for its latency, which the plan had within the budget; None: none."""
    rest = replace(budget, latency_ms=None)
    for one in built:
        figures = one.figures
        if figures.form != SHIPPED_FORM or not figures.passed_gate or figures.within_budget:
            continue
        if fits(figures.pixel_latency, figures.size_bytes, rest):
            return one
    return None


def missed_sentence(run: SceneRun, built: list[Built]) -> str:
    """Why none of the files can be shipped, and what to do."""
    parts = []
    for one in built:
        figures, reasons = one.figures, []
        if not figures.passed_gate:
            reasons.append(
                f"loses {100 * figures.drop:.2f} points of OA and agrees on "
                f"{figures.agreement:.1%} of {figures.compared} pixels{_elsewhere(figures)}"
            )
        if not figures.within_budget:
            reasons.append(
                f"measures {format_latency(figures.pixel_latency.high_ms)} a pixel and "
                f"{format_size(figures.size_bytes)}"
            )
        if figures.form == SHIPPED_FORM and reasons:
            parts.append(f"{figures.precision} {' and '.join(reasons)}")
    return (
        f"{run.state.spec.label} is trained but cannot be shipped within {run.config.budget} "
        f"(--max-drop {run.config.max_drop_points:g}): {'; '.join(parts)}. The trained network "
        f"stays in {run.out}."
    )


def timed_pixels(card: SceneCard) -> int:
    """Pixels that one timed run of a file names."""
    return card.tile**2 if card.form == "dense" else 1


def timed_spectra(card: SceneCard) -> NDArray[np.float32]:
    """What a file is timed on: one window, or the tile of its maps with its border."""
    return noise(card.window + (card.tile - 1 if card.form == "dense" else 0), card.bands)


def noise(side: int, bands: int) -> NDArray[np.float32]:
    """Seeded spectra (1, side, side, bands): timing does not see content."""
    shape = (1, side, side, bands)
    return np.random.default_rng(0).uniform(0, 10_000, shape).astype(np.float32)


def _export(
    config: SceneConfig,
    scene: Scene,
    network: PatchNetwork,
    reduction: BandReduction,
    folder: Path,
    calibration: SceneCalibration,
    forms: tuple[Form, ...],
) -> dict[FileKey, Path]:
    files: dict[FileKey, Path] = {}
    folder.mkdir(exist_ok=True)
    for form in forms:
        card = SceneCard.for_scene(
            scene,
            name=network.spec.label,
            form=form,
            window=network.spec.window,
            reduction=reduction,
        )
        exported = folder / f"{form}_float.onnx"
        export_scene(network, reduction, exported, card)
        if "f32" in config.precisions:
            files[form, "f32"] = exported
        if "int8" in config.precisions:
            files[form, "int8"] = folder / f"{form}_int8.onnx"
            quantize_scene(exported, files[form, "int8"], calibration)
    return files


def _as_if_trained(network: PatchNetwork) -> PatchNetwork:
    """With biases that differ: those of a new network are zero, and equal ones are stored once."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def _shipped_bytes(path: Path, card: SceneCard, threads: int) -> int:
    """Bytes of everything that ships with one file: all that lies in model/."""
    return path.stat().st_size + len(scene_script(card, threads).encode())


def _elsewhere(figures: FileFigures) -> str:
    """Agreement where nothing was learned, in brackets."""
    parts = {
        "those without a label": figures.unlabelled_agreement,
        "a tile": figures.tile_agreement,
    }
    said = [f"{share:.1%} of {where}" for where, share in parts.items() if share is not None]
    return f" ({', '.join(said)})" if said else ""


def _excess(latency_ms: float, size_bytes: float, budget: Budget) -> float:
    parts = [0.0]
    if budget.latency_ms is not None:
        parts.append(latency_ms / budget.latency_ms)
    if budget.size_bytes is not None:
        parts.append(size_bytes / budget.size_bytes)
    return max(parts)
