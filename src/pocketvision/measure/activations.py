"""Activation memory by arithmetic, with the expansions of inverted residuals in slices.

Source: Sandler et al., MobileNetV2, section 5.1: M(G) = max over operations of inputs + outputs +
scratch, a block being one operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketvision.errors import at_least
from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.slices import slice_width

SLICES = (1, 2, 3, 4, 5)  # the paper's useful range: more slices mean too small products


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockMemory:
    """Activation bytes of one block, for a batch of one.

    name: "block 3", counted from the stem's 0, or "head". bytes_by_slices: t -> bytes; the same for
    every t where the block stays whole. two_passes: more than one slice means computing them twice.
    """

    name: str
    kind: str
    bytes_by_slices: dict[int, int]
    two_passes: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationMemory:
    """M(G) of a network, for a batch of one.

    peak_bytes: t -> the most that any block takes. floor: the blocks that set it at the largest t.
    """

    blocks: tuple[BlockMemory, ...]
    peak_bytes: dict[int, int]
    floor: tuple[str, ...]
    bytes_per_element: int


def activation_memory(
    spec: ArchSpec,
    resolution: int | None = None,
    bytes_per_element: int = 2,
    slices: Sequence[int] = SLICES,
) -> ActivationMemory:
    """Activation memory of `spec`, at its own resolution or at `resolution`, for every t.

    An inverted residual is one operation: input, output, and as scratch one slice of floor(n / t)
    of its n inner channels, before the depthwise convolution (where it expands) and after. With
    squeeze-and-excitation too, whose means and gates, one number per channel, are left out; with
    CBAM it stays whole. Of other blocks, each layer is one operation. Weights are not in it.

    Raises: ConfigError: a resolution below 32, bytes or slices below 1, more slices than a block
    has channels, no slices.
    """
    at_least("bytes_per_element", bytes_per_element, 1)
    at_least("number of slices", len(slices), 1)
    spec = spec if resolution is None else spec.at(resolution)
    size: Size = (spec.resolution, spec.resolution)
    blocks = []
    for index, block in enumerate(spec.blocks):
        elements = {t: _block_elements(block, size, t) for t in slices}
        blocks.append(
            BlockMemory(
                name=f"block {index}",
                kind=block.kind,
                bytes_by_slices={t: bytes_per_element * n for t, n in elements.items()},
                two_passes=isinstance(block, InvertedResidualSpec)
                and isinstance(block.attention, SqueezeExciteSpec),
            )
        )
        size = block.out_size(size)
    head = bytes_per_element * _layer_elements(spec.head.layers(size))
    blocks.append(
        BlockMemory(
            name="head",
            kind=spec.head.kind,
            bytes_by_slices=dict.fromkeys(slices, head),
            two_passes=False,
        )
    )
    peak = {t: max(block.bytes_by_slices[t] for block in blocks) for t in slices}
    most = max(slices)
    return ActivationMemory(
        blocks=tuple(blocks),
        peak_bytes=peak,
        floor=tuple(b.name for b in blocks if b.bytes_by_slices[most] == peak[most]),
        bytes_per_element=bytes_per_element,
    )


def _block_elements(block: BlockSpec, size: Size, slices: int) -> int:
    out_size = block.out_size(size)
    pixels, out_pixels = size[0] * size[1], out_size[0] * out_size[1]
    ends = block.c_in * pixels + block.c_out * out_pixels
    if isinstance(block, InvertedResidualSpec):
        whole = not isinstance(block.attention, SqueezeExciteSpec | None)
        width = slice_width(block.c_mid, 1 if whole else slices)
        return ends + width * (out_pixels + (pixels if block.expand else 0))
    layers = block.layers(size)
    return _layer_elements(layers) if layers else ends


def _layer_elements(layers: Sequence[Layer]) -> int:
    return max(layer.alive_elements for layer in layers)
