"""How long a step of a training takes here, timed on a few steps of a copy."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.config import TrainConfig
from pocketvision.train.devices import accelerator, lay_out, precision
from pocketvision.train.module import TaskModule, build_optimizer
from pocketvision.train.threads import cpu_threads


def seconds_per_image(module: TaskModule) -> float:
    """Time one training step takes per image, from a few steps of a copy of `module`.

    They are made on the first images of its training source, as many as a batch has.
    """
    keep_freed_memory()
    config = module.config
    device = torch.device(accelerator(config))
    trial = copy.deepcopy(module).to(device)
    lay_out(trial.network, torch.channels_last)
    trial.train()
    optimizer = build_optimizer(trial.network, config)
    first = np.arange(min(config.batch_size, len(module.train_source)))
    pixels, truth = next(module.train_source.batches([first]))
    pixels = pixels.to(device)
    truth = truth.to(device) if isinstance(truth, Tensor) else truth
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision(config) != "32-true")
    durations: list[float] = []
    with cpu_threads(config.threads):
        while len(durations) < 3 or (sum(durations) < 1.5 and len(durations) < 20):
            start = time.perf_counter()
            with autocast:
                loss = trial.step_loss((pixels, truth), (config.seed, 0, len(durations)))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss.item()
            durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:]) / len(pixels)  # the first step also allocates


def faster_threads(
    make: Callable[[TrainConfig], TaskModule], config: TrainConfig
) -> tuple[TrainConfig, float]:
    """`config` with the faster of one thread and PyTorch's own number, and its seconds per image.

    make: the training to be timed, of a configuration. On a machine that others use too, threads
    that wait for each other can be slower than one.
    """
    rates = {
        threads: seconds_per_image(make(replace(config, threads=threads)))
        for threads in (1, torch.get_num_threads())
    }
    threads = min(rates, key=rates.__getitem__)
    return replace(config, threads=threads), rates[threads]
