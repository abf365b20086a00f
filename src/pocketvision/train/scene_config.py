"""Everything the training of a patch classifier on a scene depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pocketvision.errors import choice, in_range

Training = Literal["dense", "patches"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneTrainConfig:
    """One training on a scene, except for the network and the pixels.

    training: "dense" learns from all training pixels of a few crops at once, "patches" from one
    window for each. crops, side: crops of a dense step, and their output's side in pixels.
    batch_size: windows of a patch-wise step. The learning rate rises linearly over `warmup_steps`
    and falls to zero along a cosine over the whole training. Batches and dropout depend on
    (seed, step) alone.

    Raises: ConfigError: a field outside its range.
    """

    training: Training = "dense"
    steps: int = 3000
    crops: int = 4
    side: int = 24
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float = 5.0
    precision: Literal["auto", "f32", "bf16"] = "auto"  # auto: the faster here, timed
    threads: int = 0  # of the CPU; 0: the faster of one and PyTorch's own number, timed
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        choice("training", self.training, get_args(Training))
        in_range("steps", self.steps, 1, 10_000_000)
        in_range("crops", self.crops, 1, 1024)
        in_range("side", self.side, 1, 512)
        in_range("batch_size", self.batch_size, 1, 65_536)
        in_range("learning_rate", self.learning_rate, 1e-8, 10.0)
        in_range("warmup_steps", self.warmup_steps, 0, self.steps)
        in_range("weight_decay", self.weight_decay, 0.0, 1.0)
        in_range("label_smoothing", self.label_smoothing, 0.0, 0.9)
        in_range("gradient_clip", self.gradient_clip, 1e-6, 1e6)
        choice("precision", self.precision, ("auto", "f32", "bf16"))
        in_range("threads", self.threads, 0, 4096)
        choice("accelerator", self.accelerator, ("auto", "cpu", "cuda"))
        in_range("seed", self.seed, 0, 2**31 - 1)
