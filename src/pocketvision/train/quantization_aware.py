"""Quantization-aware training: a trained network learns to be right when it is rounded to INT8.

The float network it was is its teacher. Ranges of the activations are measured afresh before every
epoch, on the same images: the runtime does so with the finished network, so ranges that were
learned would be lost. As the learning rate falls, they come to rest.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, eval_batch
from pocketvision.errors import ConfigError, in_range
from pocketvision.models.arch import Network
from pocketvision.progress import Advance
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import Accelerator, TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.distillation import divergence
from pocketvision.train.fake_quant import FakeQuantized, fake_quantized, fold_norms, strip
from pocketvision.train.threads import cpu_threads
from pocketvision.train.trainer import fit

ANSWERED = 256  # images the teacher labels at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class QatConfig:
    """A fine-tuning for INT8, except for the network and the images.

    The loss is label_share of the cross-entropy with the labels, and the rest the divergence from
    the float network's answers. Batches and augmentation are drawn as in `TrainConfig`.

    Raises: ConfigError: a field outside its range.
    """

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 3e-4  # at the top; of weights, in units of the largest beside them
    label_share: float = 0.25  # 0: the labels are not looked at
    augmentation: Augmentation = field(default_factory=Augmentation)
    ema_decay: float = 0.0  # 0: no averaging; warmed up as (1 + n) / (10 + n)
    weight_bits: int = 8  # 7 where the processor's products of 8 bits saturate
    calibration_images: int = 64  # of train, that ranges are measured on
    accelerator: Accelerator = "auto"
    threads: int = 0  # of the CPU; 0: as many as PyTorch takes by itself
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("label_share", self.label_share, 0, 1)
        in_range("weight_bits", self.weight_bits, 7, 8)
        in_range("calibration_images", self.calibration_images, 1, 65_536)
        self.training()

    def training(self) -> TrainConfig:
        """The same as the trainer takes it. Raises: ConfigError: a field outside its range."""
        return TrainConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            warmup_epochs=min(1.0, self.epochs / 4),
            label_smoothing=0.0,
            ema_decay=self.ema_decay,
            augmentation=self.augmentation,
            precision="f32",  # what is rounded by us is not to be rounded otherwise
            accelerator=self.accelerator,
            threads=self.threads,
            seed=self.seed,
        )


def train_for_integers(
    network: Network,
    *,
    train: PixelSource,
    val: PixelSource,
    preprocessing: Preprocessing,
    config: QatConfig,
    folder: Path,
    on_step: Advance | None = None,
    deadline: float | None = None,
) -> Network:
    """Fine-tune a copy of a trained network so that it can be quantized; returns it in float.

    Its norms are folded, its weights are those that integers stand for, and it is in eval mode on
    the CPU; `network` stays as it is. Quantize it with the ranges "mse", without equalisation and
    correction of biases: that is what was trained for.

    Labels below 0 are absent, in all images of a source or in none: then the float network's
    answers stand for them, and those of `train` are not part of the loss.
    folder, on_step, deadline: as `trainer.fit` has them; a training that was broken off is
    continued to the weights an unbroken one has.
    Raises: ConfigError: some images have labels, some have none. Diverged, ArtefactError: as
    `trainer.fit`.
    """
    teacher = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    share = config.label_share if _is_labelled(train) else 0.0
    pixels = _calibration_pixels(train, config)
    with cpu_threads(config.threads):
        train, val = (_answered(source, teacher, preprocessing) for source in (train, val))
        student = fake_quantized(teacher, pixels, preprocessing, weight_bits=config.weight_bits)
        begin_near(student, teacher, eval_batch(pixels, preprocessing))
    course = Course(
        train=train,
        val=val,
        preprocessing=preprocessing,
        config=config.training(),
        teacher=teacher,
    )
    module = _ForIntegers(student.requires_grad_().train(), course, pixels, share)
    fit(module, folder=folder, on_step=on_step, deadline=deadline)
    return strip(student)


class _ForIntegers(Classification):
    """Trains `student` to answer as its teacher and, for a share of the loss, the labels do.

    pixels: its activations are ranged on.
    """

    outgrows_its_teacher = False  # it is to answer as the float network does

    def __init__(
        self, student: FakeQuantized, course: Course[PixelSource], pixels: Tensor, share: float
    ) -> None:
        # It has a specification, and that is what is asked for.
        super().__init__(cast(Network, student), course)
        self.pixels = pixels
        self.label_share = share

    def on_train_epoch_start(self) -> None:
        student = cast(FakeQuantized, self.network)
        student.calibrate(self.pixels.to(self.device), self.preprocessing)

    def batch_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        logits, teacher = self(images), self.teacher[0]
        assert teacher is not None
        with torch.no_grad():
            wanted = teacher(images)
        loss = (1 - self.label_share) * divergence(logits, wanted)
        if self.label_share > 0:
            loss = loss + self.label_share * self.loss(logits, targets)
        return loss


@torch.no_grad()
def begin_near(student: FakeQuantized, teacher: Network, images: Tensor) -> None:
    """Correct the student's biases where that brings its answers nearer to its teacher's.

    images: (N, C, H, W) float, normalised.
    """
    before, wanted = copy.deepcopy(student.state_dict()), teacher(images)
    distance = divergence(student(images), wanted)
    correct_biases(student, teacher, images)
    if not divergence(student(images), wanted) < distance:
        student.load_state_dict(before)


@torch.no_grad()
def correct_biases(student: FakeQuantized, teacher: Network, images: Tensor) -> None:
    """Shift the student's biases so that every layer has the mean outputs of its teacher's.

    images: (N, C, H, W) float, normalised, on which the means are taken. A layer is corrected with
    those before it; one that is used twice, by its first use.
    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction
    (2019), section 4.2, with measured means in place of assumed ones.
    """
    means: dict[str, Tensor] = {}

    def note(name: str, layer: nn.Module, given: Tensor) -> None:
        means.setdefault(name, _channel_means(given))

    def shift(name: str, layer: nn.Module, given: Tensor) -> Tensor | None:
        if name not in means or not isinstance(layer.bias, Tensor):
            return None
        gap = means.pop(name) - _channel_means(given)
        layer.bias += gap
        return given + gap.view(-1, *[1] * (given.ndim - 2))

    folded = fold_norms(teacher)
    with _hooked(folded, note):
        folded(images)
    with _hooked(student.network, shift):
        student(images)


def _channel_means(given: Tensor) -> Tensor:
    return given.mean((0, *range(2, given.ndim)))


@contextlib.contextmanager
def _hooked(
    network: nn.Module, look: Callable[[str, nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """Let `look` see, or replace, what each layer with weights gives: name, layer, tensor."""
    hooks = [
        layer.register_forward_hook(lambda layer, _, given, own=name: look(own, layer, given))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_labelled(source: PixelSource) -> bool:
    """Raises: ConfigError: some images have labels, some have none."""
    without = int((source.labels < 0).sum())
    if 0 < without < len(source):
        raise ConfigError(
            f"{without} of {len(source)} images have no label (one below 0); give labels to all "
            "of them, or to none."
        )
    return without == 0


def _answered(source: PixelSource, teacher: nn.Module, pre: Preprocessing) -> PixelSource:
    """The source with the teacher's answers where labels are absent."""
    if _is_labelled(source):
        return source
    parts = np.array_split(source.indices, -(-len(source) // ANSWERED))
    answers = []
    with torch.no_grad():
        for pixels in source.pixels.batches(parts):
            logits = teacher(eval_batch(torch.from_numpy(pixels), pre))
            answers.append(logits.argmax(1).numpy())
    return replace(source, labels=np.concatenate(answers))


def _calibration_pixels(source: PixelSource, config: QatConfig) -> Tensor:
    """(n, side, side, 3) uint8: images chosen by the seed."""
    order = np.random.default_rng(config.seed).permutation(source.indices)
    return torch.from_numpy(source.pixels.take(np.sort(order[: config.calibration_images])))
