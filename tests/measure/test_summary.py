"""Shares of the types of layers against MobileNetV1's Table 2, and the totals in bytes."""

from __future__ import annotations

import pytest

from pocketvision.measure.summary import describe, layer_type, shares, totals
from pocketvision.models import registry
from pocketvision.nn.layer import Layer


def test_shares_of_v1_are_the_papers_table_2() -> None:
    """Of the 3x3 convolution the paper prints 1.19 %: with it, its column sums to 99.29."""
    found = {s.type: s for s in describe(registry.spec("mobilenet_v1")).shares}
    assert list(found) == ["1x1", "depthwise", "3x3", "fully connected"]
    macs = [round(100 * s.macs_share, 3) for s in found.values()]
    assert macs == [94.857, 3.057, 1.906, 0.18]
    weights = [round(100 * s.weights_share, 2) for s in found.values()]
    assert weights == [74.59, 1.06, 0.02, 24.33]
    # Norms and the bias of the last layer counted too, which the paper leaves out.
    parameters = [round(100 * s.parameters_share, 2) for s in found.values()]
    assert parameters == [74.47, 1.29, 0.02, 24.22]
    assert [s.layers for s in found.values()] == [13, 13, 1, 1]


@pytest.mark.parametrize("name", registry.list_models())
def test_shares_are_of_everything(name: str) -> None:
    spec = registry.spec(name, resolution=65)
    found, counted = shares(spec.layers()), totals(spec)
    assert sum(s.macs for s in found) == counted.macs
    assert sum(s.parameters for s in found) == counted.parameters
    assert sum(s.layers for s in found) == len(spec.layers())
    assert sum(s.macs_share for s in found) == pytest.approx(1)
    assert sum(s.parameters_share for s in found) == pytest.approx(1)
    assert sum(s.weights_share for s in found) == pytest.approx(1)
    assert [s.macs for s in found] == sorted((s.macs for s in found), reverse=True)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Layer(kind="linear", c_in=8, c_out=8), "fully connected"),
        (Layer(kind="conv", c_in=8, c_out=4), "1x1"),
        (Layer(kind="conv", c_in=8, c_out=8, kernel=3), "3x3"),
        (Layer(kind="conv", c_in=8, c_out=8, kernel=3, groups=8), "depthwise"),
        (Layer(kind="conv", c_in=8, c_out=16, kernel=5, groups=8), "depthwise"),
        (Layer(kind="conv", c_in=8, c_out=8, groups=2), "grouped 1x1"),
        (Layer(kind="conv", c_in=8, c_out=8, kernel=3, groups=2), "grouped 3x3"),
        (Layer(kind="conv", c_in=1, c_out=8, kernel=3), "3x3"),
    ],
)
def test_types_of_layers(layer: Layer, name: str) -> None:
    assert layer_type(layer) == name


def test_totals_of_v1_in_bytes() -> None:
    found = totals(registry.spec("mobilenet_v1"))
    assert found.parameters == 4_231_976
    assert found.macs == 568_740_352
    assert found.input_bytes == 4 * 3 * 224 * 224
    # Outputs: the stem and, per separable block, the depthwise and the 1x1 convolution.
    sides = {112: 32 + 32 + 64, 56: 64 + 128 + 128 + 128, 28: 128 + 256 + 256 + 256}
    sides |= {14: 256 + 512 + 5 * (512 + 512), 7: 512 + 1024 + 1024 + 1024}
    outputs = sum(side**2 * channels for side, channels in sides.items()) + 1000
    assert found.activation_bytes == 2 * 4 * outputs == 40_349_504
    assert found.parameter_bytes == 4 * 4_231_976
    assert found.total_bytes == 602_112 + 40_349_504 + 16_927_904


def test_a_description_names_the_network() -> None:
    found = describe(registry.spec("mobilenet_v2", width=0.5, attention="se"))
    assert (found.name, found.label) == ("mobilenet_v2", "mobilenet_v2 (se) x0.5 @224")
