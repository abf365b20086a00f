"""HybridSN: 3-D convolutions over bands and places, then a 2-D one."""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.errors import ConfigError
from pocketvision.models.patch import PatchHeadSpec, PatchSpec, check_window
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.volume import VolumeSpec


class Row(NamedTuple):
    """One 3-D convolution: output channels, kernel over bands, kernel over places."""

    channels: int
    depth: int
    kernel: int


# Roy et al., HybridSN: Exploring 3-D-2-D CNN Feature Hierarchy, Table I.
TABLE_1 = (
    #   c  d  k
    Row(8, 7, 3),
    Row(16, 5, 3),
    Row(32, 3, 3),
)
PLANE_CHANNELS, PLANE_KERNEL = 64, 3
HIDDEN = (256, 128)
DROPOUT = 0.4

SMALLEST_BANDS = 1 + sum(row.depth - 1 for row in TABLE_1)
SMALLEST_WINDOW = 1 + sum(row.kernel - 1 for row in TABLE_1) + PLANE_KERNEL - 1


def hybridsn(
    *, bands: int, window: int = 25, num_classes: int, attention: Attention | None = None
) -> PatchSpec:
    """HybridSN as published; attention, which the paper does not have, on the last map.

    bands: after reduction: 30 for Indian Pines, 15 for Pavia University and Salinas in the paper.

    Raises: ConfigError: fewer than 13 bands, a window that is even or below 9.
    Source: Roy et al., HybridSN, IEEE GRSL 17 (2020), Table I.
    """
    check_window(window)
    if bands < SMALLEST_BANDS or window < SMALLEST_WINDOW:
        raise ConfigError(
            f"HybridSN needs at least {SMALLEST_BANDS} bands after reduction and a window of at "
            f"least {SMALLEST_WINDOW}; got bands={bands}, window={window}."
        )
    volumes = []
    channels = 1
    for row in TABLE_1:
        volumes.append(
            VolumeSpec(c_in=channels, c_out=row.channels, depth=row.depth, kernel=row.kernel)
        )
        channels = row.channels
    folded = channels * (bands - SMALLEST_BANDS + 1)
    plane = ConvSpec(
        c_in=folded,
        c_out=PLANE_CHANNELS,
        kernel=PLANE_KERNEL,
        act="relu",
        norm=None,
        padding="valid",
    )
    head = PatchHeadSpec(
        c_in=PLANE_CHANNELS,
        size=window - SMALLEST_WINDOW + 1,
        num_classes=num_classes,
        hidden=HIDDEN,
        dropout=DROPOUT,
        attention=attention,
    )
    return PatchSpec(
        name="hybridsn",
        bands=bands,
        window=window,
        volumes=tuple(volumes),
        planes=(plane,),
        head=head,
    )
