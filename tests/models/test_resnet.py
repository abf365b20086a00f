"""Counts against He et al., SENet (Tables 2 and 10), CBAM (Table 4) and the libraries."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.resnet import cifar_resnet, resnet
from pocketvision.nn.residual import BasicResidualSpec, BottleneckSpec
from pocketvision.runtimes.export import at_resolution, export_onnx
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration, FileCard

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "se_resnet50": 28_071_976,
    "seresnet50": 28_088_024,  # timm's, with biases
    "seresnet101": 49_326_872,
    "seresnet152": 66_821_848,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_resnet_has_published_parameters(name: str) -> None:
    assert count(registry.spec(name)).parameters == PARAMETERS[name]


@pytest.mark.parametrize(
    ("depth", "attention", "billion_macs"),
    [
        (50, "none", 3.86),
        (101, "none", 7.58),
        (152, "none", 11.30),
        (50, "se", 3.87),
        (101, "se", 7.60),
        (152, "se", 11.32),
    ],
)
def test_macs_are_table_2_s_with_the_stride_at_the_first_convolution(
    depth: int, attention: str, billion_macs: float
) -> None:
    spec = resnet(depth=depth, attention=attention, stride_at="1x1")
    # The table is 0.1 to 0.3 % higher, save for 50 layers: with SE it counts the gates' products.
    assert count(spec).macs / 1e9 == pytest.approx(billion_macs, rel=0.004)


@pytest.mark.parametrize(
    ("reduction", "parameters", "printed_millions"),
    [
        (2, 45_676_584, 45.7),
        (4, 35_616_808, 35.7),
        (8, 30_586_920, 30.7),
        (16, 28_071_976, 28.1),
        (32, 26_814_504, 26.9),
    ],
)
def test_reductions_have_the_parameters_of_table_10(
    reduction: int, parameters: int, printed_millions: float
) -> None:
    found = count(resnet(depth=50, attention="se", reduction=reduction)).parameters
    assert found == parameters
    assert found / 1e6 == pytest.approx(printed_millions, abs=0.12)  # three are printed 0.1 high


def test_se_adds_2_over_r_times_the_sum_of_squared_widths() -> None:
    added = sum(n * c**2 for n, c in zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)) // 8
    plain, se = (count(resnet(depth=50, attention=name)).parameters for name in ("none", "se"))
    assert se - plain == added == 2_514_944


def test_cbam_resnet50_has_the_28_09_million_of_table_4() -> None:
    plain, cbam = (count(resnet(depth=50, attention=name)) for name in ("none", "cbam"))
    assert cbam.parameters == 28_089_592
    se_with_biases = PARAMETERS["seresnet50"]
    assert cbam.parameters - se_with_biases == 16 * 98  # a 7x7 convolution in each of 16 units
    assert cbam.macs / plain.macs < 1.002


@pytest.mark.parametrize(
    ("depth", "units"),
    [(18, 8), (34, 16), (50, 16), (101, 33), (152, 50)],
)
def test_depth_is_the_number_of_layers_on_the_longest_way(depth: int, units: int) -> None:
    blocks = [
        block
        for block in resnet(depth=depth).blocks
        if isinstance(block, BasicResidualSpec | BottleneckSpec)
    ]
    assert len(blocks) == units
    assert 2 + sum(len(block.branch) for block in blocks) == depth
    projections = sum(block.projection is not None for block in blocks)
    assert projections == (3 if depth < 50 else 4)  # conv2_x of a bottleneck widens at once


def test_features_have_the_channels_of_table_1() -> None:
    assert resnet(depth=18).feature_channels == {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}
    assert resnet(depth=50).feature_channels == {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}


@pytest.mark.parametrize("position", ["standard", "pre", "post", "identity"])
def test_every_unit_has_attention_that_fits_its_place(position: Any) -> None:
    spec = resnet(depth=50, width=0.25, attention="se", position=position)
    network = spec.build(seed=0)
    assert count(spec).parameters == sum(p.numel() for p in network.parameters())
    assert network.eval()(torch.zeros(1, 3, 33, 33)).shape == (1, 1000)
    for block in spec.blocks[2:]:
        assert isinstance(block, BottleneckSpec)
        assert (block.position, block.attention is not None) == (position, True)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "resnet50 x1 @224"),
        ({"attention": "cbam"}, "cbam_resnet50 x1 @224"),
        ({"attention": "se", "reduction": 8}, "se_resnet50 (r=8) x1 @224"),
        (
            {"attention": "se", "attention_bias": True, "position": "pre"},
            "se_resnet50 (bias=true, pre) x1 @224",
        ),
        ({"stride_at": "1x1"}, "resnet50 (stride at 1x1) x1 @224"),
        ({"reduction": 8, "position": "pre"}, "resnet50 x1 @224"),  # of no consequence
    ],
)
def test_label_says_what_differs(options: dict[str, Any], label: str) -> None:
    assert resnet(depth=50, **options).label == label


def test_basic_blocks_have_no_stride_to_place() -> None:
    assert resnet(depth=18, stride_at="1x1") == resnet(depth=18)


@pytest.mark.parametrize(
    ("depth", "parameters", "printed_millions"),
    [(20, 272_474, 0.27), (32, 466_906, 0.46), (56, 855_770, 0.85), (110, 1_730_714, 1.7)],
)
def test_cifar_resnet_has_the_parameters_of_table_6(
    depth: int, parameters: int, printed_millions: float
) -> None:
    spec = cifar_resnet(depth=depth)
    found = count(spec).parameters
    assert found == parameters
    without_projections = sum(layer.parameters for layer in spec.layers() if layer.kernel != 1)
    without_projections += 64 * 10 + 10  # the classifier has no kernel either
    assert found - without_projections == 2_752
    digits = 1 if depth == 110 else 2
    assert round(without_projections / 1e6, digits) == printed_millions


@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
def test_cifar_resnet_ends_with_64_maps_of_8x8(attention: str) -> None:
    spec = cifar_resnet(depth=20, attention=attention)
    assert spec.feature_channels == {2: 32, 4: 64}
    assert spec.name.endswith("cifar_resnet20")
    network = spec.build(seed=0).eval()
    assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 8, 8)
    assert count(spec).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_cifar_resnet_refuses_another_depth(depth: int) -> None:
    message = rf"depth={depth} is not allowed; expected 6n \+ 2, such as 20, 32, 44, 56 or 110"
    with pytest.raises(ConfigError, match=message):
        cifar_resnet(depth=depth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 20}, r"depth=20 is not allowed; expected one of \[18, 34, 50, 101, 152\]"),
        ({"attention": "eca"}, r"attention='eca' is unknown; expected one of \['cbam', 'none'"),
        ({"reduction": 0}, "reduction=0 is not allowed"),
        ({"position": "after"}, "position='after' is unknown"),
        ({"stride_at": "2x2"}, "stride_at='2x2' is unknown"),
        ({"width": 0.0}, "width=0.0 is out of range"),
    ],
)
def test_resnet_refuses_what_is_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resnet(**{"depth": 50, **options})


@pytest.mark.slow
def test_exported_cbam_moves_to_another_size_and_quantizes(tmp_path: Path) -> None:
    spec = registry.spec("cbam_resnet18", width=0.25, resolution=64, num_classes=4)
    pre = Preprocessing.for_resolution(64)
    card = FileCard(name=spec.name, classes=tuple("abcd"), preprocessing=pre)
    network = spec.build(seed=0).eval()
    export_onnx(network, tmp_path / "64.onnx", card)
    operators = [node.op_type for node in read_model(tmp_path / "64.onnx").graph.node]
    # Per unit: maxima over places, means and maxima over channels; means over places are pools.
    assert operators.count("ReduceMax") == 2 * 8
    assert operators.count("ReduceMean") == 8
    assert operators.count("GlobalAveragePool") == 8 + 1
    assert "Shape" not in operators

    write_model(at_resolution(tmp_path / "64.onnx", 96), tmp_path / "96.onnx")
    there = replace(card, preprocessing=Preprocessing.for_resolution(96))
    export_onnx(network, tmp_path / "fresh.onnx", there)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    moved, fresh = (
        OnnxRuntime().session(tmp_path / file, "f32", 1).run(pixels)
        for file in ("96.onnx", "fresh.onnx")
    )
    np.testing.assert_allclose(moved, fresh, atol=1e-5)

    small = np.ascontiguousarray(pixels[:, :64, :64])
    calibration = Calibration(pixels=small)
    OnnxRuntime().quantize(tmp_path / "64.onnx", tmp_path / "int8.onnx", calibration)
    assert np.isfinite(OnnxRuntime().session(tmp_path / "int8.onnx", "int8", 1).run(small)).all()
