"""The trained network as files: dense and patch form, float and INT8, gated and timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketvision.budget import Budget, format_latency, format_size
from pocketvision.data.scene.bands import BandReduction
from pocketvision.fitting.artefact import CANDIDATES
from pocketvision.fitting.ranking import fits
from pocketvision.fitting.run import stopwatch
from pocketvision.mapping.gates import FileKey, compare_files, sample_places
from pocketvision.mapping.making import FORMS, SHIPPED_FORM, export_files, noise, shipped_bytes
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.tiles import windows_at
from pocketvision.measure.latency import FINAL, LatencyProtocol, measure_latency
from pocketvision.models.patch import PatchNetwork
from pocketvision.record.run import Step
from pocketvision.record.timing import Latency
from pocketvision.runtimes.scene_export import SceneCard
from pocketvision.runtimes.scene_onnx import (
    SceneCalibration,
    SceneSession,
    open_scene_session,
)
from pocketvision.scene_record import FileFigures, Form

CALIBRATION_WINDOWS = 96  # of training pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """One file of the trained network."""

    figures: FileFigures
    path: Path
    card: SceneCard


def build_files(run: SceneRun, network: PatchNetwork, reduction: BandReduction) -> list[Built]:
    """Export, quantize, gate and time the trained network in every form and precision."""
    config = run.config
    folder = run.out / CANDIDATES
    shutil.rmtree(folder, ignore_errors=True)
    train = sample_places(run.splits[0].train, CALIBRATION_WINDOWS, config.seed)
    with stopwatch() as seconds, run.reporter.progress("Exporting and quantizing"):
        spectra = windows_at(run.scene, train, network.spec.window, reduction.mean)
        calibration = SceneCalibration(spectra=spectra)
        files = export_files(config, run.scene, network, reduction, folder, calibration, FORMS)
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
        size = shipped_bytes(path, card, config.threads)
        latency, pixel_latency = latencies[form, precision]
        there = _on_target(run, form)
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
            within_budget=_is_within(run, there or pixel_latency, form, size),
            target=there,
        )
        built.append(Built(figures=figures, path=path, card=card))
    return built


def _on_target(run: SceneRun, form: Form) -> Latency | None:
    """Of one pixel, by the table, which is of the form to ship; None: there is none."""
    if run.target is None or form != SHIPPED_FORM:
        return None
    return run.target.latency_of(run.state.spec, run.scene.cube.shape[2])


def _is_within(run: SceneRun, latency: Latency, form: Form, size_bytes: int) -> bool:
    """Of a form that the table of a target has not, the size alone is known."""
    budget = run.config.budget
    if run.target is not None and form != SHIPPED_FORM:
        budget = replace(budget, latency_ms=None)
    return fits(latency, size_bytes, budget)


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
        there = figures.target or pixel_latency
        within = _is_within(run, there, figures.form, figures.size_bytes)
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
                f"{'measures' if run.target is None else 'takes by the table'} "
                f"{format_latency(figures.budgeted.high_ms)} a pixel and "
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


def _elsewhere(figures: FileFigures) -> str:
    """Agreement where nothing was learned, in brackets."""
    parts = {
        "those without a label": figures.unlabelled_agreement,
        "a tile": figures.tile_agreement,
    }
    said = [f"{share:.1%} of {where}" for where, share in parts.items() if share is not None]
    return f" ({', '.join(said)})" if said else ""
