"""The trained network as files: built, gated against the float network on val, and timed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.budget import Budget, format_latency, format_size
from pocketvision.data.cache import pixel_store
from pocketvision.data.pixels import centre_crop
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import CANDIDATES, read_pixels
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.plan import (
    build_files,
    chosen_precisions,
    noise,
    shipped_bytes,
)
from pocketvision.fitting.ranking import fits
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.verify import network_logits
from pocketvision.measure.accuracy import compare
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.memory import REPEATS, can_measure_memory
from pocketvision.models.arch import Network
from pocketvision.record import Comparison, Latency, Precision, Step, Variant
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.runtime import Calibration, FileCard, Session

CALIBRATION_IMAGES = 256
BATCH = 64
GATE_PROCESSES = 7  # whose highest peak must be within a budget of memory
FLOAT_AGREEMENT = 0.995  # of an exported float file with the float network
CHECKED_FILES = 64  # of val, read again from their files


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """One file of the trained network."""

    variant: Variant
    path: Path


def build_variants(run: Run, network: Network) -> list[Built]:
    """Export, quantize, gate and measure the trained network on every runtime x precision.

    Raises: GateError: no file gives numbers, or image files do not give the pixels that were
    trained on.
    """
    _forget_files(run)
    pre = preprocessing_for(run, network.spec)
    card = card_of(run, network)
    store = pixel_store(run.samples, pre.side)
    folder = run.out / CANDIDATES
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with stopwatch() as export_s:
        exported = folder / "float.onnx"
        export_onnx(network, exported, card)
    run.add_steps(Step(name="export", seconds=export_s[0], size_bytes=exported.stat().st_size))
    with stopwatch() as quantize_s, run.reporter.progress("Quantizing"):
        files = {
            (runtime.name, precision): path
            for runtime in run.runtimes
            for precision, path in build_files(
                runtime,
                exported,
                folder,
                chosen_precisions(runtime, run.config.precisions),
                Calibration(pixels=_calibration_pixels(run, store, pre)),
            ).items()
        }
    run.add_steps(Step(name="quantize", seconds=quantize_s[0]))
    exported.unlink()
    return _gate_and_time(run, network, files, store, pre)


def _forget_files(run: Run) -> None:
    """Drop the steps of an interrupted attempt to make the files: they are made anew."""
    names = [step.name for step in run.state.steps]
    last = len(names) - names[::-1].index("train")
    run.save(replace(run.state, steps=run.state.steps[:last]))


def card_of(run: Run, network: Network) -> FileCard:
    """What the files of the trained network say about themselves."""
    pre = preprocessing_for(run, network.spec)
    return FileCard(name=network.spec.label, classes=run.samples.classes, preprocessing=pre)


def _gate_and_time(
    run: Run,
    network: Network,
    files: dict[tuple[str, Precision], Path],
    store: np.ndarray,
    pre: Preprocessing,
) -> list[Built]:
    threads = run.config.threads
    by_name = {runtime.name: runtime for runtime in run.runtimes}
    sessions = {key: by_name[key[0]].session(path, key[1], threads) for key, path in files.items()}
    with stopwatch() as gate_s, run.reporter.progress("Comparing with the float network"):
        _check_pixels(run, store, pre)
        comparisons = _compare_on_val(run, network, sessions, store, pre)
    with stopwatch() as measure_s, run.reporter.progress("Measuring") as advance:
        pixels = noise(1, network.spec)
        timed = {f"{n} {p}": partial(sessions[n, p].run, pixels) for n, p in comparisons}
        latencies = measure_latency(
            timed, FINAL, threads, progress=lambda done, total: advance(done, total, "")
        )
        peaks = _peak_memory(run, network, {key: files[key] for key in comparisons})
    built = []
    for (name, precision), comparison in comparisons.items():
        path, latency = files[name, precision], latencies[f"{name} {precision}"]
        size = shipped_bytes(by_name[name], path, precision, threads, card_of(run, network))
        peak = peaks.get((name, precision))
        variant = Variant(
            runtime=name,
            precision=precision,
            size_bytes=size,
            latency=latency,
            comparison=comparison,
            within_budget=fits(latency, size, run.config.budget, peak_bytes=peak),
            passed_gate=passes(comparison, precision, run.config.max_drop_points),
            peak_bytes=peak,
        )
        built.append(Built(variant=variant, path=path))
    chosen = choose_variant(built)
    gate = Step(name="gate", seconds=gate_s[0], note="each file against the float network, on val")
    measure = Step(name="measure", seconds=measure_s[0])
    if chosen is not None:
        v = chosen.variant
        top1 = None if v.comparison is None else v.comparison.accuracy.top1
        gate = replace(gate, top1=top1, size_bytes=v.size_bytes)
        measure = replace(
            measure,
            latency_ms=v.latency.median_ms,
            note=f"the fastest that passes: {v.precision} on {v.runtime}",
        )
    run.add_steps(gate, measure)
    return built


def _peak_memory(
    run: Run, network: Network, files: dict[tuple[str, Precision], Path]
) -> dict[tuple[str, Precision], int]:
    """Peak bytes of every file; nothing where the system does not say and nobody asked."""
    limited = run.config.budget.memory_bytes is not None
    if not limited and not can_measure_memory():
        return {}
    footprints = Footprints(run.config.threads, GATE_PROCESSES if limited else REPEATS)
    card = card_of(run, network)
    by_name = {runtime.name: runtime for runtime in run.runtimes}
    return {
        (name, precision): footprints.measure(by_name[name], path, precision, card)
        for (name, precision), path in files.items()
    }


def passes(comparison: Comparison, precision: Precision, max_drop_points: float) -> bool:
    """The gate of one file, on val: its drop, and for float files that they answer the same."""
    small = round(100 * comparison.drop, 9) <= max_drop_points
    return small and (precision != "f32" or comparison.agreement >= FLOAT_AGREEMENT)


def _check_pixels(run: Run, store: np.ndarray, pre: Preprocessing) -> None:
    """The gate's numbers hold for image files: some of val are read again and compared.

    Raises: GateError: a file gives other pixels than the cache.
    """
    for row in run.samples.indices("val")[:CHECKED_FILES]:
        file = run.samples.root / run.samples.paths[row]
        if not np.array_equal(read_pixels(file, pre), centre_crop(store[row], pre.resolution)):
            raise GateError(
                f"{file} does not give the pixels it was trained on; if the images have not "
                "changed, remove the cache folder and fit again."
            )


def _compare_on_val(
    run: Run,
    network: Network,
    sessions: dict[tuple[str, Precision], Session],
    store: np.ndarray,
    pre: Preprocessing,
) -> dict[tuple[str, Precision], Comparison]:
    rows = run.samples.indices("val")
    labels = run.samples.labels[rows]
    batches = [
        centre_crop(store[part], pre.resolution)
        for part in np.array_split(rows, -(-len(rows) // BATCH))
    ]
    reference = np.concatenate([network_logits(network, batch, pre) for batch in batches])
    comparisons = {}
    for key, session in sessions.items():
        name = f"{key[1]} on {key[0]}"
        logits = np.concatenate([session.run(batch) for batch in batches])
        try:
            comparisons[key] = compare(
                logits, reference, labels, subject=name, reference="float network", split="val"
            )
        except GateError as error:  # one file without numbers does not stop the others
            run.reporter.say(f"Left out: {error}")
    if not comparisons:
        raise GateError(f"No file of {network.spec.label} gives numbers; it cannot be shipped.")
    return comparisons


def _calibration_pixels(run: Run, store: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Training images, chosen by the seed, as the network sees them at test time."""
    rows = run.samples.indices("train")
    generator = np.random.default_rng(run.config.seed)
    chosen = generator.permutation(rows)[:CALIBRATION_IMAGES]
    return np.ascontiguousarray(centre_crop(store[np.sort(chosen)], pre.resolution))


def undecided(built: list[Built], budget: Budget) -> Latency | None:
    """A latency too noisy to say whether the budget is met, of a file that is fine otherwise."""
    for variant in (entry.variant for entry in built if entry.variant.passed_gate):
        latency, limit = variant.latency, budget.latency_ms
        rest = replace(budget, latency_ms=None)
        light = fits(latency, variant.size_bytes, rest, peak_bytes=variant.peak_bytes)
        if limit and light and latency.noise and latency.low_ms <= limit < latency.high_ms:
            return latency
    return None


def choose_variant(built: list[Built]) -> Built | None:
    """The fastest file that passes its gate within the budget; None when there is none."""
    passing = [b for b in built if b.variant.passed_gate and b.variant.within_budget]
    if not passing:
        return None
    return min(passing, key=lambda b: b.variant.latency.median_ms)


def missed_sentence(label: str, built: list[Built], budget: Budget, max_drop_points: float) -> str:
    """Why none of the files of a trained network can be shipped."""
    parts = []
    for entry in built:
        v = entry.variant
        reasons = []
        if not v.passed_gate and v.comparison is not None:
            reasons.append(
                f"loses {100 * v.comparison.drop:.2f} points (limit {max_drop_points:g})"
            )
        if not v.within_budget:
            high = format_latency(v.latency.high_ms)
            peak = "" if v.peak_bytes is None else f" and {format_size(v.peak_bytes)} of memory"
            reasons.append(f"measures up to {high} and {format_size(v.size_bytes)}{peak}")
        parts.append(f"{v.precision} on {v.runtime} {' and '.join(reasons)}")
    return f"{label} is trained but cannot be shipped within {budget}: {'; '.join(parts)}."
