"""Choose what can be trained in the time, freeze its configuration, and train it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from pocketvision.budget import format_time
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, open_pixels
from pocketvision.errors import BudgetError, GateError
from pocketvision.fitting import forecast
from pocketvision.fitting.artefact import TRAINING
from pocketvision.fitting.candidates import as_candidate
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.fine_tuning import weights_preprocessing
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.run import Run, saving, stopwatch
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.teaching import teacher_of
from pocketvision.fitting.workload import finishing_deadline, workload_of
from pocketvision.models.networks import AnyNetwork, AnySpec
from pocketvision.models.pretrained import is_published
from pocketvision.models.weights import load
from pocketvision.models.weights import save_into as save_network
from pocketvision.progress import counted
from pocketvision.record.run import Step
from pocketvision.train.alarms import DIVERGED, Diverged, divergence_alarm, lowered_rate
from pocketvision.train.checkpoint import read_whole, there_and_whole
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.devices import as_run_here
from pocketvision.train.pace import faster_threads
from pocketvision.train.trainer import CHECKPOINT, TrainResult, fit

FINE_TUNING_RATE = 1e-3  # trained weights are kept from being washed out


def preprocessing_for(run: Run, spec: AnySpec) -> Preprocessing:
    """How images reach a network of this resolution, given how large they are."""
    usual = run.task.preprocessing(spec.resolution, run.samples.shorter_side)
    known = weights_preprocessing(run.config.weights, spec)
    return replace(usual, mean=known.mean, std=known.std) if known else usual


def base_config(config: FitConfig) -> TrainConfig:
    """The training as asked for, before the number of epochs is known."""
    epochs = forecast.DEFAULT_EPOCHS if config.epochs is None else config.epochs
    rate = FINE_TUNING_RATE if config.weights is not None else TrainConfig().learning_rate
    return TrainConfig(
        epochs=epochs,
        batch_size=config.batch_size or TASKS[config.task].batch_size,
        learning_rate=rate if config.learning_rate is None else config.learning_rate,
        augmentation=config.augmentation,
        class_weights=config.class_weights,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        tensorboard=config.tensorboard,
        seed=config.seed,
        warmup_epochs=warmup(epochs),
    )


def settle(run: Run, attempt: int) -> int:
    """The best-ranked network, from position `attempt` on, that the time left can train.

    Raises: BudgetError: the time is too short for any.
    """
    work = workload_of(run)
    ranking = run.state.ranking[attempt:]
    if run.clock.remaining_s is None or not ranking:
        return attempt
    if run.config.epochs is not None:
        _refuse_hopeless(run, ranking[0])
        return attempt
    candidates = [as_candidate(spec) for spec in ranking]
    with run.reporter.progress("Timing training steps"):
        skipped, epochs = forecast.first_trainable(
            candidates,
            work,
            lambda: (run.clock.remaining_s or 0.0) - work.finish_s - work.decode_s,
            lambda candidate: timed(run, candidate.spec)[1],
        )
    first, chosen = candidates[0].spec.label, candidates[skipped].spec.label
    if skipped:
        run.reporter.say(f"{first} ranks first but trains too slowly; training {chosen}.")
    if epochs < work.min_epochs:
        run.reporter.say(
            f"Only about {epochs} epochs of {chosen} fit the time, {work.min_epochs} are advised: "
            "expect less accuracy than it could have."
        )
    return attempt + skipped


def time_for_another(run: Run) -> bool:
    """True if the time left is at least half of what the network just given up was trained for."""
    remaining = run.clock.remaining_s
    trained = [step.seconds for step in run.state.steps if step.name == "train"]
    reserve = workload_of(run, run.spec.resolution).finish_s
    return remaining is None or remaining - reserve >= trained[-1] / 2


def _refuse_hopeless(run: Run, spec: AnySpec) -> None:
    """Raises: BudgetError: not one of the epochs asked for fits the time."""
    work = workload_of(run, spec.resolution)
    left_s = (run.clock.remaining_s or 0.0) - work.finish_s - work.decode_s
    epoch_s = work.epoch_s(timed(run, spec)[1])
    if epoch_s > left_s:
        needed_s = (run.config.epochs or 1) * epoch_s / forecast.TRAINING_MARGIN
        raise BudgetError(
            f"The time is too short: {format_time(max(left_s, 0))} are left for training, and one "
            f"of the {run.config.epochs} epochs of {spec.label} takes {format_time(epoch_s)}. Ask "
            f"for {format_time(needed_s - left_s)} more; fewer --epochs need less."
        )


def timed(run: Run, spec: AnySpec) -> tuple[TrainConfig, float]:
    """The configuration with the faster number of threads for `spec`, and its seconds per image."""
    if spec not in run.timings:
        network, pre = spec.build(seed=run.config.seed), preprocessing_for(run, spec)
        images = len(run.samples.indices("train"))
        run.timings[spec] = faster_threads(
            lambda config: run.task.rehearsal(network, pre, config, images),
            base_config(run.config),
        )
    return run.timings[spec]


def run_training(run: Run) -> AnyNetwork:
    """Train the current network, or go on with its training; it is saved in the output folder.

    Raises: GateError: the loss became NaN or infinite, twice; the run has failed then.
    """
    if run.state.trained:
        _forget_checkpoint(run)
        return load(run.out)[0]
    preprocessing = preprocessing_for(run, run.spec)
    with run.reporter.progress("Decoding images") as advance:
        pixels = open_pixels(
            run.samples,
            preprocessing.side,
            counted(advance),
            whole=preprocessing.whole,
        )
    with stopwatch() as seconds:
        network, result = _train_on(run, preprocessing, pixels)
    save_network(network, run.out, classes=run.samples.classes, preprocessing=preprocessing)
    last = result.epochs[-1] if result.epochs else None
    step = Step(
        name="train",
        seconds=last.seconds if last else seconds[0],
        score=last.val_score if last else None,
        note=_training_note(run, result),
        forecast_s=run.state.train_forecast_s,
    )
    assert run.state.train is not None
    with run.reporter.progress("Looking at what was learned"):
        found = run.task.examine(network, run.samples, pixels, preprocessing, run.state.train)
    for alarm in found.alarms:
        run.reporter.say(alarm.sentence)
    run.save(
        replace(
            run.state,
            trained=True,
            steps=(*run.state.steps, step),
            alarms=(*run.state.alarms, *found.alarms),
            train_score=found.train_score,
            val_score=found.val_score,
        )
    )
    _forget_checkpoint(run)
    return network


def _forget_checkpoint(run: Run) -> None:
    (run.out / TRAINING / CHECKPOINT).unlink(missing_ok=True)


def _train_on(
    run: Run, preprocessing: Preprocessing, pixels: Pixels
) -> tuple[AnyNetwork, TrainResult]:
    """Train; after a divergence go back to the last checkpoint, once, at a lower learning rate.

    Raises: GateError: it diverged again; the run has failed then.
    """
    while True:
        # Of a file all was said when the run began; published weights are downloaded only now.
        published = run.config.weights is not None and is_published(run.config.weights)
        told = run.reporter if published else Silent()
        network, start = run.task.start(run.spec, run.config, told)
        if run.state.train is None:
            train, seconds = _freeze(run)
            run.save(replace(run.state, train=train, train_forecast_s=seconds, start=start))
        there_and_whole(run.out / TRAINING / CHECKPOINT, run.reporter.say)
        try:
            return network, _train(run, network, preprocessing, pixels)
        except Diverged as error:
            _step_back(run, error)


def _step_back(run: Run, error: Diverged) -> None:
    """Lower the learning rate. Raises: GateError: that was done before."""
    state = run.state
    assert state.train is not None
    rate = state.train.learning_rate
    if any(alarm.code == DIVERGED for alarm in state.alarms):
        run.save(replace(state, status="failed"))
        raise GateError(
            f"{error} It had diverged before, and the learning rate is {rate:.3g} since; the run "
            f"stops. Look for broken images (pocketvision doctor {run.config.data}), or give a "
            "lower --learning-rate and another --out."
        ) from error
    lowered = lowered_rate(rate)
    saved = read_whole(run.out / TRAINING / CHECKPOINT, run.reporter.say)
    epoch = 0 if saved is None else saved["epoch"] + 1
    alarm = divergence_alarm(error, epoch=epoch, rate=rate, lowered=lowered)
    run.reporter.say(alarm.sentence)
    train = replace(state.train, learning_rate=lowered)
    run.save(replace(state, train=train, alarms=(*state.alarms, alarm)))


def _freeze(run: Run) -> tuple[TrainConfig, float | None]:
    """The training, and what it is planned to take, where the time decides its length."""
    remaining = run.clock.remaining_s
    if remaining is None:
        return as_run_here(base_config(run.config)), None
    work = workload_of(run, run.spec.resolution)
    config, rate = timed(run, run.spec)
    if run.config.epochs is not None:
        seconds = round(run.config.epochs * work.epoch_s(rate), 3)
        return as_run_here(base_config(run.config)), seconds
    epochs = forecast.affordable_epochs(work, rate, remaining - work.finish_s)
    epochs = max(1, min(epochs, forecast.MAX_EPOCHS))
    config = replace(config, epochs=epochs, warmup_epochs=warmup(epochs))
    return as_run_here(config), round(epochs * work.epoch_s(rate), 3)


def warmup(epochs: int) -> float:
    """Epochs over which the learning rate rises: two, or a quarter of a short training."""
    return min(2.0, epochs / 4)


def _train(
    run: Run, network: AnyNetwork, preprocessing: Preprocessing, pixels: Pixels
) -> TrainResult:
    config = run.state.train
    assert config is not None
    course = course_of(run, config, preprocessing, pixels)
    run.reporter.say(
        f"Training {network.spec.label} {run.state.start}, {config.epochs} epochs of "
        f"{len(course.train)} images."
    )
    with run.together(), run.reporter.progress("Training") as advance:
        return fit(
            run.task.module(network, run.samples, course),
            folder=run.out / TRAINING,
            on_step=saving(advance, lambda: run.save(run.state)),
            deadline=finishing_deadline(run),
            most_epochs=forecast.MAX_EPOCHS if _may_grow(run) else None,
        )


def _may_grow(run: Run) -> bool:
    """True if steps may become much faster: those under a teacher, which can be outgrown."""
    return run.config.teacher is not None and run.config.epochs is None


def course_of(
    run: Run, config: TrainConfig, preprocessing: Preprocessing, pixels: Pixels
) -> Course[Any]:
    """What the network of a run is trained by. Raises: as `teacher_of`."""
    train, val = run.task.sources(run.samples, pixels, preprocessing)
    return Course(
        train=train,
        val=val,
        preprocessing=preprocessing,
        config=config,
        teacher=teacher_of(run),
    )


def _training_note(run: Run, result: TrainResult) -> str:
    config = run.state.train
    assert config is not None
    made, planned = len(result.epochs), config.epochs
    told = f"{made} epochs, {planned} planned" if made > planned else f"{made} of {planned} epochs"
    note = f"{run.spec.label}, {told}, {run.state.start}"
    return f"{note}; shortened to keep the time" if result.stopped_early else note


def forget_training(run: Run, attempt: int) -> None:
    """Remove what belongs to the network that was given up, and move to another."""
    shutil.rmtree(run.out / TRAINING, ignore_errors=True)
    run.save(
        replace(
            run.state,
            attempt=attempt,
            train=None,
            trained=False,
            alarms=(),
            train_score=None,
            val_score=None,
            files=(),
            quantization=None,
        )
    )
