from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.inception import BN_INCEPTION_FIG_5, bn_inception
from pocketvision.nn.inception import InceptionSpec
from pocketvision.runtimes.export import at_resolution, export_onnx
from pocketvision.runtimes.onnxfile import write_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration, FileCard

SIZES = [(256, 28), (320, 28), (576, 14), (576, 14), (576, 14)]  # Fig. 5: channels, side
SIZES += [
    (608, 14),
    (608, 14),
    (1056, 7),
    (1024, 7),
    (1024, 7),
]  # with 128 pooled channels in 4c, d


def test_bn_inception_has_the_counts_of_the_released_network() -> None:
    result = count(bn_inception())
    biases = sum(layer.c_out for layer in result.layers if layer.kind == "conv")  # it has them too
    assert result.parameters + biases == 11_295_240
    assert result.parameters == 11_285_224
    assert round(result.macs / 1e9, 2) == 2.03  # SENet, Table 2


def test_se_inception_costs_what_table_2_says() -> None:
    plain, se = count(bn_inception()), count(bn_inception(attention="se"))
    assert se.macs / 1e9 == pytest.approx(2.04, rel=0.005)
    widths = [channels for channels, _ in SIZES]
    assert se.parameters - plain.parameters == sum(2 * c * (c // 16) for c in widths)


def test_modules_have_the_sizes_of_figure_5() -> None:
    size = (56, 56)  # behind the first pool
    found = []
    for block in bn_inception().blocks[2:]:
        size = block.out_size(size)
        if isinstance(block, InceptionSpec):
            found.append((block.c_out, size[0]))
    assert found == SIZES


def test_modules_have_the_branches_of_their_row() -> None:
    modules = [b for b in bn_inception().blocks if isinstance(b, InceptionSpec)]
    for row, module in zip(BN_INCEPTION_FIG_5, modules, strict=True):
        shapes = [[(unit.kind, unit.c_out, unit.stride) for unit in b] for b in module.branches]
        expected = [[("conv", row.one, 1)]] if row.one else []
        expected += [
            [("conv", row.reduce_3, 1), ("conv", row.three, row.s)],
            [("conv", row.reduce_33, 1), ("conv", row.double_3, 1), ("conv", row.double_3, row.s)],
            [("pool", module.c_in, row.s)] + ([("conv", row.proj, 1)] if row.proj else []),
        ]
        assert shapes == expected


def test_figure_5_passes_the_pool_through_where_it_strides() -> None:
    for row in BN_INCEPTION_FIG_5:
        assert (row.s == 2) == (row.one == 0) == (row.proj == 0)
    assert [row.pool for row in BN_INCEPTION_FIG_5].count("max") == 3


@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
@pytest.mark.parametrize("side", [32, 45])
def test_attention_is_on_every_module(attention: str, side: int) -> None:
    spec = bn_inception(width=0.25, attention=attention, num_classes=7)
    modules = [b for b in spec.blocks if isinstance(b, InceptionSpec)]
    kinds = {"none": None, "se": "squeeze_excite", "cbam": "cbam"}
    assert {b.attention.kind if b.attention else None for b in modules} == {kinds[attention]}
    assert spec.build(seed=0).eval()(torch.zeros(1, 3, side, side)).shape == (1, 7)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "bn_inception x1 @224"),
        ({"attention": "se"}, "se_inception x1 @224"),
        ({"attention": "se", "reduction": 8}, "se_inception (r=8) x1 @224"),
        ({"reduction": 8}, "bn_inception x1 @224"),  # of no consequence
    ],
)
def test_label_says_what_differs(options: dict[str, Any], label: str) -> None:
    assert bn_inception(**options).label == label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "SE"}, "attention='SE' is unknown; expected one of"),
        ({"reduction": 0}, "reduction=0 is not allowed"),
        ({"width": 11.0}, "width=11.0 is out of range"),
    ],
)
def test_bn_inception_refuses_what_is_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bn_inception(**options)


@pytest.mark.slow
def test_exported_se_inception_moves_to_another_size_and_quantizes(tmp_path: Path) -> None:
    spec = registry.spec("se_inception", width=0.25, resolution=64, num_classes=4)
    pre = Preprocessing.for_resolution(64)
    card = FileCard(name=spec.name, classes=tuple("abcd"), preprocessing=pre)
    export_onnx(spec.build(seed=0).eval(), tmp_path / "64.onnx", card)
    write_model(at_resolution(tmp_path / "64.onnx", 96), tmp_path / "96.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    assert OnnxRuntime().session(tmp_path / "96.onnx", "f32", 1).run(pixels).shape == (2, 4)
    small = np.ascontiguousarray(pixels[:, :64, :64])
    calibration = Calibration(pixels=small)
    OnnxRuntime().quantize(tmp_path / "64.onnx", tmp_path / "int8.onnx", calibration)
    assert np.isfinite(OnnxRuntime().session(tmp_path / "int8.onnx", "int8", 1).run(small)).all()
