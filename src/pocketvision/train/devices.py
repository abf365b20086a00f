"""The device that a training runs on, what it computes with there, and how tensors lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pocketvision.errors import ConfigError, require
from pocketvision.train.config import TrainConfig


def accelerator(config: TrainConfig) -> str:
    """What "auto" stands for here: "cuda" or "cpu"; else what was asked for."""
    if config.accelerator != "auto":
        return config.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(config: TrainConfig) -> Any:
    """As Lightning names it."""
    if config.precision == "auto":
        return "bf16-mixed" if accelerator(config) == "cuda" else "32-true"
    return {"f32": "32-true", "bf16": "bf16-mixed"}[config.precision]


def cuda_devices(config: TrainConfig) -> list[int]:
    """Those, beside the CPU, whose random state dropout takes over."""
    return list(range(config.devices)) if accelerator(config) == "cuda" else []


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the network's 4-D tensors in that order, in place."""
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it


def check_devices(config: TrainConfig, images: int) -> None:
    """Refuse now what could only fail when the training begins.

    Raises: ConfigError: a device that is not there, or too few images for so many.
    MissingExtraError: TensorBoard is asked for and not installed.
    """
    if accelerator(config) == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found < config.devices:
            raise ConfigError(
                f"device=cuda with devices={config.devices}, but {found} CUDA devices are in "
                "reach; ask for fewer, or for --device cpu."
            )
    asked = f"devices={config.devices}"
    if config.nodes > 1:
        asked += f" on each of nodes={config.nodes}"
    needed, most = 2 * config.devices * config.nodes, images // 2
    if images < needed:
        fewer = f"ask for {most} in all at most, or add images" if most else "add images"
        raise ConfigError(
            f"{asked} need at least {needed} training images; there are {images}: {fewer}."
        )
    if config.tensorboard:
        require("tensorboard", "tensorboard")


def as_run_here(config: TrainConfig) -> TrainConfig:
    """`config` with the device and the threads that "auto" and 0 stand for here and now.

    They change with the machine and its environment, and with them the bits of the weights.
    """
    return replace(
        config,
        accelerator="cuda" if accelerator(config) == "cuda" else "cpu",
        threads=config.threads or torch.get_num_threads(),
    )
