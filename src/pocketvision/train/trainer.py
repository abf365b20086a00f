"""Lightning wiring: what is fitted where, averaged weights, checkpoints and logs."""

from __future__ import annotations

import functools
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException

from pocketvision.errors import require
from pocketvision.progress import Advance
from pocketvision.record.run import Epoch
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.checkpoint import SafeCheckpoints, read_training
from pocketvision.train.config import TrainConfig
from pocketvision.train.devices import accelerator, cuda_devices, lay_out, precision
from pocketvision.train.module import TaskModule, batches_per_epoch
from pocketvision.train.processes import raise_as_here
from pocketvision.train.quiet import quiet_lightning
from pocketvision.train.threads import cpu_threads
from pocketvision.train.watch import METRICS, Watch, read_metrics

CHECKPOINT = "last.ckpt"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The learning curves, and whether the deadline ended the training before its last epoch."""

    epochs: tuple[Epoch, ...]
    stopped_early: bool


def fit(
    module: TaskModule,
    *,
    folder: Path,
    on_step: Advance | None = None,
    deadline: float | None = None,
    most_epochs: int | None = None,
) -> TrainResult:
    """Fit the network of `module`; it then has the averaged weights, in eval mode, on the CPU.

    `folder` receives metrics.csv and last.ckpt; a last.ckpt that is already there is continued, to
    the weights an unbroken training has. `deadline` is a `time.monotonic()` value after which no
    further step is made. most_epochs: what a training whose steps become faster than they were
    planned may have by then; None: no more than planned, so that it can be made again bit for bit.

    Raises: Diverged: the loss became NaN, infinite or far too large. ArtefactError: a last.ckpt
    that is not of a training.
    """
    network, config = module.network, module.config
    folder.mkdir(exist_ok=True)
    watch = _watch(module, folder, on_step, deadline, most_epochs)
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

    Raises: as `fit`.
    """
    _run(module, folder, _watch(module, folder, None, deadline, None))


def _watch(
    module: TaskModule,
    folder: Path,
    on_step: Advance | None,
    deadline: float | None,
    most_epochs: int | None,
) -> Watch:
    return Watch(
        folder / METRICS,
        module.config.epochs,
        on_step,
        deadline,
        most_epochs=most_epochs or module.config.epochs,
        resumes=(folder / CHECKPOINT).exists(),
    )


def _run(module: TaskModule, folder: Path, watch: Watch) -> None:
    config = module.config
    keep_freed_memory()
    lay_out(module.network, torch.channels_last)
    with quiet_lightning():
        trainer = _build_trainer(config, folder, watch)
        resume = folder / CHECKPOINT
        try:
            with cpu_threads(config.threads), torch.random.fork_rng(devices=cuda_devices(config)):
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


def _build_trainer(config: TrainConfig, folder: Path, watch: Watch) -> pl.Trainer:
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
        accelerator=accelerator(config),
        devices=config.devices,
        num_nodes=config.nodes,
        # Ranks of this node are started from here, so they do not repeat the whole command.
        strategy="ddp_spawn" if config.devices * config.nodes > 1 else "auto",
        precision=precision(config),
        max_epochs=watch.most_epochs,  # until it begins: see Watch.on_train_start
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
