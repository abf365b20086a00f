"""Multiply-accumulates, parameters and peak activation memory, by arithmetic on a specification."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.models.networks import AnySpec
from pocketvision.nn.layer import Layer

BYTES_PER_ELEMENT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """What a network costs at one resolution, for a batch of one.

    macs: multiply-accumulates of convolutions and linear layers; biases, norms, activations, pools
    and gates are not counted. parameters: all that training changes, norms' scale and shift
    included, running statistics not.
    peak_activation_bytes: 4 bytes x the most elements alive at once, where each layer is one
    operation that holds its whole input and output, and beside them are alive: a residual block's
    input until it is added, and the map that a squeeze-excite gate will scale. Norms, activations,
    gate products and residual sums are in place, and a pool never holds more than the layer before
    it: they add nothing. Weights and workspace are not in it. It is the figure of an ideal
    allocator, for comparing networks.
    layers: all layers in order.
    """

    macs: int
    parameters: int
    peak_activation_bytes: int
    layers: tuple[Layer, ...]


def count(spec: AnySpec, resolution: int | None = None) -> Count:
    """Count `spec` at its own resolution, or at `resolution`.

    Raises: ConfigError: a resolution below 32.
    """
    layers = (spec if resolution is None else spec.at(resolution)).layers()
    return Count(
        macs=sum(layer.macs for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
        peak_activation_bytes=BYTES_PER_ELEMENT * max(layer.alive_elements for layer in layers),
        layers=layers,
    )
