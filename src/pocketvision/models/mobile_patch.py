"""A compact patch classifier: MobileNetV2's inverted residuals over band-reduced windows.

It has no paper. It stands beside HybridSN as the comparison that shows what 3-D convolutions buy:
the same window, about a hundredth of the parameters, depthwise convolutions in place of 3-D ones.
Its blocks have no norms: batch statistics of a crop would take in pixels no training window sees.
"""

from __future__ import annotations

from pocketvision.models.patch import PatchHeadSpec, PatchSpec, check_window
from pocketvision.nn.attention import Attention
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec

CHANNELS = 32
EXPANSION = 3
DROPOUT = 0.2


def mobile_patch(
    *, bands: int, window: int = 25, num_classes: int, attention: Attention | None = None
) -> PatchSpec:
    """A 1x1 stem, then 5x5 inverted residuals (a 3x3 one for a remainder) until one pixel is left.

    Raises: ConfigError: a window that is even or out of range.
    """
    check_window(window)
    stem = ConvSpec(c_in=bands, c_out=CHANNELS, kernel=1, act="relu6", norm=None, padding="valid")
    kernels = [5] * ((window - 1) // 4) + [3] * ((window - 1) % 4 // 2)
    blocks = [
        InvertedResidualSpec(
            c_in=CHANNELS,
            c_mid=EXPANSION * CHANNELS,
            c_out=CHANNELS,
            kernel=kernel,
            norm=None,
            padding="valid",
        )
        for kernel in kernels
    ]
    head = PatchHeadSpec(
        c_in=CHANNELS, size=1, num_classes=num_classes, dropout=DROPOUT, attention=attention
    )
    return PatchSpec(
        name="mobile_patch",
        bands=bands,
        window=window,
        volumes=(),
        planes=(stem, *blocks),
        head=head,
    )
