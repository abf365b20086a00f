"""What is looked at while a training runs: progress, the loss, the clock, its learning curves."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from pocketvision.progress import Advance
from pocketvision.record.run import Epoch
from pocketvision.storage import write_into
from pocketvision.train.alarms import Diverged
from pocketvision.train.module import TaskModule
from pocketvision.train.quiet import hush
from pocketvision.train.schedule import epochs_in_all

METRICS = "metrics.csv"
LOOK_EVERY = 50  # steps
SPARE = 0.05  # of the time until the deadline; a training that grows leaves it


class Watch(Callback):
    """Progress after every step, a CSV line after every epoch, the deadline, and NaN.

    most_epochs: to which a training that has time left may grow. resumes: from a checkpoint, behind
    which there may be no step left to make.
    """

    def __init__(
        self,
        metrics: Path,
        epochs: int,
        on_step: Advance | None,
        deadline: float | None,
        *,
        most_epochs: int,
        resumes: bool,
    ) -> None:
        self.metrics = metrics
        self.epochs = epochs
        self.on_step = on_step
        self.deadline = deadline
        self.most_epochs = most_epochs
        self.note = ""
        self.made_no_step = resumes

    def __getstate__(self) -> dict[str, Any]:
        # Other processes cannot reach the caller's display; metrics.csv still grows.
        return {**self.__dict__, "on_step": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        hush()  # in the other process, which is all training
        self.__dict__.update(state)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = [e for e in read_metrics(self.metrics) if e.epoch <= trainer.current_epoch]
        if trainer.is_global_zero:
            write_metrics(self.metrics, done)
        self.seconds = done[-1].seconds if done else 0.0
        self.start = time.monotonic() - self.seconds
        assert isinstance(pl_module, TaskModule)
        if trainer.world_size > 1 and pl_module.config.threads:  # other processes have their own
            torch.set_num_threads(max(1, pl_module.config.threads // trainer.num_devices))
        # A resumed training keeps the end it had been moved to.
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

        The learning rate then still reaches zero. Where it becomes faster again, the end goes back
        to where it was planned, or on to `most_epochs` as far as the time that was planned allows.
        Returns the epochs there will be.
        """
        now = int(trainer.max_epochs or self.epochs)
        if self.deadline is None or trainer.world_size > 1:  # ranks might come to other ends
            return now
        left_s = self.deadline - time.monotonic()
        epoch_s = line.seconds - self.seconds
        self.seconds = line.seconds
        spare_s = SPARE * (self.deadline - self.start)
        epochs = max(
            epochs_in_all(line.epoch, self.epochs, epoch_s, left_s),
            epochs_in_all(line.epoch, self.most_epochs, epoch_s, left_s - spare_s),
        )
        if line.epoch < now and line.epoch < epochs != now:
            steps = epochs * int(trainer.num_training_batches)
            module.schedule = module.schedule.ending_at(steps, trainer.global_step)
            trainer.fit_loop.max_epochs = epochs
            return epochs
        return now


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


def write_metrics(path: Path, epochs: list[Epoch]) -> None:
    """The learning curves as CSV, one line an epoch."""
    names = list(Epoch.__dataclass_fields__)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([getattr(e, name) for name in names] for e in epochs)
    write_into(path, text.getvalue())
