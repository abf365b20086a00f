"""Everything a training depends on, frozen and saved beside its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from pocketvision.data.transforms import Augmentation
from pocketvision.errors import choice, in_range

OPTIMIZERS = ("adamw", "sgd", "rmsprop")
PRECISIONS = ("auto", "f32", "bf16")
Accelerator = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training, except for the network, the images and their classes.

    The learning rate rises linearly over `warmup_epochs`, then falls to zero along a cosine. The
    batch order and the augmentation depend on (seed, epoch, step) alone.

    Raises: ConfigError: a field outside its range.
    """

    epochs: int = 40
    batch_size: int = 64  # over all devices
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 3e-3  # at the top of the schedule
    weight_decay: float = 0.02  # on convolution and linear weights, but not on depthwise filters
    warmup_epochs: float = 2.0
    gradient_clip: float = 5.0  # largest norm of a step's gradient
    label_smoothing: float = 0.1
    ema_decay: float = 0.999  # 0: no averaging; warmed up as (1 + n) / (10 + n)
    class_weights: bool = False  # losses weighted by inverse class frequency
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Literal["auto", "f32", "bf16"] = "auto"  # auto: bf16 on CUDA, else f32
    accelerator: Accelerator = "auto"
    threads: int = 0  # of the CPU; 0: as many as PyTorch takes by itself
    devices: int = 1  # of each node
    nodes: int = 1
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("epochs", self.epochs, 1, 100_000)
        in_range("batch_size", self.batch_size, 2, 65_536)
        choice("optimizer", self.optimizer, OPTIMIZERS)
        in_range("learning_rate", self.learning_rate, 1e-8, 100.0)
        in_range("weight_decay", self.weight_decay, 0.0, 1.0)
        in_range("warmup_epochs", self.warmup_epochs, 0.0, self.epochs)
        in_range("gradient_clip", self.gradient_clip, 1e-6, 1e6)
        in_range("label_smoothing", self.label_smoothing, 0.0, 0.9)
        in_range("ema_decay", self.ema_decay, 0.0, 0.999999)
        choice("precision", self.precision, PRECISIONS)
        choice("accelerator", self.accelerator, get_args(Accelerator))
        in_range("threads", self.threads, 0, 4096)
        in_range("devices", self.devices, 1, 1024)
        in_range("nodes", self.nodes, 1, 4096)
        in_range("seed", self.seed, 0, 2**31 - 1)
