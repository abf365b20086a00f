"""The files of `quantize`: made in every runtime's formats, gated, timed together, one shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.compress.ladder import Climbed
from pocketvision.fitting.artefact import MODEL
from pocketvision.fitting.choice import passes
from pocketvision.fitting.plan import shipped_bytes
from pocketvision.fitting.quantize_images import Images
from pocketvision.fitting.quantize_source import Source
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.shipped import STEM, fill_model, shipped_facts
from pocketvision.measure.accuracy import compare
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.untrained import build_files
from pocketvision.progress import counted
from pocketvision.record.files import Shipped, Variant
from pocketvision.record.scores import Comparison
from pocketvision.record.timing import Conditions
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.registry import file_answers, get_runtime, installed_runtimes
from pocketvision.runtimes.runtime import Calibration, FileCard, Runtime


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QuantizedFile:
    """One file of the network that passed or failed its gate; comparison: None for the float."""

    runtime: str
    precision: Precision
    path: Path
    comparison: Comparison | None
    passed: bool


def ladder_files(climbed: Climbed) -> list[QuantizedFile]:
    """The float file, and those in integers that were tried."""
    return [
        QuantizedFile(
            runtime=OnnxRuntime.name,
            precision="f32" if rung.kind == "float" else "int8",
            path=path,
            comparison=rung.comparison,
            passed=rung.passed,
        )
        for path, rung in climbed.rungs.items()
    ]


def other_files(
    source: Source,
    images: Images,
    runtimes: Sequence[str],
    folder: Path,
    *,
    threads: int,
    max_drop_points: float,
    reporter: Reporter,
) -> list[QuantizedFile]:
    """The network in all other formats of the runtimes, gated alike. No runtimes: the installed."""
    chosen = [get_runtime(name) for name in runtimes] if runtimes else installed_runtimes()
    for runtime in chosen:
        runtime.check()
    reference = file_answers("onnxruntime", "f32", source.float_onnx, threads, images.judged)
    labels = reference.argmax(1) if images.labels is None else images.labels
    calibration = Calibration(pixels=images.calibration)
    found = []
    for runtime in chosen:
        reporter.say(f"Making the files of {runtime.name}.")
        files = build_files(runtime, source.float_onnx, folder, _formats(runtime), calibration)
        for precision, path in files.items():
            compared = compare(
                file_answers(runtime.name, precision, path, threads, images.judged),
                reference,
                labels,
                subject=f"{precision} on {runtime.name}",
                reference="float file",
                split=images.split,
            )
            found.append(
                QuantizedFile(
                    runtime=runtime.name,
                    precision=precision,
                    path=path,
                    comparison=compared,
                    passed=passes(compared, precision, max_drop_points),
                )
            )
    return found


def _formats(runtime: Runtime) -> tuple[Precision, ...]:
    """What the ladder has not made."""
    on_the_ladder = ("f32", "int8") if runtime.name == OnnxRuntime.name else ()
    return tuple(p for p in runtime.precisions if p not in on_the_ladder)


def measured_files(
    files: Sequence[QuantizedFile],
    card: FileCard,
    pixels: np.ndarray,
    threads: int,
    reporter: Reporter,
) -> tuple[list[Variant], Conditions]:
    """Every file, those that fail their gate too, against each other in one measurement."""
    sessions = {
        str(number): partial(
            get_runtime(file.runtime).session(file.path, file.precision, threads).run, pixels
        )
        for number, file in enumerate(files)
    }
    with watch_conditions(threads) as seen, reporter.progress("Measuring") as advance:
        latencies = measure_latency(sessions, FINAL, threads, progress=counted(advance))
    variants = [
        Variant(
            runtime=file.runtime,
            precision=file.precision,
            size_bytes=_size(file, threads, card),
            latency=judged(latencies[str(number)], seen[0]),
            comparison=file.comparison,
            within_budget=True,
            passed_gate=file.passed,
        )
        for number, file in enumerate(files)
    ]
    return variants, seen[0]


def ship_file(file: QuantizedFile, card: FileCard, folder: Path, threads: int) -> Shipped:
    """Write model/ of the chosen file into `folder`."""
    model = folder / MODEL
    model.mkdir()
    hashes = fill_model(file.path, model, file.runtime, file.precision, threads, card)
    return shipped_facts(
        model / get_runtime(file.runtime).file_name(STEM),
        file.runtime,
        file.precision,
        threads,
        files=hashes,
        size_bytes=_size(file, threads, card),
    )


def _size(file: QuantizedFile, threads: int, card: FileCard) -> int:
    return shipped_bytes(get_runtime(file.runtime), file.path, file.precision, threads, card)
