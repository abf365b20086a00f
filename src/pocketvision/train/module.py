"""What every task trains by: batches, optimizer, schedule, and what is kept in a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from pocketvision.models.networks import AnyNetwork
from pocketvision.record.words import Metric
from pocketvision.train.batches import Batches, Source, epoch_batches, num_batches
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.devices import lay_out
from pocketvision.train.distillation import distilled, divergence
from pocketvision.train.schedule import Schedule

Key = tuple[int, int, int]  # seed, epoch, step: all that chance in a step depends on


class TaskModule(pl.LightningModule, ABC):
    """Trains `network` by `course`, and scores it after every epoch.

    Logs train_loss, val_loss and val_score (0..1, in `metric`) once an epoch.

    divergence: of answers from those of a teacher.
    """

    metric: Metric
    outgrows_its_teacher = True
    divergence: Callable[[Any, Any], Tensor] = staticmethod(divergence)

    def __init__(self, network: AnyNetwork, course: Course[Source]) -> None:
        super().__init__()
        self.network = network
        self.teacher = (course.teacher,)  # not part of what is trained, averaged and saved
        self.teacher_score: float | None = None  # on val; None: not known yet
        self.outgrown = False  # the teacher has nothing left to teach
        self.train_source = course.train
        self.val_source = course.val
        self.preprocessing = course.preprocessing
        self.config = config = course.config
        per_epoch = batches_per_epoch(len(course.train), config)
        self.schedule = Schedule.for_steps(
            config.epochs * per_epoch, warmup=round(config.warmup_epochs * per_epoch)
        )

    @abstractmethod
    def step_loss(self, batch: Any, key: Key) -> Tensor:
        """What a step makes smaller; `batch` is one of the training source."""

    @abstractmethod
    def check_loss(self, loss: float, where: str) -> None:
        """Raises: Diverged: a mean `loss` of training that cannot be right."""

    @abstractmethod
    def score_of(self, network: AnyNetwork) -> float:
        """Of a network in eval mode, on val: 0..1, in `metric`."""

    @abstractmethod
    def expected_score(self) -> float:
        """Of the network, in eval mode and on the CPU, on val: 0..1.

        Like `metric`, but so that small changes of the network move it where few images judge.
        """

    @property
    def taught_by(self) -> AnyNetwork | None:
        """The teacher, as long as it has something to teach."""
        return None if self.outgrown else self.teacher[0]

    def taught(self, loss: Tensor, images: Tensor, answers: Any) -> Tensor:
        """`loss`, half of it exchanged for what the teacher says of the images, if it teaches.

        images: (N, C, H, W) as the network sees them. answers: of the network.
        """
        if (teacher := self.taught_by) is None:
            return loss
        with torch.no_grad():
            wanted = teacher(images)
        return distilled(loss, self.divergence(answers, wanted))

    @torch.no_grad()
    def leave_teacher(self, val_score: float) -> None:
        """Learn from labels alone from now on, if the network knows as much as its teacher.

        val_score: of the network, 0..1.
        """
        if (teacher := self.taught_by) is None or not self.outgrows_its_teacher:
            return
        if self.teacher_score is None:
            self.teacher_score = self.score_of(teacher)
        self.outgrown = val_score >= self.teacher_score

    def on_fit_start(self) -> None:
        if (teacher := self.teacher[0]) is not None:
            lay_out(teacher.to(self.device), torch.channels_last)

    def training_step(self, batch: Any, index: int) -> Tensor:
        # Ranks see different images of one step, so each draws its own augmentation.
        step = index * self.trainer.world_size + self.global_rank
        number = self.trainer.global_step * self.trainer.world_size + self.global_rank
        torch.manual_seed(self.config.seed * 1_000_003 + number)  # dropout
        loss = self.step_loss(batch, (self.config.seed, self.current_epoch, step))
        self.log(
            "train_loss",
            loss.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=len(batch[0]),
            sync_dist=True,
        )
        return loss

    def on_train_start(self) -> None:
        """The learning rate is that of `config`, also where a checkpoint brought another."""
        rates = self.lr_schedulers()
        assert isinstance(rates, LambdaLR)
        rates.base_lrs = [self.config.learning_rate] * len(rates.base_lrs)
        factor = self.schedule(rates.last_epoch)
        for group in rates.optimizer.param_groups:
            group["initial_lr"] = self.config.learning_rate
            group["lr"] = self.config.learning_rate * factor

    def train_dataloader(self) -> DataLoader[Any]:
        images = len(self.train_source)
        count = batches_per_epoch(images, self.config)
        batches = epoch_batches(images, count, self.config.seed, self.current_epoch)
        rank, world = self.global_rank, self.trainer.world_size
        return _loader(
            Batches(self.train_source, [np.array_split(b, world)[rank] for b in batches])
        )

    def val_dataloader(self) -> DataLoader[Any]:
        # Every rank scores all of val: it is small, and no rank is left with an empty batch.
        positions = np.arange(len(self.val_source))
        count = num_batches(len(positions), 2 * self.config.batch_size)
        return _loader(Batches(self.val_source, np.array_split(positions, count)))

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.network, self.config)
        rates = LambdaLR(optimizer, lambda step: self.schedule(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule"] = asdict(self.schedule)
        checkpoint["outgrown"] = self.outgrown

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.schedule = Schedule.restored(checkpoint["schedule"])
        self.outgrown = checkpoint.get("outgrown", False)  # once, classifiers alone had teachers


def batches_per_epoch(images: int, config: TrainConfig) -> int:
    """Optimizer steps of one epoch over that many images."""
    return num_batches(images, config.batch_size, config.devices * config.nodes)


def _loader(batches: Batches) -> DataLoader[Any]:
    # Gathering rows of a memory map costs less than a step, so no worker processes.
    return DataLoader(batches, batch_size=None, num_workers=0)


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of `config`, without weight decay on norms, biases and depthwise filters.

    Source: Howard et al., MobileNets, section 3.2 (little or no decay on depthwise filters).
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in network.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for name, parameter in module.named_parameters(recurse=False):
            keep = name == "weight" and parameter.ndim > 1 and not depthwise
            (decayed if keep else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            groups, lr=config.learning_rate, alpha=0.9, momentum=0.9, eps=1e-3
        )
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
