"""Fit a patch classifier to the training pixels of a scene.

A plain loop: steps, not epochs, on one device, with checkpoints that continue to equal bits.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.cpu import cpu
from pocketvision.errors import ConfigError, GateError
from pocketvision.models.dense import logits_at
from pocketvision.models.patch import PatchNetwork
from pocketvision.progress import Advance
from pocketvision.scene_record import Curve
from pocketvision.storage import write_into
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.checkpoint import read_whole
from pocketvision.train.crops import (
    CropSampler,
    Sampler,
    SceneBatch,
    SceneSource,
    WindowSampler,
)
from pocketvision.train.distillation import distilled, divergence
from pocketvision.train.scene_config import SceneTrainConfig
from pocketvision.train.threads import cpu_threads

CHECKPOINT = "scene.ckpt"
SAVE_EVERY_S = 20.0
CURVE_POINTS = 60
TRIAL_STEPS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneTraining:
    """What a training was: its curve, its seconds, interrupted parts included, and its steps.

    stopped_early: the deadline came before the last step.
    """

    curves: tuple[Curve, ...]
    seconds: float
    steps: int
    stopped_early: bool


def train_scene(
    network: PatchNetwork,
    source: SceneSource,
    config: SceneTrainConfig,
    folder: Path,
    *,
    teacher: PatchNetwork | None = None,
    on_step: Advance | None = None,
    deadline: float | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> SceneTraining:
    """Train `network` in place; afterwards it is in eval mode on the CPU.

    folder: receives a checkpoint now and then; one that is there already is continued, to the same
    result. say: is told where that one is damaged, and the training begins again. config: with
    threads and precision settled (see `settled`). teacher: what it answers is half of what is
    learned.
    deadline: a `time.monotonic()` by which it ends; the learning rate then follows the clock, and
    `config.steps` are the most that are made.

    Raises: GateError: the loss became NaN or infinite. ConfigError: no such device.
    """
    for part in (folder.parent, folder):  # an output folder that vanished is not made anew
        part.mkdir(exist_ok=True)
    with cpu_threads(config.threads), torch.random.fork_rng(devices=_seeded_devices(config)):
        loop = _Loop(network, source, config, folder, deadline, teacher)
        loop.restore(say)
        loop.run(on_step)
    _put_back(network)
    return SceneTraining(
        curves=tuple(loop.curves),
        seconds=loop.seconds,
        steps=loop.step,
        stopped_early=loop.step < config.steps,
    )


def train_scene_briefly(
    network: PatchNetwork, source: SceneSource, config: SceneTrainConfig, teacher: PatchNetwork
) -> None:
    """Train `network` in place for a few steps, as NetAdapt does; without files.

    Raises: as `train_scene`.
    """
    with cpu_threads(config.threads), torch.random.fork_rng(devices=_seeded_devices(config)):
        _Loop(network, source, config, None, None, teacher).run(None)
    _put_back(network)


def _put_back(network: PatchNetwork) -> None:
    """What is trained lies on the CPU, ready to answer."""
    network.cpu().eval()
    _lay_out(network, torch.contiguous_format, torch.contiguous_format)


def settled(
    network: PatchNetwork,
    source: SceneSource,
    config: SceneTrainConfig,
    teacher: PatchNetwork | None = None,
) -> tuple[SceneTrainConfig, float]:
    """`config` with the fastest threads and precision of this machine, and its seconds per step.

    Timed on a few steps of a copy, for whatever `config` leaves open.
    """
    device = _device(config)
    threads = {config.threads} if config.threads else {1, torch.get_num_threads()}
    precisions = [config.precision] if config.precision != "auto" else _precisions(device)
    times: dict[SceneTrainConfig, float] = {}
    for count, precision in itertools.product(sorted(threads), precisions):
        choice = replace(config, threads=count, precision=precision)
        times[choice] = _seconds_per_step(network, source, choice, teacher)
    best = min(times, key=times.__getitem__)
    return best, times[best]


def _seconds_per_step(
    network: PatchNetwork,
    source: SceneSource,
    config: SceneTrainConfig,
    teacher: PatchNetwork | None,
) -> float:
    with cpu_threads(config.threads), torch.random.fork_rng(devices=_seeded_devices(config)):
        loop = _Loop(copy.deepcopy(network), source, config, None, None, teacher)
        durations = []
        for _ in range(TRIAL_STEPS):
            start = time.perf_counter()
            loop.advance()
            durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:])  # the first step also allocates


class _Loop:
    """A training in progress."""

    def __init__(
        self,
        network: PatchNetwork,
        source: SceneSource,
        config: SceneTrainConfig,
        folder: Path | None,
        deadline: float | None,
        teacher: PatchNetwork | None,
    ) -> None:
        keep_freed_memory()
        self.config, self.deadline = config, deadline
        self.checkpoint = None if folder is None else folder / CHECKPOINT
        self.device = torch.device(_device(config))
        self.network = network.to(self.device).train()
        self.teacher = None if teacher is None else copy.deepcopy(teacher).to(self.device).eval()
        _lay_out(network, torch.channels_last, torch.channels_last_3d)
        self.sampler = _sampler(source, network.spec.window, config)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.curves: list[Curve] = []
        self.recent: list[tuple[float, float]] = []  # loss, accuracy of each step since the point
        self.step, self.seconds = 0, 0.0
        self.resumed: float | None = None  # on the clock; None until `run`
        self.resumed_at = 0.0  # progress then

    def run(self, on_step: Advance | None) -> None:
        """Step until all steps are made, or the deadline comes; once at least."""
        saved = self.resumed = time.monotonic()
        before_s, self.resumed_at = self.seconds, self.progress()
        points = int(CURVE_POINTS * self.resumed_at)
        while self.step == 0 or self.progress() < 1:
            self.advance()
            self.seconds = before_s + time.monotonic() - self.resumed
            progress = self.progress()
            if int(CURVE_POINTS * progress) > points:
                points = int(CURVE_POINTS * progress)
                self._point()
            if on_step is not None:
                on_step(self.step, max(self.step, round(self.step / progress)), self._note())
            if time.monotonic() - saved > SAVE_EVERY_S:
                self._save()
                saved = time.monotonic()
        if self.recent:
            self._point()
        self._save()

    def progress(self) -> float:
        """Share of the training that is done, by steps; or by the clock, where that is further."""
        by_steps = self.step / self.config.steps
        if self.deadline is None or self.resumed is None:
            return max(by_steps, self.resumed_at)
        span_s = max(self.deadline - self.resumed, 1e-9)
        by_clock = min(1.0, max(0.0, (time.monotonic() - self.resumed) / span_s))
        return max(by_steps, self.resumed_at + (1 - self.resumed_at) * by_clock)

    def advance(self) -> None:
        """One optimizer step. Raises: GateError: the loss is not a number."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # dropout
        batch = self.sampler.draw(self.step)
        rate = self.config.learning_rate * self._rate_factor()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits = self._logits(self.network, batch)
            wanted = self._wanted(batch)
        targets = batch.targets.to(self.device)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.config.label_smoothing)
        if wanted is not None:
            loss = distilled(loss, divergence(logits, wanted))
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        accuracy = (logits.argmax(1) == targets).float().mean()
        self.recent.append((loss.item(), accuracy.item()))
        if not self.recent[-1][0] < float("inf"):
            raise GateError(
                f"The training loss became {loss.item()} at step {self.step}; lower the learning "
                "rate (--learning-rate) or look for broken spectra."
            )

    def _logits(self, network: PatchNetwork, batch: SceneBatch) -> Tensor:
        images = batch.images.to(self.device)
        if batch.places is None:
            logits: Tensor = network(images)
            return logits
        return logits_at(network, images, batch.places.to(self.device))

    @torch.no_grad()
    def _wanted(self, batch: SceneBatch) -> Tensor | None:
        """What the teacher answers, if there is one."""
        return None if self.teacher is None else self._logits(self.teacher, batch)

    def _point(self) -> None:
        losses, accuracies = zip(*self.recent, strict=True)
        self.recent.clear()
        self.curves.append(
            Curve(
                step=self.step,
                seconds=round(self.seconds, 3),
                learning_rate=self.optimizer.param_groups[0]["lr"],
                loss=statistics.fmean(losses),
                accuracy=statistics.fmean(accuracies),
            )
        )

    def _note(self) -> str:
        if not self.curves:
            return ""
        return f"loss {self.curves[-1].loss:.3f}, {self.curves[-1].accuracy:.1%} of training pixels"

    def _rate_factor(self) -> float:
        """0..1: a linear warm-up, and a cosine that ends when the training does."""
        warm = min(1.0, (self.step + 1) / (self.config.warmup_steps + 1))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress())))

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        content = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": self.progress(),
                "curves": [asdict(point) for point in self.curves],
                "recent": self.recent,
                "step": self.step,
                "seconds": self.seconds,
            },
            content,
        )
        write_into(self.checkpoint, content.getvalue())

    def restore(self, say: Callable[[str], None]) -> None:
        """Go on from the checkpoint, if there is a whole one."""
        saved = None if self.checkpoint is None else read_whole(self.checkpoint, say)
        if saved is None:
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.resumed_at = saved["progress"]
        self.curves = [Curve(**point) for point in saved["curves"]]
        self.recent = list(saved["recent"])
        self.step, self.seconds = saved["step"], saved["seconds"]


def _sampler(source: SceneSource, window: int, config: SceneTrainConfig) -> Sampler:
    if config.training == "dense":
        return CropSampler(
            source, window=window, side=config.side, crops=config.crops, seed=config.seed
        )
    return WindowSampler(source, window=window, batch_size=config.batch_size, seed=config.seed)


def _lay_out(network: nn.Module, planes: torch.memory_format, volumes: torch.memory_format) -> None:
    """Store the weights of 2-D and 3-D convolutions in that order, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=planes)
        elif isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=volumes)


def _device(config: SceneTrainConfig) -> str:
    found = torch.cuda.is_available()
    if config.accelerator == "cuda" and not found:
        raise ConfigError("device=cuda, but no CUDA device is in reach; ask for --device cpu.")
    return "cuda" if found and config.accelerator != "cpu" else "cpu"


def _seeded_devices(config: SceneTrainConfig) -> list[int]:
    """Those, beside the CPU, whose random state dropout takes over."""
    return [torch.cuda.current_device()] if _device(config) == "cuda" else []


def _precisions(device: str) -> list[Any]:
    native = device == "cuda" or cpu().has_bf16
    return ["f32", "bf16"] if native else ["f32"]
