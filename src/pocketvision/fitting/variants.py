"""The trained network as files: built, gated against the float network on val, and timed.

What is known of a file is saved at once, so that a run that goes on never measures it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.boxes import TOLD
from pocketvision.budget import count_of
from pocketvision.data.pixels import centre_crop
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, open_pixels
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import CANDIDATES, altered_files
from pocketvision.fitting.choice import Built, choose_variant, passes
from pocketvision.fitting.config import FileState
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.from_files import network_answers, pixels_of_row
from pocketvision.fitting.int8_rungs import TRAINED, int8_file
from pocketvision.fitting.plan import chosen_precisions, shipped_bytes
from pocketvision.fitting.ranking import fits
from pocketvision.fitting.run import Run, stopwatch, with_steps
from pocketvision.fitting.target_table import left_in_float
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.workload import forecast_of
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.memory import REPEATS, can_measure_memory
from pocketvision.measure.untrained import build_files, noise
from pocketvision.models.answering import answering
from pocketvision.models.networks import AnyNetwork
from pocketvision.progress import counted
from pocketvision.record import Latency, Precision, Step, Variant
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.nms import with_selection
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Calibration, FileCard, Runtime, Session
from pocketvision.storage import sha256_file

CALIBRATION_IMAGES = 256
# Of images that are seen whole, and at more pixels, fewer do: each has values of many places.
CALIBRATION_PIXELS = CALIBRATION_IMAGES * 192 * 192
BATCH = 64
GATE_PROCESSES = 7  # whose highest peak must be within a budget of memory
CHECKED_FILES = 64  # of val, read again from their files


def build_variants(run: Run, network: AnyNetwork) -> list[Built]:
    """Export, quantize, gate and measure the trained network on every runtime x precision.

    Raises: GateError: no file gives numbers, and the run has failed; or image files do not give the
    pixels that were trained on.
    """
    pre = preprocessing_for(run, network.spec)
    pixels = open_pixels(run.samples, pre.side, whole=pre.whole)
    if not _files_as_left(run):
        _make_files(run, network, pixels, pre)
    sessions = {_key(file): _open(run, file) for file in run.state.files}
    _gate(run, network, sessions, pixels, pre)
    _measure(run, network, sessions)
    built = [_built(run, network, file) for file in run.state.files]
    _note_the_best(run, choose_variant(built))
    return built


def card_of(run: Run, network: AnyNetwork) -> FileCard:
    """What the files of the trained network say about themselves."""
    pre = preprocessing_for(run, network.spec)
    return FileCard(
        name=network.spec.label,
        classes=run.samples.classes,
        preprocessing=pre,
        task=run.config.task,
        selects=run.config.nms == "inside",
    )


def forget_latencies(run: Run) -> None:
    """What was measured in too much noise is measured again when the run goes on."""
    files = tuple(replace(file, latency=None) for file in run.state.files)
    run.save(replace(run.state, files=files))


def _key(file: FileState) -> str:
    return f"{file.precision} on {file.runtime}"


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


def _make_files(run: Run, network: AnyNetwork, pixels: Pixels, pre: Preprocessing) -> None:
    """Export and quantize into candidates/; an interrupted attempt begins anew."""
    folder = run.out / CANDIDATES
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with stopwatch() as export_s:
        exported = folder / "float.onnx"
        export_onnx(answering(network), exported, card_of(run, network))
        if run.config.nms == "inside":
            write_model(with_selection(read_model(exported), TOLD), exported)
    size = exported.stat().st_size
    with stopwatch() as quantize_s, run.reporter.progress("Quantizing"):
        calibration = Calibration(pixels=_calibration_pixels(run, pixels, pre))
        found = None
        if _has_int8(run):
            card = card_of(run, network)
            _, found = int8_file(run, network, exported, card, calibration.pixels, pixels)
        files = [
            FileState(
                runtime=runtime.name,
                precision=precision,
                path=path.relative_to(folder).as_posix(),
                hashes={file.name: sha256_file(file) for file in runtime.files(path)},
            )
            for runtime in run.runtimes
            for precision, path in build_files(
                runtime,
                exported,
                folder,
                _formats(run, runtime, size),
                calibration,
            ).items()
        ]
    for left in (exported, folder / TRAINED):
        left.unlink(missing_ok=True)
    made = with_steps(
        run.state,
        Step(
            name="export",
            seconds=export_s[0],
            size_bytes=size,
            forecast_s=forecast_of(run, "export"),
        ),
        Step(name="quantize", seconds=quantize_s[0], forecast_s=forecast_of(run, "quantize")),
    )
    run.save(replace(made, files=tuple(files), quantization=found))


def _formats(run: Run, runtime: Runtime, float_bytes: int) -> tuple[Precision, ...]:
    """What is made for a runtime; w8 too where the float file is larger than the budget."""
    asked, limit = run.config.precisions, run.config.budget.size_bytes
    chosen = chosen_precisions(runtime, asked)
    if asked or limit is None or float_bytes <= limit or "w8" not in runtime.precisions:
        return chosen
    return (*chosen, "w8")


def _has_int8(run: Run) -> bool:
    """True if ONNX Runtime, whose INT8 file is climbed for, is to have one."""
    return any(
        runtime.name == "onnxruntime"
        and "int8" in chosen_precisions(runtime, run.config.precisions)
        for runtime in run.runtimes
    )


def _calibration_pixels(run: Run, pixels: Pixels, pre: Preprocessing) -> np.ndarray:
    """Training images, chosen by the seed, as the network sees them at test time."""
    rows = run.samples.indices("train")
    generator = np.random.default_rng(run.config.seed)
    enough = CALIBRATION_PIXELS // pre.resolution**2 if pre.whole else CALIBRATION_IMAGES
    chosen = generator.permutation(rows)[: min(CALIBRATION_IMAGES, enough)]
    return np.ascontiguousarray(centre_crop(pixels.take(np.sort(chosen)), pre.resolution))


def _gate(
    run: Run,
    network: AnyNetwork,
    sessions: dict[str, Session],
    pixels: Pixels,
    pre: Preprocessing,
) -> None:
    """Compare every file with the float network on val; one without numbers is left out.

    Raises: GateError: none is left, or files give other pixels than were trained on.
    """
    if run.did("gate"):
        return
    with stopwatch() as seconds, run.reporter.progress("Comparing with the float network"):
        _check_pixels(run, pixels, pre)
        rows = run.samples.indices("val")
        judge = run.task.judge(run.samples, rows)
        parts = np.array_split(rows, -(-len(rows) // BATCH))
        ungated = [file for file in run.state.files if file.comparison is None]
        reference, *answers = _answers(
            [
                partial(network_answers, network, preprocessing=pre),
                *(sessions[_key(file)].run for file in ungated),
            ],
            pixels.batches(parts),
            pre,
        )
        for file, found_answers in zip(ungated, answers, strict=True):
            name = _key(file)
            try:
                found = judge.compare(
                    found_answers,
                    reference,
                    subject=name,
                    reference_name="float network",
                    split="val",
                )
            except GateError as error:  # one file without numbers does not stop the others
                run.reporter.say(f"Left out: {error}")
                _update(run, file, None)
            else:
                _update(run, file, replace(file, comparison=found))
    if not run.state.files:
        run.save(replace(run.state, status="failed"))
        raise GateError(
            f"No file of {network.spec.label} gives numbers; it cannot be shipped, and the run "
            f"stops. The trained network stays in {run.out}; train another into another --out."
        )
    note = "each file against the float network, on val"
    planned_s = forecast_of(run, "gate")
    run.add_steps(Step(name="gate", seconds=seconds[0], note=note, forecast_s=planned_s))


def _answers(
    predictors: list[Callable[[np.ndarray], np.ndarray]],
    batches: Iterable[np.ndarray],
    pre: Preprocessing,
) -> list[np.ndarray]:
    """(n, ...) answers of each predictor; one batch of pixels is in memory at a time."""
    answers: list[list[np.ndarray]] = [[] for _ in predictors]
    for batch in batches:
        cropped = centre_crop(batch, pre.resolution)
        for predict, found in zip(predictors, answers, strict=True):
            found.append(predict(cropped))
    return [np.concatenate(found) for found in answers]


def _update(run: Run, old: FileState, new: FileState | None) -> None:
    """Save what became known of one file; None: it is left out."""
    files = [new if file == old else file for file in run.state.files]
    run.save(replace(run.state, files=tuple(file for file in files if file is not None)))


def _check_pixels(run: Run, stored: Pixels, pre: Preprocessing) -> None:
    """The gate's numbers hold for image files: some of val are read again and compared.

    Raises: GateError: a file gives other pixels than the cache.
    """
    for row in run.samples.indices("val")[:CHECKED_FILES]:
        pixels = pixels_of_row(run.samples, row, pre)
        if not np.array_equal(pixels, centre_crop(stored.take(np.array([row]))[0], pre.resolution)):
            raise GateError(
                f"{run.samples.where(row)} does not give the pixels it was trained on; if the "
                "images have not changed, remove the cache folder and fit again."
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
                    {_key(f): partial(sessions[_key(f)].run, pixels) for f in run.state.files},
                    FINAL,
                    threads,
                    progress=counted(advance),
                )
            found = {key: judged(latency, seen[0]) for key, latency in latencies.items()}
            timed = tuple(replace(f, latency=found[_key(f)]) for f in run.state.files)
            run.save(replace(run.state, files=timed, conditions=seen[0]))
        for old, new in _peaks(run, network):
            _update(run, old, new)
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
