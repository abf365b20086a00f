"""A network with zeros in the channels that a narrower one lacks: what that has to compute."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pocketvision.models.networks import AnyNetwork
from pocketvision.models.patch import PatchNetwork

AnyKind = TypeVar("AnyKind", bound=AnyNetwork)
LAYERS = (nn.Conv2d, nn.Conv3d, nn.Linear)


@torch.no_grad()
def enlivened(network: AnyKind, seed: int) -> AnyKind:
    """In double precision; no two channels have the same figures, and none is a constant."""
    network.double()
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what was seen
            module.weight.uniform_(0.5, 1.5, generator=random)
            module.bias.normal_(0.3, 0.5, generator=random)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.normal_(0.2, 0.5, generator=random)
    side = network.spec.resolution
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    network.train()(images.double())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var *= torch.empty_like(module.running_var).uniform_(
                0.8, 1.2, generator=random
            )
    network.eval()
    return network


def is_kept(old: Tensor, new: Tensor) -> Tensor:
    """Which entries, or rows, of `old` are in `new`; all are different."""
    if len(old) == len(new):
        return torch.ones(len(old), dtype=torch.bool)
    old, new = (
        old.detach().flatten(1 - (old.dim() == 1)),
        new.detach().flatten(1 - (new.dim() == 1)),
    )
    same = old[:, None] == new[None]
    kept = (same if same.dim() == 2 else same.all(2)).any(1)
    assert kept.sum() == len(new)
    return kept


@torch.no_grad()
def masked_answers(
    old: AnyNetwork | PatchNetwork, new: AnyNetwork | PatchNetwork, x: Tensor
) -> Any:
    """Of `old` with zeros in the channels that `new` lacks, told apart by their figures alone."""
    state, after = {name: t.clone() for name, t in old.state_dict().items()}, new.state_dict()
    for path, module in old.named_modules():
        weight, bias = f"{path}.weight", f"{path}.bias"
        plain = isinstance(module, LAYERS) and not _has_norm(old, path)
        if plain and bias not in state and state[weight].shape[1] != after[weight].shape[1]:
            continue  # rows cannot be compared: the gate of LR-ASPP, of what is masked anyway
        if isinstance(module, nn.BatchNorm2d) or plain:
            name = bias if bias in state and plain else weight
            dropped = ~is_kept(state[name], after[name])
            for tensor in {weight, bias} & {*state}:
                state[tensor][dropped] = 0
    return torch.func.functional_call(old, state, (x,))


def _has_norm(network: nn.Module, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    return name == "conv" and hasattr(network.get_submodule(parent), "norm")
