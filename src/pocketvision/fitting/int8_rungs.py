"""The INT8 file of ONNX Runtime in the main job: climbed rung by rung until it passes its gate."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from pocketvision.compress.ladder import Subject, Train, climb
from pocketvision.cpu import cpu
from pocketvision.data.pixels import centre_crop
from pocketvision.data.stream import Pixels
from pocketvision.fitting.artefact import CANDIDATES, TRAINING
from pocketvision.fitting.run import Run
from pocketvision.fitting.workload import finishing_deadline, workload_of
from pocketvision.models.arch import Network
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.files import Quantization
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.runtime import FileCard
from pocketvision.runtimes.runtime import Pixels as PixelArray
from pocketvision.train.batches import training_sources
from pocketvision.train.quantization_aware import QatConfig, train_for_integers
from pocketvision.train.watch import METRICS, read_metrics

QAT_EPOCHS = 5
QAT_COST = 3.0  # of an epoch, beside one of the float training
TRAINED = "trained.onnx"
JUDGED = 5000  # images of val, at even distances


def int8_file(
    run: Run,
    network: AnyNetwork,
    exported: Path,
    card: FileCard,
    calibration: PixelArray,
    pixels: Pixels,
) -> tuple[Path, Quantization]:
    """The INT8 file that passes, or that of the first rung if none does; in candidates/.

    exported: the float file. calibration: pixels of training images; val judges.
    """
    pre, rows = card.preprocessing, run.samples.indices("val")
    rows = rows[np.linspace(0, len(rows) - 1, min(JUDGED, len(rows))).astype(int)]
    subject = Subject(
        float_onnx=exported,
        calibration=calibration,
        judged=np.ascontiguousarray(centre_crop(pixels.take(rows), pre.resolution)),
        judge=run.task.judge(run.samples, rows),
        max_drop_points=run.config.max_drop_points,
        threads=run.config.threads,
    )
    rungs = exported.with_name("rungs")
    climbed = climb(
        subject,
        rungs,
        train=_training(run, network, card, pixels),
        explain=False,
    )
    files = [path for path, rung in climbed.rungs.items() if rung.kind != "float"]
    chosen = climbed.passing if climbed.passing in files else files[0]
    folder = exported.parent / "onnxruntime" / "int8"
    for part in (folder.parent, folder):
        part.mkdir(exist_ok=True)
    os.replace(chosen, folder / "model.onnx")
    shutil.rmtree(rungs)
    return folder / "model.onnx", climbed.quantization(climbed.passing)


def _training(run: Run, network: AnyNetwork, card: FileCard, pixels: Pixels) -> Train | None:
    """Training for integers as a rung; None where there is no time for it, or no such training."""
    if not isinstance(network, Network):
        return None
    left = run.clock.remaining_s
    if left is not None:
        work = workload_of(run, run.spec.resolution)
        if left - work.finish_s < QAT_EPOCHS * QAT_COST * _epoch_seconds(run):
            return None

    train_source, val_source = training_sources(run.samples, pixels)

    def train() -> Path:
        folder = run.out / TRAINING / "integers"
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        learned = train_for_integers(
            network,
            train=train_source,
            val=val_source,
            preprocessing=card.preprocessing,
            config=QatConfig(
                epochs=QAT_EPOCHS,
                augmentation=run.config.augmentation,
                weight_bits=cpu().weight_bits,
                threads=0 if run.state.train is None else run.state.train.threads,
                seed=run.config.seed,
            ),
            folder=folder,
            deadline=finishing_deadline(run),
        )
        path = run.out / CANDIDATES / TRAINED
        export_onnx(learned, path, card)
        shutil.rmtree(folder)  # the file is what it was for
        return path

    return train


def _epoch_seconds(run: Run) -> float:
    """Of one epoch of the float training, by those that were made: the time may have ended it."""
    epochs = read_metrics(run.out / TRAINING / METRICS)
    if not epochs:  # it took longer than all the training did
        return next((s.seconds for s in reversed(run.state.steps) if s.name == "train"), 0.0)
    return epochs[-1].seconds / (epochs[-1].steps / epochs[0].steps)
