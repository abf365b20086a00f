"""Lightning wiring: devices, precision, EMA, checkpoints, logs, progress and the deadline."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import io
import logging
import math
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError, require
from pocketvision.models.arch import Network
from pocketvision.record import Epoch
from pocketvision.storage import write_into
from pocketvision.train.alarms import Diverged
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.batches import PixelSource
from pocketvision.train.checkpoint import SafeCheckpoints, read_training
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.module import TaskModule, batches_per_epoch, build_optimizer
from pocketvision.train.processes import raise_as_here
from pocketvision.train.schedule import affordable_epochs

OnStep = Callable[[int, int, str], None]  # steps done, steps in all, a note

LOOK_EVERY = 50  # steps
CHECKPOINT = "last.ckpt"
METRICS = "metrics.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The learning curves, and whether the deadline ended the training before its last epoch."""

    epochs: tuple[Epoch, ...]
    stopped_early: bool


def train(
    network: Network,
    *,
    train: PixelSource,
    val: PixelSource,
    preprocessing: Preprocessing,
    config: TrainConfig,
    folder: Path,
    teacher: Network | None = None,
    on_step: OnStep | None = None,
    deadline: float | None = None,
) -> TrainResult:
    """Fit `network` in place; afterwards it holds the averaged weights, in eval mode, on the CPU.

    `folder` receives metrics.csv and last.ckpt; a last.ckpt that is already there is continued, to
    the weights an unbroken training has. `deadline` is a `time.monotonic()` value after which no
    further step is made. teacher: in eval mode; its answers are half of what is learned, until the
    network gets as much of val right as it does.

    Raises: Diverged: the loss became NaN, infinite or far too large. ArtefactError: a last.ckpt
    that is not of a training.
    """
    module = Classification(
        network,
        train=train,
        val=val,
        preprocessing=preprocessing,
        config=config,
        teacher=None if teacher is None else teacher.requires_grad_(False),
    )
    return fit(module, folder=folder, on_step=on_step, deadline=deadline)


def fit(
    module: TaskModule,
    *,
    folder: Path,
    on_step: OnStep | None = None,
    deadline: float | None = None,
) -> TrainResult:
    """As `train`, for a module of any task; its network is fitted in place.

    Raises: as `train`.
    """
    network, config = module.network, module.config
    folder.mkdir(exist_ok=True)
    watch = _Watch(folder / METRICS, config.epochs, on_step, deadline)
    _run(module, folder, watch)
    if watch.made_no_step:  # all epochs were made before: take the averaged weights they ended with
        module.load_state_dict(read_training(folder / CHECKPOINT)["state_dict"])
    lay_out(network.cpu(), torch.contiguous_format)
    network.eval()
    epochs = read_metrics(folder / METRICS)
    steps = config.epochs * batches_per_epoch(len(module.train_source), config)
    return TrainResult(epochs=epochs, stopped_early=not epochs or epochs[-1].steps < steps)


def join(module: TaskModule, *, folder: Path, deadline: float | None) -> None:
    """Take part, as a node that is not the first, in the training that `fit` runs on that.

    All files are written there, and the trained network is there. folder: as there. deadline: None
    if it is there.

    Raises: as `train`.
    """
    _run(module, folder, _Watch(folder / METRICS, module.config.epochs, None, deadline))


def _run(module: TaskModule, folder: Path, watch: _Watch) -> None:
    config = module.config
    keep_freed_memory()
    lay_out(module.network, torch.channels_last)
    with quiet_lightning():
        trainer = _build_trainer(config, folder, watch)
        resume = folder / CHECKPOINT
        try:
            with cpu_threads(config.threads), torch.random.fork_rng(devices=_cuda_devices(config)):
                trainer.fit(
                    module, ckpt_path=resume if resume.exists() else None, weights_only=True
                )
        except SystemExit as stop:
            if trainer.interrupted:  # Lightning turns Ctrl-C into an exit of its own
                if launcher := trainer.strategy.launcher:
                    # It may have reached this process alone. On SIGTERM a rank would wait for the
                    # others before it ends; Windows has no SIGKILL.
                    launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
                raise KeyboardInterrupt from stop
            raise
        except ProcessException as error:
            raise_as_here(error)


def _cuda_devices(config: TrainConfig) -> list[int]:
    """Those, beside the CPU, whose random state dropout takes over."""
    return list(range(config.devices)) if _accelerator(config) == "cuda" else []


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the network's 4-D tensors in that order, in place."""
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it


def check_devices(config: TrainConfig, images: int) -> None:
    """Refuse now what could only fail when the training begins.

    Raises: ConfigError: a device that is not there, or too few images for so many.
    MissingExtraError: TensorBoard is asked for and not installed.
    """
    if _accelerator(config) == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found < config.devices:
            raise ConfigError(
                f"device=cuda with devices={config.devices}, but {found} CUDA devices are in "
                "reach; ask for fewer, or for --device cpu."
            )
    world = config.devices * config.nodes
    if images < 2 * world:
        raise ConfigError(
            f"devices={world} need at least {2 * world} training images; there are {images}."
        )
    if config.tensorboard:
        require("tensorboard", "tensorboard")


def seconds_per_image(module: TaskModule) -> float:
    """Time one training step takes per image, from a few steps of a copy of `module`.

    They are made on the first images of its training source, as many as a batch has.
    """
    keep_freed_memory()
    config = module.config
    device = torch.device(_accelerator(config))
    trial = copy.deepcopy(module).to(device)
    lay_out(trial.network, torch.channels_last)
    trial.train()
    optimizer = build_optimizer(trial.network, config)
    first = np.arange(min(config.batch_size, len(module.train_source)))
    pixels, truth = next(module.train_source.batches([first]))
    pixels = pixels.to(device)
    truth = truth.to(device) if isinstance(truth, Tensor) else truth
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_precision(config) != "32-true")
    durations: list[float] = []
    with cpu_threads(config.threads):
        while len(durations) < 3 or (sum(durations) < 1.5 and len(durations) < 20):
            start = time.perf_counter()
            with autocast:
                loss = trial.step_loss((pixels, truth), (config.seed, 0, len(durations)))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss.item()
            durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:]) / len(pixels)  # the first step also allocates


def faster_threads(
    make: Callable[[TrainConfig], TaskModule], config: TrainConfig
) -> tuple[TrainConfig, float]:
    """`config` with the faster of one thread and PyTorch's own number, and its seconds per image.

    make: the training to be timed, of a configuration. On a machine that others use too, threads
    that wait for each other can be slower than one.
    """
    rates = {
        threads: seconds_per_image(make(replace(config, threads=threads)))
        for threads in (1, torch.get_num_threads())
    }
    threads = min(rates, key=rates.__getitem__)
    return replace(config, threads=threads), rates[threads]


def as_run_here(config: TrainConfig) -> TrainConfig:
    """`config` with the device and the threads that "auto" and 0 stand for here and now.

    They change with the machine and its environment, and with them the bits of the weights.
    """
    return replace(
        config,
        accelerator="cuda" if _accelerator(config) == "cuda" else "cpu",
        threads=config.threads or torch.get_num_threads(),
    )


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """PyTorch on that many CPU threads; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_metrics(path: Path) -> tuple[Epoch, ...]:
    """The learning curves written so far; empty where the file is absent."""
    if not path.exists():
        return ()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Epoch(
            epoch=int(row["epoch"]),
            steps=int(row["steps"]),
            seconds=float(row["seconds"]),
            learning_rate=float(row["learning_rate"]),
            train_loss=float(row["train_loss"]),
            val_loss=float(row["val_loss"]),
            val_score=float(row.get("val_score") or row["val_top1"]),  # its name before
        )
        for row in rows
    )


class EmaWithWarmup(WeightAveraging):
    """Averages weights and batch-norm statistics; decay rises as (1 + n) / (10 + n) to its limit.

    Without the warm-up, short trainings would be judged by their random initial weights.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=functools.partial(update_average, decay))


def update_average(
    decay: float, averaged: list[Tensor], current: list[Tensor], count: Tensor | int
) -> None:
    """Move `averaged` towards `current` in place; `count` updates came before this one."""
    n = int(count)
    if torch.is_floating_point(averaged[0]):
        torch._foreach_lerp_(averaged, current, 1.0 - min(decay, (1 + n) / (10 + n)))
    else:
        torch._foreach_copy_(averaged, current)


class _Watch(Callback):
    """Progress after every step, a CSV line after every epoch, the deadline, and NaN."""

    def __init__(
        self, metrics: Path, epochs: int, on_step: OnStep | None, deadline: float | None
    ) -> None:
        self.metrics = metrics
        self.epochs = epochs
        self.on_step = on_step
        self.deadline = deadline
        self.note = ""
        self.made_no_step = metrics.with_name(CHECKPOINT).exists()

    def __getstate__(self) -> dict[str, Any]:
        # Other processes cannot reach the caller's display; metrics.csv still grows.
        return {**self.__dict__, "on_step": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _hush(_loggers())  # in the other process, which is all training
        self.__dict__.update(state)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = [e for e in read_metrics(self.metrics) if e.epoch <= trainer.current_epoch]
        if trainer.is_global_zero:
            write_metrics(self.metrics, done)
        self.start = time.monotonic() - (done[-1].seconds if done else 0.0)
        assert isinstance(pl_module, TaskModule)
        if trainer.world_size > 1 and pl_module.config.threads:  # other processes have their own
            torch.set_num_threads(max(1, pl_module.config.threads // trainer.num_devices))
        # A resumed training keeps the end it had been brought forward to.
        trainer.fit_loop.max_epochs = pl_module.schedule.steps // int(trainer.num_training_batches)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        self.made_no_step = False
        loss = outputs["loss"]
        # Reading a loss back stalls a GPU, so there it is looked at now and then.
        if trainer.global_step % LOOK_EVERY == 0 or loss.device.type == "cpu":
            assert isinstance(pl_module, TaskModule)
            self._check_loss(trainer, pl_module, loss.item())
        if self.on_step is not None:
            steps = int(trainer.num_training_batches) * int(trainer.max_epochs or self.epochs)
            self.on_step(trainer.global_step, steps, self.note)
        if self.deadline is not None:
            late = time.monotonic() > self.deadline
            # All ranks stop after the same step, or they would wait for each other forever.
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(late, all=False)

    def _check_loss(self, trainer: pl.Trainer, module: TaskModule, loss: float) -> None:
        """Raises: Diverged: on every node if on one; the others would wait for it forever."""
        found: Diverged | None = None
        try:
            module.check_loss(loss, f"at step {trainer.global_step}")
        except Diverged as error:
            found = error
        if trainer.num_nodes > 1:
            decide = trainer.strategy.reduce_boolean_decision
            if decide(found is not None, all=False) and found is None:
                found = Diverged(f"The training loss diverged at step {trainer.global_step}.")
        if found is not None:
            raise found

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if isinstance(v, Tensor)}
        if "val_loss" not in values:  # the deadline came within the first epoch
            return
        assert isinstance(pl_module, TaskModule)
        epoch = trainer.current_epoch + 1
        # Before the checkpoint is written: the last one is always of a training that is well.
        pl_module.check_loss(values["train_loss"], f"in epoch {epoch}")
        if not math.isfinite(values["val_loss"]):
            raise Diverged(f"The loss on val became {values['val_loss']} after {epoch} epochs.")
        line = Epoch(
            epoch=epoch,
            steps=trainer.global_step,
            seconds=round(time.monotonic() - self.start, 3),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            train_loss=values["train_loss"],
            val_loss=values["val_loss"],
            val_score=values["val_score"],
        )
        pl_module.leave_teacher(line.val_score)
        if trainer.is_global_zero:
            write_metrics(self.metrics, [*read_metrics(self.metrics), line])
        epochs = self._keep_to_the_time(trainer, pl_module, line)
        score = f"val {pl_module.metric} {line.val_score:.1%}"
        self.note = f"epoch {line.epoch}/{epochs}, {score}"

    def _keep_to_the_time(self, trainer: pl.Trainer, module: TaskModule, line: Epoch) -> int:
        """Bring the end forward where the machine is slower than when the time was planned.

        The learning rate then still reaches zero. Returns the epochs there will be.
        """
        planned = int(trainer.max_epochs or self.epochs)
        if self.deadline is None or trainer.world_size > 1:  # ranks might come to other ends
            return planned
        left_s = self.deadline - time.monotonic()
        epochs = affordable_epochs(line.epoch, planned, line.seconds / line.epoch, left_s)
        if line.epoch < epochs < planned:
            steps = epochs * int(trainer.num_training_batches)
            module.schedule = module.schedule.ending_at(steps, trainer.global_step)
            trainer.fit_loop.max_epochs = epochs
        return epochs


def write_metrics(path: Path, epochs: list[Epoch]) -> None:
    """The learning curves as CSV, one line an epoch."""
    names = list(Epoch.__dataclass_fields__)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([getattr(e, name) for name in names] for e in epochs)
    write_into(path, text.getvalue())


def _build_trainer(config: TrainConfig, folder: Path, watch: _Watch) -> pl.Trainer:
    checkpoint = ModelCheckpoint(
        folder,
        filename=Path(CHECKPOINT).stem,  # one file, written over after every epoch
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[Callback] = [watch, checkpoint]
    if config.ema_decay:
        callbacks.append(EmaWithWarmup(config.ema_decay))
    plugins: list[Any] = [SafeCheckpoints()]
    if config.nodes > 1:  # NODE_RANK, MASTER_ADDR and MASTER_PORT say which one this is
        plugins.append(LightningEnvironment())
    return pl.Trainer(
        accelerator=_accelerator(config),
        devices=config.devices,
        num_nodes=config.nodes,
        # Ranks of this node are started from here, so they do not repeat the whole command.
        strategy="ddp_spawn" if config.devices * config.nodes > 1 else "auto",
        precision=_precision(config),
        max_epochs=config.epochs,
        callbacks=callbacks,
        plugins=plugins,
        logger=_tensorboard(folder) if config.tensorboard else False,
        log_every_n_steps=1,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=config.gradient_clip,
    )


def _tensorboard(folder: Path) -> Any:
    require("tensorboard", "tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard")


def _accelerator(config: TrainConfig) -> str:
    if config.accelerator != "auto":
        return config.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(config: TrainConfig) -> Any:
    if config.precision == "auto":
        return "bf16-mixed" if _accelerator(config) == "cuda" else "32-true"
    return {"f32": "32-true", "bf16": "bf16-mixed"}[config.precision]


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's banner and the advice that does not apply to in-memory batches."""
    loggers = _loggers()
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        _hush(loggers)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]


def _hush(loggers: list[logging.Logger]) -> None:
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*IterableDataset. has .__len__. defined.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="lightning")
