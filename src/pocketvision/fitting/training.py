"""Choose what can be trained in the time, freeze its configuration, and train it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketvision.data.cache import pixel_store
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.fitting import forecast
from pocketvision.fitting.artefact import TRAINING
from pocketvision.fitting.candidates import Candidate, as_candidate
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.fine_tuning import start_from
from pocketvision.fitting.forecast import Workload
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.weights import load as load_network
from pocketvision.models.weights import save as save_network
from pocketvision.record import Step
from pocketvision.train.batches import PixelSource
from pocketvision.train.config import TrainConfig
from pocketvision.train.trainer import CHECKPOINT, TrainResult, faster_threads, train

FINE_TUNING_RATE = 1e-3  # trained weights are kept from being washed out


def preprocessing_for(run: Run, spec: ArchSpec) -> Preprocessing:
    """How images reach a network of this resolution, given how large they are."""
    shorter = int(np.median(run.samples.shorter_sides))
    return Preprocessing.for_resolution(spec.resolution, shorter)


def workload_of(run: Run, resolution: int | None = None) -> Workload:
    """The images each phase will see; without a resolution, at the largest of the ranking."""
    samples = run.samples
    largest = max((spec.resolution for spec in run.state.ranking), default=0)
    return Workload(
        train=len(samples.indices("train")),
        val=len(samples.indices("val")),
        headline=len(samples.indices(samples.headline_split)),
        runtimes=len(run.runtimes),
        resolution=resolution or largest,
        batch_size=run.config.batch_size,
        fine_tuning=run.config.weights is not None,
    )


def base_config(config: FitConfig) -> TrainConfig:
    """The training as asked for, before the number of epochs is known."""
    epochs = forecast.DEFAULT_EPOCHS if config.epochs is None else config.epochs
    rate = FINE_TUNING_RATE if config.weights is not None else TrainConfig().learning_rate
    return TrainConfig(
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=rate if config.learning_rate is None else config.learning_rate,
        augmentation=config.augmentation,
        class_weights=config.class_weights,
        accelerator=config.accelerator,
        devices=config.devices,
        tensorboard=config.tensorboard,
        seed=config.seed,
        warmup_epochs=warmup(epochs),
    )


def settle(run: Run, attempt: int) -> int:
    """The best-ranked network, from position `attempt` on, that the time left can train.

    Raises: BudgetError: the time is too short for any.
    """
    remaining = run.clock.remaining_s
    if remaining is None or run.config.epochs is not None:
        return attempt
    work = workload_of(run)
    candidates = [as_candidate(spec) for spec in run.state.ranking[attempt:]]
    config = base_config(run.config)

    def probe(candidate: Candidate) -> float:
        network = candidate.spec.build(seed=run.config.seed)
        return faster_threads(network, preprocessing_for(run, candidate.spec), config)[1]

    with run.reporter.progress("Timing training steps"):
        available_s = remaining - work.finish_s - work.decode_s
        skipped = forecast.first_trainable(candidates, work, available_s, probe)
    if skipped:
        run.reporter.say(
            f"{candidates[0].spec.label} ranks first but would get fewer than "
            f"{work.min_epochs} epochs in the time; training {candidates[skipped].spec.label}."
        )
    return attempt + skipped


def run_training(run: Run) -> Network:
    """Train the current network, or go on with its training; it is saved in the output folder.

    Raises: GateError: the loss became NaN or infinite.
    """
    spec = run.spec
    preprocessing = preprocessing_for(run, spec)
    if run.state.trained:
        return load_network(run.out)[0]
    with run.reporter.progress("Decoding images") as advance:
        store = pixel_store(
            run.samples, preprocessing.side, lambda done, total: advance(done, total, "")
        )
    network = spec.build(seed=run.config.seed)
    start = start_from(run.config.weights, network, Silent())  # said when the run began
    if run.state.train is None:
        run.save(replace(run.state, train=_freeze(run, network, preprocessing), start=start))
    with stopwatch() as seconds:
        result = _train(run, network, preprocessing, store)
    save_network(network, run.out, classes=run.samples.classes, preprocessing=preprocessing)
    last = result.epochs[-1] if result.epochs else None
    step = Step(
        name="train",
        seconds=last.seconds if last else seconds[0],
        top1=last.val_top1 if last else None,
        note=_training_note(run, result),
    )
    run.save(replace(run.state, trained=True, steps=(*run.state.steps, step)))
    (run.out / TRAINING / CHECKPOINT).unlink(missing_ok=True)
    return network


def _freeze(run: Run, network: Network, preprocessing: Preprocessing) -> TrainConfig:
    config = base_config(run.config)
    remaining = run.clock.remaining_s
    if remaining is None or run.config.epochs is not None:
        return config
    work = workload_of(run)
    config, rate = faster_threads(network, preprocessing, config)
    epochs = forecast.affordable_epochs(work, rate, remaining - work.finish_s)
    epochs = max(1, min(epochs, forecast.MAX_EPOCHS))
    return replace(config, epochs=epochs, warmup_epochs=warmup(epochs))


def warmup(epochs: int) -> float:
    """Epochs over which the learning rate rises: two, or a quarter of a short training."""
    return min(2.0, epochs / 4)


def _train(
    run: Run, network: Network, preprocessing: Preprocessing, store: np.memmap
) -> TrainResult:
    config = run.state.train
    assert config is not None
    side = preprocessing.side
    sources = {
        split: PixelSource(
            store=Path(str(store.filename)),
            rows=len(store),
            side=side,
            indices=run.samples.indices(split),
            labels=run.samples.labels[run.samples.indices(split)],
        )
        for split in ("train", "val")
    }
    run.reporter.say(
        f"Training {network.spec.label} {run.state.start}, {config.epochs} epochs of "
        f"{len(sources['train'])} images."
    )
    with run.reporter.progress("Training") as advance:
        return train(
            network,
            train=sources["train"],
            val=sources["val"],
            preprocessing=preprocessing,
            config=config,
            folder=run.out / TRAINING,
            on_step=advance,
            deadline=run.clock.deadline(workload_of(run).finish_s),
        )


def _training_note(run: Run, result: TrainResult) -> str:
    config = run.state.train
    assert config is not None
    made = f"{len(result.epochs)} of {config.epochs} epochs"
    note = f"{run.spec.label}, {made}, {run.state.start}"
    return f"{note}; shortened to keep the time" if result.stopped_early else note


def forget_training(run: Run, attempt: int) -> None:
    """Remove what belongs to the network that was given up, and move to another."""
    shutil.rmtree(run.out / TRAINING, ignore_errors=True)
    run.save(replace(run.state, attempt=attempt, train=None, trained=False))
