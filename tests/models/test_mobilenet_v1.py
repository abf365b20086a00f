from dataclasses import replace

import pytest

from pocketvision.measure.count import count
from pocketvision.models.mobilenet_v1 import mobilenet_v1
from pocketvision.nn.blocks import SeparableSpec
from pocketvision.nn.conv import ConvSpec

PARAMETERS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}
MILLION_MACS = {
    1.0: {224: 568.7, 192: 418.1, 160: 290.7, 128: 186.4},
    0.75: {224: 325.4, 192: 239.3, 160: 166.4, 128: 106.8},
    0.5: {224: 149.5, 192: 110.0, 160: 76.5, 128: 49.2},
    0.25: {224: 41.0, 192: 30.2, 160: 21.1, 128: 13.6},
}


@pytest.mark.parametrize("width", PARAMETERS)
@pytest.mark.parametrize("resolution", [224, 192, 160, 128])
def test_mobilenet_v1_has_published_parameters_and_macs(width: float, resolution: int) -> None:
    result = count(mobilenet_v1(width=width, resolution=resolution))
    assert result.parameters == PARAMETERS[width]
    assert round(result.macs / 1e6, 1) == MILLION_MACS[width][resolution]


def test_layer_example_of_table_3_is_exact() -> None:
    full = ConvSpec(c_in=512, c_out=512, act="relu").layers((14, 14))[0]
    weights = full.parameters - 2 * 512  # the paper leaves the norms out
    assert (full.macs, weights) == (462_422_016, 2_359_296)
    for channels, side, macs, weights in [
        (512, 14, 52_283_392, 266_752),
        (384, 14, 29_578_752, 150_912),
        (384, 10, 15_091_200, 150_912),
    ]:
        layers = SeparableSpec(c_in=channels, c_out=channels).layers((side, side))
        assert sum(layer.macs for layer in layers) == macs
        assert sum(layer.parameters for layer in layers) - 4 * channels == weights


def test_shares_of_table_2_are_reproduced() -> None:
    macs = dict.fromkeys(("1x1", "depthwise", "3x3", "linear"), 0)
    weights = dict(macs)
    for layer in count(mobilenet_v1()).layers:
        spatial = "depthwise" if layer.groups > 1 else "3x3"
        kind = "linear" if layer.kind == "linear" else "1x1" if layer.kernel == 1 else spatial
        macs[kind] += layer.macs
        weights[kind] += layer.parameters - layer.c_out * (layer.bias + 2 * layer.norm)
    shares = {
        kind: (100 * macs[kind] / sum(macs.values()), 100 * weights[kind] / sum(weights.values()))
        for kind in macs
    }
    assert {kind: (round(a, 2), round(b, 2)) for kind, (a, b) in shares.items()} == {
        "1x1": (94.86, 74.59),
        "depthwise": (3.06, 1.06),
        "3x3": (1.91, 0.02),  # printed as 1.19; the printed column sums to 99.29
        "linear": (0.18, 24.33),
    }


def test_full_convolution_twin_of_table_4_has_its_cost() -> None:
    spec = mobilenet_v1()
    twin = replace(
        spec,
        blocks=tuple(
            ConvSpec(c_in=block.c_in, c_out=block.c_out, stride=block.stride)
            for block in spec.blocks
        ),
    )
    convolutions = sum(layer.macs for layer in twin.layers() if layer.kind == "conv")
    assert (
        round(convolutions / 1e6) == 4866
    )  # the classifier's million is not in the printed figure
    assert round(count(twin).parameters / 1e6, 1) == 29.3


def test_shallow_network_of_table_5_has_its_cost() -> None:
    spec = mobilenet_v1()
    shallow = replace(spec, blocks=spec.blocks[:7] + spec.blocks[12:])
    assert round(count(shallow).macs / 1e6) == 307
    assert round(count(shallow).parameters / 1e6, 1) == 2.9


def test_mobilenet_v1_has_28_layers_and_ends_at_stride_32() -> None:
    spec = mobilenet_v1()
    assert len(spec.layers()) == 28
    assert spec.feature_channels == {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024}
    for block in spec.blocks:
        assert isinstance(block, ConvSpec | SeparableSpec)
        assert block.act == "relu"


def test_twin_with_full_convolutions_has_the_counts_of_table_4() -> None:
    result = count(mobilenet_v1(separable=False))
    assert (result.macs, result.parameters) == (4_867_293_184, 29_294_088)  # 4866 M, 29.3 M


def test_shallow_network_has_the_counts_of_table_5() -> None:
    spec = mobilenet_v1(shallow=True)
    result = count(spec)
    assert (result.macs, result.parameters) == (307_323_392, 2_887_976)  # 307 M, 2.9 M
    assert len(spec.blocks) == len(mobilenet_v1().blocks) - 5


def test_names_of_the_variants_are_the_registry_s() -> None:
    assert mobilenet_v1(separable=False).name == "mobilenet_v1_full"
    assert mobilenet_v1(shallow=True).name == "mobilenet_v1_shallow"
