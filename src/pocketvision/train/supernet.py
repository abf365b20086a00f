"""Training all members of a search space at once, and judging one of them.

Source: Yu and Huang, Universally Slimmable Networks, section 3: the sandwich rule (in every step
the largest member, the smallest, and a few at random, their gradients summed) and in-place
distillation (labels teach the largest alone; its answers teach the others); batch-norm statistics
are measured anew for every member that is judged.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, augment, resized
from pocketvision.errors import in_range
from pocketvision.models.arch import Network
from pocketvision.models.space import Member
from pocketvision.models.supernet import Supernet
from pocketvision.progress import Advance
from pocketvision.train.alarms import check_loss
from pocketvision.train.batches import PixelSource, epoch_batches, num_batches
from pocketvision.train.brief import calibrate_norms, chances
from pocketvision.train.checkpoint import SafeCheckpoints, read_whole
from pocketvision.train.config import Accelerator, TrainConfig
from pocketvision.train.devices import accelerator, cuda_devices, lay_out, precision
from pocketvision.train.distillation import divergence
from pocketvision.train.module import build_optimizer
from pocketvision.train.schedule import Schedule
from pocketvision.train.threads import cpu_threads
from pocketvision.train.trainer import update_average

CHECKPOINT = "supernet.ckpt"
SAVE_EVERY_S = 30.0
LOOK_EVERY = 20  # steps between looks at the clock
WARMUP_SHARE = 0.05

Draw = Callable[[random.Random], Member]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetConfig:
    """One training of a supernet. members: that learn in a step, the largest and smallest included.
    alone: share of the steps, at the beginning, in which the largest learns alone.

    The learning rate rises over the first steps and falls to zero along a cosine.

    Raises: ConfigError: a field outside its range.
    """

    steps: int
    members: int = 3
    alone: float = 0.3
    batch_size: int = 64
    learning_rate: float = 3e-3
    augmentation: Augmentation = field(default_factory=Augmentation)
    accelerator: Accelerator = "auto"
    threads: int = 0  # of the CPU; 0: as many as PyTorch takes by itself
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("steps", self.steps, 1, 10_000_000)
        in_range("members", self.members, 2, 64)
        in_range("alone", self.alone, 0.0, 1.0)
        self.training()

    def training(self) -> TrainConfig:
        """The fields that are those of any training. Raises: ConfigError: one outside its range."""
        return TrainConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            accelerator=self.accelerator,
            threads=self.threads,
            seed=self.seed,
        )


def train_supernet(
    supernet: Supernet,
    source: PixelSource,
    preprocessing: Preprocessing,
    config: SupernetConfig,
    folder: Path,
    *,
    draw: Draw | None = None,
    on_step: Advance | None = None,
    deadline: float | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> int:
    """Train in place, or go on from the checkpoint in `folder`; returns the steps made.

    folder: must exist.

    The weights are then the averages over the training, in eval mode and on the CPU. Members are
    drawn with random numbers that depend on (seed, step) alone, and so do batches: an interrupted
    training comes to the same.

    preprocessing: of the largest resolution of the space; members of smaller ones see the same
    images reduced. draw: how random members are drawn; None: evenly. deadline: `time.monotonic()`
    before which the last step is brought forward to be. say: is told of a damaged checkpoint.

    Raises: Diverged: the loss became NaN, infinite or far too large.
    """
    usual = config.training()
    supernet.to(accelerator(usual))
    lay_out(supernet, torch.channels_last)
    training = _Training(
        supernet=supernet.train(),
        averaged=copy.deepcopy(supernet),
        optimizer=build_optimizer(supernet.largest, usual),
        schedule=Schedule.for_steps(config.steps, warmup=round(WARMUP_SHARE * config.steps)),
        config=config,
        batches=_Batches(source, config),
        preprocessing=preprocessing,
        draw=draw or supernet.space.sample,
    )
    path = folder / CHECKPOINT
    if content := read_whole(path, say):
        training.load(content)
    with cpu_threads(config.threads), torch.random.fork_rng(devices=cuda_devices(usual)):
        _make_steps(training, path, on_step, deadline)
    supernet.load_state_dict(training.averaged.state_dict())
    lay_out(supernet.cpu().eval(), torch.contiguous_format)
    return training.step


@dataclass(kw_only=True)
class _Training:
    """One training; what changes from step to step is kept in the checkpoint."""

    supernet: Supernet
    averaged: Supernet
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    config: SupernetConfig
    batches: _Batches
    preprocessing: Preprocessing
    draw: Draw
    step: int = 0

    def save(self, path: Path) -> None:
        content = {
            "supernet": self.supernet.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": asdict(self.schedule),
            "step": self.step,
        }
        SafeCheckpoints().save_checkpoint(content, path)

    def load(self, content: dict[str, Any]) -> None:
        self.supernet.load_state_dict(content["supernet"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule = Schedule.restored(content["schedule"])
        self.step = content["step"]


class _Batches:
    """The images of each step; they depend on (seed, step) alone."""

    def __init__(self, source: PixelSource, config: SupernetConfig) -> None:
        self.source, self.seed = source, config.seed
        self.per_epoch = num_batches(len(source), config.batch_size)
        self.epoch = -1

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """(n, side, side, 3) uint8 and (n,) int64."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self.order = epoch_batches(len(self.source), self.per_epoch, self.seed, epoch)
            self.epoch = epoch
        positions = np.sort(self.order[place])
        pixels = self.source.pixels.take(self.source.indices[positions])
        return torch.from_numpy(pixels), torch.from_numpy(self.source.labels[positions])


def _make_steps(
    training: _Training, path: Path, on_step: Advance | None, deadline: float | None
) -> None:
    """All steps that are left, with a checkpoint now and then and behind the last."""
    first, begun = training.step, time.monotonic()
    saved = begun
    while training.step < training.schedule.steps:
        loss = _step(training)
        training.step += 1
        now = time.monotonic()
        if deadline is not None and training.step % LOOK_EVERY == 0:
            each_s = (now - begun) / (training.step - first)
            last = training.step + max(1, int((deadline - now) / each_s))
            if last < training.schedule.steps:
                training.schedule = training.schedule.ending_at(last, training.step)
        if now > saved + SAVE_EVERY_S or training.step == training.schedule.steps:
            training.save(path)
            saved = now
        if on_step is not None:
            on_step(training.step, training.schedule.steps, f"loss {loss:.2f}")


def _step(training: _Training) -> float:
    """One step of the sandwich rule; returns the loss of the largest member."""
    supernet, config, step = training.supernet, training.config, training.step
    space, classes = supernet.space, supernet.largest.spec.num_classes
    torch.manual_seed(config.seed * 1_000_003 + step)  # dropout
    usual = config.training()
    device = torch.device(accelerator(usual))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision(usual) != "32-true")
    pixels, labels = (tensor.to(device) for tensor in training.batches.at(step))
    images, targets = augment(
        pixels,
        F.one_hot(labels, classes).float(),
        training.preprocessing,
        config.augmentation,
        key=(config.seed, 0, step),
    )
    for group in training.optimizer.param_groups:
        group["lr"] = config.learning_rate * training.schedule(step)
    training.optimizer.zero_grad()
    with autocast:
        logits = _answers(supernet, images, space.largest())
        loss = F.cross_entropy(logits, targets, label_smoothing=usual.label_smoothing)
    torch.autograd.backward(loss)
    generator = random.Random(f"{config.seed} {step}")
    drawn = [training.draw(generator) for _ in range(config.members - 2)]
    others = (space.smallest(), *drawn) if step >= config.alone * training.schedule.steps else ()
    for member in others:
        with autocast:
            distance = divergence(_answers(supernet, images, member), logits.detach())
        torch.autograd.backward(distance)
    torch.nn.utils.clip_grad_norm_(supernet.parameters(), usual.gradient_clip)
    training.optimizer.step()
    _average(training, usual.ema_decay)
    found = loss.item()
    check_loss(found, classes, 1.0, f"at step {step} of the supernet")
    return found


def _answers(supernet: Supernet, images: Tensor, member: Member) -> Tensor:
    logits: Tensor = supernet(resized(images, member.resolution), member)
    return logits


@torch.no_grad()
def _average(training: _Training, decay: float) -> None:
    ours = [tensor.data for tensor in training.averaged.parameters()]
    theirs = [tensor.data for tensor in training.supernet.parameters()]
    update_average(decay, ours, theirs, training.step)


def calibrated(
    supernet: Supernet, member: Member, source: PixelSource, preprocessing: Preprocessing
) -> Network:
    """The member as a network of its own, its batch norms measured on images of `source`.

    What the shared norms hold is of all members at once: a member that is judged by it is judged
    wrongly.
    """
    network = supernet.extract(member)
    calibrate_norms(network, source, preprocessing)
    return network.eval()


def answers_of(
    supernet: Supernet,
    member: Member,
    source: PixelSource,
    held_out: PixelSource,
    preprocessing: Preprocessing,
    threads: int = 0,
) -> Tensor:
    """(N,) probability of the right class of each image of `held_out`, by the member with norms
    measured on `source`.
    """
    with cpu_threads(threads):
        network = calibrated(supernet, member, source, preprocessing)
    return chances(network, held_out, preprocessing, threads)
