"""What a network consists of: its table, the share of every type of layer, totals in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketvision.measure.count import BYTES_PER_ELEMENT, count
from pocketvision.measure.rows import Row, table_rows
from pocketvision.models.arch import ArchSpec
from pocketvision.nn.layer import Layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """All layers of one type, and their part of the network; shares are 0..1.

    weights: parameters without norms and biases, which MobileNetV1's Table 2 leaves out.
    """

    type: str
    layers: int
    macs: int
    parameters: int
    weights: int
    macs_share: float
    parameters_share: float
    weights_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Figures of the whole network, for a batch of one in float32; 1 MB = 10^6 bytes.

    macs, parameters, peak_activation_bytes: as `count` has them.
    activation_bytes: the outputs of all convolutions and linear layers, twice: once forward, and
    once more for their gradients. (torchsummary's "forward/backward pass size" is counted alike,
    but counts the outputs of norms and activations too, which work in place here.)
    total_bytes: input, activations and parameters together.
    """

    macs: int
    parameters: int
    peak_activation_bytes: int
    input_bytes: int
    activation_bytes: int
    parameter_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A network as `describe` shows it; shares: the type with most multiply-accumulates first."""

    name: str
    label: str
    rows: tuple[Row, ...]
    shares: tuple[Share, ...]
    totals: Totals


def describe(spec: ArchSpec) -> Description:
    """Everything there is to say of `spec` at its resolution, by arithmetic."""
    counted = count(spec)
    return Description(
        name=spec.name,
        label=spec.label,
        rows=table_rows(spec),
        shares=shares(counted.layers),
        totals=totals(spec),
    )


def layer_type(layer: Layer) -> str:
    """Such as "fully connected", "depthwise", "1x1", "grouped 1x1" or "3x3".

    The layers of attention are 1x1 convolutions like others.
    """
    if layer.kind == "linear":
        return "fully connected"
    if layer.groups == layer.c_in > 1:
        return "depthwise"
    kernel = f"{layer.kernel}x{layer.kernel}"
    return f"grouped {kernel}" if layer.groups > 1 else kernel


def shares(layers: Sequence[Layer]) -> tuple[Share, ...]:
    """Multiply-accumulates, parameters and weights by type of layer, the largest share first.

    Source: Howard et al., MobileNets, Table 2.
    """
    types: dict[str, list[Layer]] = {}
    for layer in layers:
        types.setdefault(layer_type(layer), []).append(layer)
    macs = sum(layer.macs for layer in layers)
    parameters = sum(layer.parameters for layer in layers)
    weights = sum(_weights(layer) for layer in layers)
    found = [
        Share(
            type=name,
            layers=len(members),
            macs=(own_macs := sum(layer.macs for layer in members)),
            parameters=(own_parameters := sum(layer.parameters for layer in members)),
            weights=(own_weights := sum(_weights(layer) for layer in members)),
            macs_share=own_macs / macs,
            parameters_share=own_parameters / parameters,
            weights_share=own_weights / weights,
        )
        for name, members in types.items()
    ]
    return tuple(sorted(found, key=lambda share: -share.macs))


def totals(spec: ArchSpec) -> Totals:
    """The figures of the whole network at its resolution."""
    counted = count(spec)
    elements = spec.in_chans * spec.resolution**2
    outputs = sum(layer.out_elements for layer in counted.layers)
    parts = (
        BYTES_PER_ELEMENT * elements,
        2 * BYTES_PER_ELEMENT * outputs,
        BYTES_PER_ELEMENT * counted.parameters,
    )
    return Totals(
        macs=counted.macs,
        parameters=counted.parameters,
        peak_activation_bytes=counted.peak_activation_bytes,
        input_bytes=parts[0],
        activation_bytes=parts[1],
        parameter_bytes=parts[2],
        total_bytes=sum(parts),
    )


def _weights(layer: Layer) -> int:
    """Parameters without bias and norm."""
    return layer.parameters - layer.c_out * (layer.bias + 2 * layer.norm)
