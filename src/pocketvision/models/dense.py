"""A patch classifier applied to every pixel of a scene at once, with the same numbers.

Windows of neighbouring pixels share nearly all their convolutions. Without padding these do not
depend on the window's place, so they are computed once for the whole map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.errors import ConfigError, check_shape
from pocketvision.models.patch import PatchNetwork

WINDOWS_AT_ONCE = 512  # of heads with attention, which every window needs for itself


class DenseTwin(nn.Module):
    """The fully convolutional form of `network`, sharing its weights.

    Shape:  (N, bands, H, W) float -> (N, num_classes, H - window + 1, W - window + 1) logits.
    Raises: ConfigError: other bands, a side below the window.

    The head's first linear layer becomes a convolution over the whole window, the others 1x1
    ones. A head with attention is applied window by window, to maps that are shared all the same.
    Source: Long et al., Fully Convolutional Networks, section 3.1.
    """

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network
        self.spec = network.spec

    def forward(self, x: Tensor) -> Tensor:
        check_shape("input", x.shape, (None, self.spec.bands, None, None))
        height, width = x.shape[2:]
        if height < self.spec.window or width < self.spec.window:
            raise ConfigError(
                f"input is {height}x{width} pixels; expected at least the window, "
                f"{self.spec.window}x{self.spec.window}: pad the scene by half of it."
            )
        features = self.network.trunk(x)
        if self.network.head.attention is not None:
            return self._window_by_window(features)
        head = self.network.head
        if not head.hidden:
            features = head.dropout(features)
        size = self.spec.head.size
        for linear in (*head.hidden, head.classifier):
            weight = linear.weight.view(linear.out_features, -1, size, size)
            features = F.conv2d(features, weight, linear.bias)
            if linear is not head.classifier:
                features = head.dropout(F.relu(features))
            size = 1
        return features

    def _window_by_window(self, features: Tensor) -> Tensor:
        size = self.spec.head.size
        images, _, height, width = features.shape
        grid = torch.cartesian_prod(
            torch.arange(images), torch.arange(height - size + 1), torch.arange(width - size + 1)
        )
        logits = torch.cat(
            [
                self.network.head(gather_windows(features, places, size))
                for places in torch.split(grid.to(features.device), WINDOWS_AT_ONCE)
            ]
        )
        shape = (images, height - size + 1, width - size + 1, self.spec.num_classes)
        return logits.view(shape).permute(0, 3, 1, 2)


def logits_at(network: PatchNetwork, x: Tensor, places: Tensor) -> Tensor:
    """Logits of some pixels only: the map is shared, the head works where it is asked.

    x: (N, bands, H, W). places: int64 (n, 3): image, row, column of a pixel in the dense output.
    Returns (n, num_classes), equal to those entries of the dense form.
    """
    features = network.trunk(x)
    logits: Tensor = network.head(gather_windows(features, places, network.spec.head.size))
    return logits


def gather_windows(features: Tensor, places: Tensor, size: int) -> Tensor:
    """(N, C, H, W), int64 (n, 3) of image, top row, left column -> (n, C, size, size).

    Raises: ConfigError: a window that reaches beyond the map.
    """
    images, channels, height, width = features.shape
    check_shape("places", places.shape, (None, 3))
    limits = torch.tensor((images, height - size + 1, width - size + 1), device=places.device)
    if bool(((places < 0) | (places >= limits)).any()):
        raise ConfigError(f"places must lie in {limits.tolist()}; some do not.")
    # One row of channels for each pixel: gathering rows, and summing their gradients, is fast.
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    across = torch.arange(size, device=places.device)
    offsets = (across[:, None] * width + across).flatten()
    first = (places[:, 0] * height + places[:, 1]) * width + places[:, 2]
    windows = F.embedding(first[:, None] + offsets, rows)  # (n, size * size, C)
    return windows.transpose(1, 2).reshape(-1, channels, size, size)
