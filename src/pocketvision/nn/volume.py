"""Convolution over bands and places at once: 3-D, "valid", with a ReLU."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import nn

from pocketvision.errors import at_least
from pocketvision.nn.conv import check_odd
from pocketvision.nn.layer import Layer, Size


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSpec:
    """A 3-D convolution without padding, its bias and a ReLU.

    depth: of the kernel, over bands; odd. kernel: over places; odd.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["volume"] = "volume"
    c_in: int
    c_out: int
    depth: int
    kernel: int = 3

    def __post_init__(self) -> None:
        for name in ("c_in", "c_out"):
            at_least(name, getattr(self, name), 1)
        for name in ("depth", "kernel"):
            check_odd(name, getattr(self, name))

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return Volume(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return size[0] - self.kernel + 1, size[1] - self.kernel + 1

    def out_bands(self, bands: int) -> int:
        """Depth of the output."""
        return bands - self.depth + 1

    def layer(self, bands: int, size: Size) -> Layer:
        """The convolution as arithmetic, for an input of bands x height x width."""
        return Layer(
            kind="conv",
            c_in=self.c_in,
            c_out=self.c_out,
            kernel=self.kernel,
            bias=True,
            in_size=size,
            out_size=self.out_size(size),
            kernel_depth=self.depth,
            in_depth=bands,
            out_depth=self.out_bands(bands),
        )


class Volume(nn.Sequential):
    """3-D convolution "conv" -> ReLU "act".

    Shape:  (N, c_in, bands, H, W) float -> (N, c_out, bands - depth + 1, H - kernel + 1,
            W - kernel + 1).
    Source: Roy et al., HybridSN, section II and eq. 2.
    """

    conv: nn.Conv3d

    def __init__(self, spec: VolumeSpec) -> None:
        conv = nn.Conv3d(spec.c_in, spec.c_out, (spec.depth, spec.kernel, spec.kernel))
        super().__init__(OrderedDict(conv=conv, act=nn.ReLU(inplace=True)))
