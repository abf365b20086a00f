"""A short fine-tuning, as NetAdapt makes hundreds of: a plain loop, without epochs or files."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, augment, eval_batch, resized
from pocketvision.errors import in_range
from pocketvision.models.arch import Network
from pocketvision.train.alarms import check_loss
from pocketvision.train.batches import PixelSource
from pocketvision.train.config import TrainConfig
from pocketvision.train.devices import lay_out
from pocketvision.train.distillation import distilled
from pocketvision.train.module import build_optimizer
from pocketvision.train.threads import cpu_threads

SCORED = 256  # images a pass
CALIBRATED, CALIBRATED_AT_ONCE = 256, 64  # images that norms are measured on


@dataclass(frozen=True, kw_only=True, slots=True)
class BriefConfig:
    """A short fine-tuning, but for network and images. The learning rate falls to zero linearly.

    Raises: ConfigError: a field outside its range.
    """

    steps: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    augmentation: Augmentation = field(default_factory=Augmentation)
    threads: int = 0  # of the CPU; 0: as many as PyTorch takes by itself
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("steps", self.steps, 0, 1_000_000)
        self.training()

    def training(self) -> TrainConfig:
        """The fields that the optimizer needs. Raises: ConfigError: one outside its range."""
        return TrainConfig(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            threads=self.threads,
            seed=self.seed,
        )


def fine_tune_briefly(
    network: Network,
    source: PixelSource,
    preprocessing: Preprocessing,
    config: BriefConfig,
    *,
    teacher: Network | None = None,
    key: int = 0,
) -> None:
    """Train `network` in place for a few steps on the CPU, and calibrate its norms.

    It is in eval mode afterwards.

    teacher: in eval mode; its answers are half of what is learned. key: another one gives other
    batches; (seed, key) alone decide on them.

    Raises: Diverged: the loss became NaN, infinite or far too large.
    """
    if config.steps == 0:  # a task that does nothing starts a worker, as benchmarks/workers.py does
        network.eval()
        return
    training, classes = config.training(), network.spec.num_classes
    lay_out(network, torch.channels_last)
    optimizer = build_optimizer(network.train(), training)
    generator = np.random.default_rng((config.seed, key))
    size = min(config.batch_size, len(source))
    rows = [
        np.sort(generator.choice(len(source), size, replace=False)) for _ in range(config.steps)
    ]
    batches = source.pixels.batches([source.indices[positions] for positions in rows])
    with cpu_threads(config.threads), torch.random.fork_rng(devices=[]):
        for step, (positions, pixels) in enumerate(zip(rows, batches, strict=True)):
            torch.manual_seed(config.seed * 1_000_003 + key * 1_009 + step)  # dropout
            labels = torch.from_numpy(source.labels[positions])
            images, targets = augment(
                torch.from_numpy(pixels),
                F.one_hot(labels, classes).float(),
                preprocessing,
                config.augmentation,
                key=(config.seed, key, step),
            )
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - step / config.steps)
            loss = _loss(network, teacher, images, targets, training.label_smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            check_loss(loss.item(), classes, 1.0, f"at step {step} of a short fine-tuning")
        calibrate_norms(network, source, preprocessing)
    lay_out(network.eval(), torch.contiguous_format)


def for_network(images: Tensor, network: Network) -> Tensor:
    """(N, C, H, W) images resized to the input side of the network, where theirs is another."""
    return resized(images, network.spec.resolution)


@torch.no_grad()
def calibrate_norms(network: Network, source: PixelSource, preprocessing: Preprocessing) -> None:
    """Measure the statistics of all batch norms anew, on some images of `source`; in place.

    After a few steps of training, running means still hold much of what was before them: a network
    that knows its classes may answer as if it did not.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    rows = np.linspace(0, len(source) - 1, min(CALIBRATED, len(source))).astype(int)
    for part in np.array_split(rows, max(1, len(rows) // CALIBRATED_AT_ONCE)):
        pixels = torch.from_numpy(source.pixels.take(source.indices[part]))
        network(for_network(eval_batch(pixels, preprocessing), network))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


def _loss(
    network: Network, teacher: Network | None, images: Tensor, targets: Tensor, smoothing: float
) -> Tensor:
    logits = network(images)
    plain = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return plain if teacher is None else distilled(plain, logits, teacher, images)


@torch.inference_mode()
def expected_accuracy(
    network: Network, source: PixelSource, preprocessing: Preprocessing, threads: int = 0
) -> float:
    """Mean probability of the right class, 0..1: the accuracy of one who draws from the softmax.

    On a few hundred images it tells networks apart that their top-1, in steps of one image, does
    not.
    """
    found = []
    with cpu_threads(threads):
        for start in range(0, len(source), SCORED):
            rows = source.indices[start : start + SCORED]
            pixels = torch.from_numpy(source.pixels.take(rows))
            images = for_network(eval_batch(pixels, preprocessing), network)
            labels = torch.from_numpy(source.labels[start : start + SCORED])
            right = network(images).softmax(1).gather(1, labels[:, None])
            found.append(right)
    return float(torch.cat(found).mean())
