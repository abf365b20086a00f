"""What an exported file for scenes computes, written so that it traces to a plain graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketvision.data.scene.bands import BandReduction
from pocketvision.models.dense import DenseTwin
from pocketvision.models.patch import PatchNetwork
from pocketvision.nn.volume import Volume
from pocketvision.runtimes.export import frozen_copy
from pocketvision.scene_record import Form


class FromSpectra(nn.Module):
    """Raw spectra (N, h, w, B) -> logits: reduction and network, ready to be traced.

    fill: (B,), the reduction's mean in float32. form: dense gives (N, h', w', K), patch (N, K).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(
        self, network: PatchNetwork, fill: Tensor, reduction: BandReduction, form: Form
    ) -> None:
        super().__init__()
        copied = frozen_copy(network)
        if len(copied.volumes):
            copied.volumes = nn.Sequential(SlicedVolumes(copied.volumes))
        self.network = _dense(copied) if form == "dense" else copied
        self.register_buffer("mean", fill)
        self.register_buffer("matrix", torch.from_numpy(reduction.matrix).float().contiguous())
        self.eval()

    def forward(self, spectra: Tensor) -> Tensor:
        reduced = (spectra - self.mean) @ self.matrix  # (N, h, w, n)
        logits: Tensor = self.network(reduced.permute(0, 3, 1, 2))
        return logits if logits.ndim == 2 else logits.permute(0, 2, 3, 1)


def _dense(network: PatchNetwork) -> nn.Module:
    gated = network.spec.head.attention is not None
    return EveryWindow(network) if gated else DenseTwin(network)


class EveryWindow(nn.Module):
    """The dense form of a head with attention, which gates every window by itself.

    The trunk is shared as in `DenseTwin`; then all windows go through the head as one batch.

    Shape: (N, bands, H, W) float -> (N, num_classes, H - window + 1, W - window + 1) logits.
    """

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        size = self.network.spec.head.size
        windows = self.network.trunk(x).unfold(2, size, 1).unfold(3, size, 1)
        windows = windows.permute(0, 2, 3, 1, 4, 5)  # (N, h, w, C, size, size)
        logits: Tensor = self.network.head(windows.flatten(0, 2))
        return logits.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)


class SlicedVolumes(nn.Module):
    """The 3-D convolutions of a trunk as 2-D ones, with the same numbers.

    A 3-D kernel of depth d over D bands is a 2-D kernel over d slices at each of the D - d + 1
    places; slices become channels and places images of a batch. Kernels for integers are fast in
    two dimensions only.

    Shape: (N, 1, bands, H, W) float -> (N, C, bands - s, H - t, W - t).
    """

    def __init__(self, volumes: nn.Sequential) -> None:
        super().__init__()
        self.volumes = nn.Sequential(*(_SlicedVolume(volume) for volume in volumes))

    def forward(self, x: Tensor) -> Tensor:
        # Bands stay before channels from layer to layer: nothing is moved in between.
        slices: Tensor = self.volumes(x.transpose(1, 2))
        return slices.transpose(1, 2)


class _SlicedVolume(nn.Module):
    """Shape: (N, bands, C, H, W) float -> (N, bands - depth + 1, C', H', W')."""

    def __init__(self, volume: nn.Module) -> None:
        super().__init__()
        assert isinstance(volume, Volume)
        weight = volume.conv.weight  # (C', C, depth, kernel, kernel)
        self.depth = weight.shape[2]
        kernel = weight.transpose(1, 2).flatten(1, 2).contiguous()
        self.conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1])
        self.conv.weight = nn.Parameter(kernel, requires_grad=False)
        self.conv.bias = volume.conv.bias
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        places = x.shape[1] - self.depth + 1
        slices = torch.cat([x[:, k : k + places] for k in range(self.depth)], 2)
        maps: Tensor = self.act(self.conv(slices.flatten(0, 1)))
        return maps.view(-1, places, *maps.shape[1:])
