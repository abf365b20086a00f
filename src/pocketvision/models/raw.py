"""A network of any kind as the list of operations up to what its head gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pocketvision.models.arch import Network
from pocketvision.models.detector import Detector
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.segmenter import Segmenter
from pocketvision.models.taps import tapped
from pocketvision.nn.operations import Operation, operations, traced


def operations_of(network: AnyNetwork) -> tuple[tuple[Operation, ...], tuple[int, ...]]:
    """All operations, the first of which is the input, and which places give the outputs.

    Of a segmenter the output is `coarse`. The network may lie on the meta device.

    Raises: ConfigError: an operation that is not of this package's networks.
    """
    if isinstance(network, Network):
        made = operations(network.spec.in_chans, blocks=network.blocks, head=network.head)
        return made, (len(made) - 1,)
    return traced(_Raw(network), network.spec.in_chans)


class _Raw(nn.Module):
    """A network up to what its head gives, without looks at the size of what comes in."""

    def __init__(self, network: Segmenter | Detector) -> None:
        super().__init__()
        self.taps = network.spec.taps
        self.blocks, self.head = network.blocks, network.head
        self.takes_list = isinstance(network, Detector)

    def forward(self, x: Tensor) -> Any:
        maps = tapped(self.blocks, self.taps, x)
        return self.head(maps) if self.takes_list else self.head(*maps)
