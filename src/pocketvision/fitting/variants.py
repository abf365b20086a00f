"""The trained network as files: built, gated against the float network on val, and timed.

What is known of a file is saved at once, so that a run that goes on never measures it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from pocketvision.budget import count_of
from pocketvision.data.stream import open_pixels
from pocketvision.fitting.artefact import CANDIDATES, altered_files
from pocketvision.fitting.choice import Built, choose_variant, passes
from pocketvision.fitting.config import FileState
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.gating import gate
from pocketvision.fitting.making import card_of, make_files
from pocketvision.fitting.plan import shipped_bytes
from pocketvision.fitting.ranking import fits
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.target_table import left_in_float
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.workload import forecast_of
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.memory import REPEATS, can_measure_memory
from pocketvision.measure.untrained import noise
from pocketvision.models.networks import AnyNetwork
from pocketvision.progress import counted
from pocketvision.record.files import Variant
from pocketvision.record.run import Step
from pocketvision.record.timing import Latency
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session

GATE_PROCESSES = 7  # whose highest peak must be within a budget of memory


def build_variants(run: Run, network: AnyNetwork) -> list[Built]:
    """Export, quantize, gate and measure the trained network on every runtime x precision.

    Raises: GateError: no file gives numbers, and the run has failed; or image files do not give the
    pixels that were trained on.
    """
    pre = preprocessing_for(run, network.spec)
    pixels = open_pixels(run.samples, pre.side, whole=pre.whole)
    if not _files_as_left(run):
        make_files(run, network, pixels, pre)
    sessions = {file.named: _open(run, file) for file in run.state.files}
    gate(run, network, sessions, pixels, pre)
    _measure(run, network, sessions)
    built = [_built(run, network, file) for file in run.state.files]
    _note_the_best(run, choose_variant(built))
    return built


def forget_latencies(run: Run) -> None:
    """What was measured in too much noise is measured again when the run goes on."""
    files = tuple(replace(file, latency=None) for file in run.state.files)
    run.save(replace(run.state, files=files))


def _path(run: Run, file: FileState) -> Path:
    return run.out / CANDIDATES / file.path


def _open(run: Run, file: FileState) -> Session:
    threads = run.config.threads
    return get_runtime(file.runtime).session(_path(run, file), file.precision, threads)


def _files_as_left(run: Run) -> bool:
    """True if all files of the network were made before, and are still what they were."""
    files = run.state.files
    return bool(files) and not any(
        altered_files(_path(run, file).parent, file.hashes) for file in files
    )


def _measure(run: Run, network: AnyNetwork, sessions: dict[str, Session]) -> None:
    """Time all files against each other, and take their peak memory."""
    if run.did("measure") and all(file.latency for file in run.state.files):
        return
    with stopwatch() as seconds, run.reporter.progress("Measuring") as advance:
        if not all(file.latency for file in run.state.files):
            pixels, threads = noise(1, network.spec), run.config.threads
            with watch_conditions(threads) as seen:
                latencies = measure_latency(
                    {f.named: partial(sessions[f.named].run, pixels) for f in run.state.files},
                    FINAL,
                    threads,
                    progress=counted(advance),
                )
            found = {key: judged(latency, seen[0]) for key, latency in latencies.items()}
            timed = tuple(replace(f, latency=found[f.named]) for f in run.state.files)
            run.save(replace(run.state, files=timed, conditions=seen[0]))
        for old, new in _peaks(run, network):
            run.update_file(old, new)
    planned_s = forecast_of(run, "measure")
    run.add_steps(Step(name="measure", seconds=seconds[0], forecast_s=planned_s))


def _peaks(run: Run, network: AnyNetwork) -> Iterator[tuple[FileState, FileState]]:
    """Each file without and with its peak; nothing where the system does not say it unasked."""
    limited = run.config.budget.memory_bytes is not None
    if not limited and not can_measure_memory():
        return
    footprints = Footprints(run.config.threads, GATE_PROCESSES if limited else REPEATS)
    card = card_of(run, network)
    for file in run.state.files:
        if file.peak_bytes is None:
            runtime, path = get_runtime(file.runtime), _path(run, file)
            yield (
                file,
                replace(file, peak_bytes=footprints.measure(runtime, path, file.precision, card)),
            )


def _built(run: Run, network: AnyNetwork, file: FileState) -> Built:
    assert file.comparison is not None
    assert file.latency is not None
    config, path = run.config, _path(run, file)
    runtime, card = get_runtime(file.runtime), card_of(run, network)
    size = shipped_bytes(runtime, path, file.precision, config.threads, card)
    target = _on_target(run, network, file)
    latency = target or file.latency
    within = fits(latency, size, config.budget, peak_bytes=file.peak_bytes)
    variant = Variant(
        runtime=file.runtime,
        precision=file.precision,
        size_bytes=size,
        latency=file.latency,
        comparison=file.comparison,
        within_budget=within and not (target and target.noise),
        passed_gate=passes(file.comparison, file.precision, config.max_drop_points),
        peak_bytes=file.peak_bytes,
        target=target,
    )
    return Built(variant=variant, path=path)


def _on_target(run: Run, network: AnyNetwork, file: FileState) -> Latency | None:
    """By the table of the target; None where there is none."""
    if run.target is None:
        return None
    latency = run.target.timed_whole(network.spec)
    count = left_in_float(run.state.quantization) if file.precision == "int8" else 0
    if not count:
        return latency
    layers = count_of(count, "layer")
    return replace(latency, noise=f"leaves {layers} in float, of which the table knows nothing")


def _note_the_best(run: Run, chosen: Built | None) -> None:
    """What gate and measurement gained, in the figures of the file that ships."""
    gate, measure = (
        next(step for step in reversed(run.state.steps) if step.name == name)
        for name in ("gate", "measure")
    )
    if chosen is None or measure.note:
        return
    v = chosen.variant
    score = None if v.comparison is None else v.comparison.accuracy.value
    note = f"the fastest that passes: {v.precision} on {v.runtime}"
    run.add_steps(
        replace(gate, score=score, size_bytes=v.size_bytes),
        replace(measure, latency_ms=v.latency.median_ms, note=note),
    )
