"""A short fine-tuning, as NetAdapt makes hundreds of: a plain loop, without epochs or files."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import eval_batch, resized
from pocketvision.errors import in_range
from pocketvision.models.arch import Network
from pocketvision.models.networks import AnyNetwork
from pocketvision.train.batches import PixelSource, Source
from pocketvision.train.devices import lay_out
from pocketvision.train.module import TaskModule, build_optimizer
from pocketvision.train.threads import cpu_threads

SCORED = 256  # images a pass
CALIBRATED = 4  # batches that norms are measured on


def fine_tune_briefly(module: TaskModule, steps: int, *, key: int = 0) -> None:
    """Train the network of `module` in place for a few steps on the CPU, and calibrate its norms.

    The learning rate falls to zero linearly. The network is in eval mode afterwards.

    steps: 0 or more. key: another one gives other batches; (seed, key) alone decide on them.

    Raises: ConfigError: steps out of range. Diverged: the loss became NaN, infinite or far too
    large.
    """
    in_range("steps", steps, 0, 1_000_000)
    network, config, source = module.network, module.config, module.train_source
    if steps == 0:  # a task that does nothing starts a worker, as benchmarks/workers.py does
        network.eval()
        return
    lay_out(network, torch.channels_last)
    optimizer = build_optimizer(network.train(), config)
    generator = np.random.default_rng((config.seed, key))
    size = min(config.batch_size, len(source))
    rows = [np.sort(generator.choice(len(source), size, replace=False)) for _ in range(steps)]
    with cpu_threads(config.threads), torch.random.fork_rng(devices=[]):
        for step, batch in enumerate(source.batches(rows)):
            torch.manual_seed(config.seed * 1_000_003 + key * 1_009 + step)  # dropout
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - step / steps)
            loss = module.step_loss(batch, (config.seed, key, step))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            module.check_loss(loss.item(), f"at step {step} of a short fine-tuning")
        calibrate_norms(network, source, module.preprocessing, config.batch_size)
    lay_out(network.eval(), torch.contiguous_format)


def for_network(images: Tensor, network: AnyNetwork) -> Tensor:
    """(N, C, H, W) images resized to the input side of the network, where theirs is another."""
    return resized(images, network.spec.resolution)


@torch.no_grad()
def calibrate_norms(
    network: AnyNetwork, source: Source, preprocessing: Preprocessing, batch_size: int = 64
) -> None:
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
    count = min(CALIBRATED * batch_size, len(source))
    rows = np.linspace(0, len(source) - 1, count).astype(int)
    for pixels, _ in source.batches(np.array_split(rows, max(1, count // batch_size))):
        network(for_network(eval_batch(pixels, preprocessing), network))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


def expected_accuracy(
    network: Network, source: PixelSource, preprocessing: Preprocessing, threads: int = 0
) -> float:
    """Mean probability of the right class, 0..1: the accuracy of one who draws from the softmax.

    On a few hundred images it tells networks apart that their top-1, in steps of one image, does
    not.
    """
    return float(chances(network, source, preprocessing, threads).mean())


@torch.inference_mode()
def chances(
    network: Network, source: PixelSource, preprocessing: Preprocessing, threads: int = 0
) -> Tensor:
    """(N,) probability of the right class, 0..1, of each image."""
    found = []
    with cpu_threads(threads):
        for start in range(0, len(source), SCORED):
            rows = source.indices[start : start + SCORED]
            pixels = torch.from_numpy(source.pixels.take(rows))
            images = for_network(eval_batch(pixels, preprocessing), network)
            labels = torch.from_numpy(source.labels[start : start + SCORED])
            found.append(network(images).softmax(1).gather(1, labels[:, None])[:, 0])
    return torch.cat(found)
