import pytest

from pocketvision.measure.count import count
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.nn.blocks import InvertedResidualSpec

PARAMETERS = {
    1.4: 6_108_776,
    1.3: 5_386_792,
    1.0: 3_504_872,
    0.75: 2_636_424,
    0.5: 1_968_680,
    0.35: 1_677_128,
}
MILLION_MACS = {
    1.4: {224: 582.2},
    1.3: {224: 509.4},
    1.0: {224: 300.8, 192: 221.3, 160: 154.1, 128: 99.1, 96: 56.3},
    0.75: {224: 209.1, 192: 153.9, 160: 107.3, 128: 69.1, 96: 39.4},
    0.5: {224: 97.1, 192: 71.7, 160: 50.2, 128: 32.6, 96: 18.9},
    0.35: {224: 59.3, 192: 43.9, 160: 30.9, 128: 20.2, 96: 11.9},
}


@pytest.mark.parametrize(
    ("width", "resolution", "million_macs"),
    [
        (w, r, macs)
        for w, by_resolution in MILLION_MACS.items()
        for r, macs in by_resolution.items()
    ],
)
def test_mobilenet_v2_has_published_parameters_and_macs(
    width: float, resolution: int, million_macs: float
) -> None:
    result = count(mobilenet_v2(width=width, resolution=resolution))
    assert result.parameters == PARAMETERS[width]
    assert round(result.macs / 1e6, 1) == million_macs


@pytest.mark.parametrize(("width", "last"), [(0.35, 1280), (1.0, 1280), (1.4, 1792)])
def test_last_convolution_never_shrinks(width: float, last: int) -> None:
    assert mobilenet_v2(width=width).blocks[-1].c_out == last


def test_mobilenet_v2_has_17_bottlenecks_and_10_shortcuts() -> None:
    blocks = [b for b in mobilenet_v2().blocks if isinstance(b, InvertedResidualSpec)]
    assert len(blocks) == 17
    assert sum(block.has_skip for block in blocks) == 10
    assert blocks[0].expand is None
    assert all(block.c_mid == 6 * block.c_in for block in blocks[1:])


def test_block_macs_follow_the_formula_of_the_paper() -> None:
    spec = InvertedResidualSpec(c_in=24, c_mid=6 * 24, c_out=32)
    h, w, k, out = 28, 30, 24, 32
    assert sum(layer.macs for layer in spec.layers((h, w))) == h * w * k * 6 * (k + 9 + out)


def test_mobilenet_v2_features_have_the_channels_of_table_2() -> None:
    assert mobilenet_v2().feature_channels == {2: 16, 4: 24, 8: 32, 16: 96, 32: 1280}
