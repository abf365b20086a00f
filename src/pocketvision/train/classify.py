"""Classification as a Lightning module: augment, forward, smoothed cross-entropy, top-1."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import augment, eval_batch
from pocketvision.models.arch import Network
from pocketvision.train.alarms import check_loss
from pocketvision.train.batches import Batches, PixelSource, epoch_batches, num_batches
from pocketvision.train.config import TrainConfig
from pocketvision.train.distillation import distilled
from pocketvision.train.schedule import Schedule


class Classification(pl.LightningModule):
    """Trains `network` on `train` and scores it on `val` after every epoch.

    Logs train_loss, val_loss and val_score (0..1) once an epoch. teacher: in eval mode and frozen;
    its answers are half of what is learned, until the network gets as much of val right as it does.
    """

    outgrows_its_teacher = True

    def __init__(
        self,
        network: Network,
        *,
        train: PixelSource,
        val: PixelSource,
        preprocessing: Preprocessing,
        config: TrainConfig,
        teacher: Network | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.teacher = (teacher,)  # not part of what is trained, averaged and saved
        self.teacher_score: float | None = None  # on val; None: not known yet
        self.outgrown = False  # the teacher has nothing left to teach
        self.train_source = train
        self.val_source = val
        self.preprocessing = preprocessing
        self.config = config
        self.num_classes = network.spec.num_classes
        weights = class_weights(train.labels, self.num_classes) if config.class_weights else None
        self.register_buffer("weights", weights, persistent=False)
        per_epoch = batches_per_epoch(len(train), config)
        self.schedule = Schedule.for_steps(
            config.epochs * per_epoch, warmup=round(config.warmup_epochs * per_epoch)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, K) logits."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        pixels, labels = batch
        # Ranks see different images of one step, so each draws its own augmentation.
        step = index * self.trainer.world_size + self.global_rank
        number = self.trainer.global_step * self.trainer.world_size + self.global_rank
        torch.manual_seed(self.config.seed * 1_000_003 + number)  # dropout
        images, targets = augment(
            pixels,
            F.one_hot(labels, self.num_classes).float(),
            self.preprocessing,
            self.config.augmentation,
            key=(self.config.seed, self.current_epoch, step),
        )
        loss = self.batch_loss(images, targets)
        self.log(
            "train_loss",
            loss.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=len(labels),
            sync_dist=True,
        )
        return loss

    def batch_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """What a step makes smaller, of (N, C, H, W) images and (N, K) target probabilities."""
        logits, teacher = self(images), self.teacher[0]
        loss = self.loss(logits, targets)
        if teacher is None or self.outgrown:
            return loss
        return distilled(loss, logits, teacher, images)

    def on_fit_start(self) -> None:
        if (teacher := self.teacher[0]) is not None:
            teacher.to(self.device)
            teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs

    @torch.no_grad()
    def leave_teacher(self, val_score: float) -> None:
        """Learn from labels alone from now on, if the network knows as much as its teacher.

        val_score: of the network, 0..1.
        """
        if (teacher := self.teacher[0]) is None or self.outgrown or not self.outgrows_its_teacher:
            return
        if self.teacher_score is None:
            right = 0
            for pixels, labels in self.val_dataloader():
                images = eval_batch(pixels.to(self.device), self.preprocessing)
                right += int((teacher(images).argmax(1).cpu() == labels).sum())
            self.teacher_score = right / len(self.val_source)
        self.outgrown = val_score >= self.teacher_score

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean smoothed cross-entropy of (N, K) logits and (N, K) target probabilities."""
        weight = self.weights if isinstance(self.weights, Tensor) else None
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits.float(), targets, weight=weight, label_smoothing=smoothing)

    def check_loss(self, loss: float, where: str) -> None:
        """Raises: Diverged: a mean `loss` of training that cannot be right."""
        heaviest = self.weights.max().item() if isinstance(self.weights, Tensor) else 1.0
        check_loss(loss, self.num_classes, heaviest, where)

    def on_train_start(self) -> None:
        """The learning rate is that of `config`, also where a checkpoint brought another."""
        rates = self.lr_schedulers()
        assert isinstance(rates, LambdaLR)
        rates.base_lrs = [self.config.learning_rate] * len(rates.base_lrs)
        factor = self.schedule(rates.last_epoch)
        for group in rates.optimizer.param_groups:
            group["initial_lr"] = self.config.learning_rate
            group["lr"] = self.config.learning_rate * factor

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        pixels, labels = batch
        logits = self(eval_batch(pixels, self.preprocessing)).float()
        top1 = (logits.argmax(1) == labels).float().mean()
        for name, value in (("val_loss", F.cross_entropy(logits, labels)), ("val_score", top1)):
            self.log(name, value, on_epoch=True, batch_size=len(labels), sync_dist=True)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        images = len(self.train_source)
        count = batches_per_epoch(images, self.config)
        batches = epoch_batches(images, count, self.config.seed, self.current_epoch)
        rank, world = self.global_rank, self.trainer.world_size
        return _loader(
            Batches(self.train_source, [np.array_split(b, world)[rank] for b in batches])
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
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
        self.schedule = Schedule(**checkpoint["schedule"])
        self.outgrown = checkpoint["outgrown"]


def batches_per_epoch(images: int, config: TrainConfig) -> int:
    """Optimizer steps of one epoch over that many images."""
    return num_batches(images, config.batch_size, config.devices * config.nodes)


def _loader(batches: Batches) -> DataLoader[tuple[Tensor, Tensor]]:
    # Gathering rows of a memory map costs less than a step, so no worker processes.
    return DataLoader(batches, batch_size=None, num_workers=0)


def class_weights(labels: Any, num_classes: int) -> Tensor:
    """Inverse class frequencies, (K,) float, scaled so that the mean over the images is 1."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=num_classes).clamp(min=1)
    return counts.sum() / (counts * len(counts))


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
