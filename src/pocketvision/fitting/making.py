"""The files of the trained network: exported, and quantized for every runtime."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np

from pocketvision.boxes import TOLD
from pocketvision.data.pixels import centre_crop
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.fitting.artefact import CANDIDATES
from pocketvision.fitting.config import FileState
from pocketvision.fitting.int8_rungs import TRAINED, int8_file
from pocketvision.fitting.plan import chosen_precisions
from pocketvision.fitting.run import Run, stopwatch, with_steps
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.workload import forecast_of
from pocketvision.measure.untrained import build_files
from pocketvision.models.answering import answering
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.run import Step
from pocketvision.record.words import Precision
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.nms import with_selection
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.runtime import Calibration, FileCard, Runtime
from pocketvision.storage import sha256_file

CALIBRATION_IMAGES = 256
# Of images that are seen whole, and at more pixels, fewer do: each has values of many places.
CALIBRATION_PIXELS = CALIBRATION_IMAGES * 192 * 192


def make_files(run: Run, network: AnyNetwork, pixels: Pixels, pre: Preprocessing) -> None:
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
