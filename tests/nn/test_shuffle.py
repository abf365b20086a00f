import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.shuffle import (
    ShuffleV1,
    ShuffleV1Spec,
    ShuffleV2Spec,
    channel_shuffle,
)
from pocketvision.runtimes.export import at_resolution, export_onnx
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard

Spec = ShuffleV1Spec | ShuffleV2Spec
SE = SqueezeExciteSpec(squeezed=3, gate="sigmoid")

UNITS: list[Spec] = [
    ShuffleV1Spec(c_in=24, c_out=24, groups=3),
    ShuffleV1Spec(c_in=12, c_out=24, groups=3, stride=2, first_grouped=False),
    ShuffleV1Spec(c_in=16, c_out=64, groups=8, stride=2, attention=SE),
    ShuffleV1Spec(c_in=32, c_out=32, groups=4, shuffle=False, attention=CbamSpec(squeezed=2)),
    ShuffleV1Spec(c_in=8, c_out=8, groups=1),
    ShuffleV2Spec(c_in=24, c_out=24),
    ShuffleV2Spec(c_in=7, c_out=12, stride=2),
    ShuffleV2Spec(c_in=12, c_out=12, attention=SE),
    ShuffleV2Spec(c_in=12, c_out=24, stride=2, attention=CbamSpec(squeezed=2)),
]
IDS = [
    f"{spec.kind}-{spec.c_in}-{spec.c_out}-s{spec.stride}-{index}"
    for index, spec in enumerate(UNITS)
]
groups_and_width = st.tuples(st.integers(1, 12), st.integers(1, 12))


def numbered(channels: int) -> Tensor:
    """One place for each channel, holding its number."""
    return torch.arange(float(channels)).view(1, channels, 1, 1)


def seeded(module: nn.Module) -> nn.Module:
    """With positive parameters, so that no activation is shut."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 0.7, generator=generator)
    return module


def test_shuffle_deals_channels_as_in_figure_1() -> None:
    shuffled = channel_shuffle(numbered(12), 3).flatten().tolist()
    assert shuffled == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


@given(groups_and_width)
def test_shuffle_is_a_permutation(sizes: tuple[int, int]) -> None:
    groups, n = sizes
    shuffled = channel_shuffle(numbered(groups * n), groups).flatten().tolist()
    assert sorted(shuffled) == list(range(groups * n))
    assert all(shuffled[j * groups + i] == i * n + j for i in range(groups) for j in range(n))


@given(groups_and_width)
def test_shuffle_by_the_other_factor_restores(sizes: tuple[int, int]) -> None:
    groups, n = sizes
    x = torch.rand(2, groups * n, 3, 2)
    assert torch.equal(channel_shuffle(channel_shuffle(x, groups), n), x)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_shuffle_takes_any_memory_order(groups: int) -> None:
    x = torch.rand(2, 12, 3, 5)
    shuffled = channel_shuffle(x, groups)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(channel_shuffle(last, groups), shuffled)
    assert torch.equal(channel_shuffle(torch.cat([x, x], 1)[:, :12], groups), shuffled)


def test_shuffle_refuses_groups_that_do_not_divide() -> None:
    with pytest.raises(
        ConfigError,
        match=r"groups=3 does not divide channels=8; expected one of \[1, 2, 4, 8\], or channels=9",
    ):
        channel_shuffle(numbered(8), 3)
    with pytest.raises(ConfigError, match="groups=0 is not allowed; expected a whole number"):
        channel_shuffle(numbered(8), 0)


@pytest.mark.parametrize("spec", UNITS, ids=IDS)
@pytest.mark.parametrize("size", [(16, 16), (7, 9), (1, 2)])
def test_unit_output_has_the_stated_shape(spec: Spec, size: tuple[int, int]) -> None:
    out = spec.build().eval()(torch.zeros(2, spec.c_in, *size))
    assert out.shape == (2, spec.c_out, *spec.out_size(size))
    assert spec.out_size(size) == (-(-size[0] // spec.stride), -(-size[1] // spec.stride))


@pytest.mark.parametrize("spec", UNITS, ids=IDS)
def test_unit_counts_the_parameters_and_macs_it_builds(spec: Spec) -> None:
    module, macs = spec.build().eval(), 0

    def add(conv: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal macs
        macs += out[0].numel() * conv.get_parameter("weight")[0].numel()

    for conv in [conv for conv in module.modules() if isinstance(conv, nn.Conv2d)]:
        conv.register_forward_hook(add)
    module(torch.zeros(1, spec.c_in, 9, 7))
    layers = spec.layers((9, 7))
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in module.parameters())
    if not isinstance(spec.attention, CbamSpec):  # its shared layers run on means and maxima
        assert sum(layer.macs for layer in layers) == macs


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_unit_macs_follow_the_formula_of_the_paper(groups: int) -> None:
    h, w, c, m = 14, 10, 32 * groups, 8 * groups
    spec = ShuffleV1Spec(c_in=c, c_out=c, groups=groups)
    assert sum(layer.macs for layer in spec.layers((h, w))) == h * w * (2 * c * m // groups + 9 * m)


@pytest.mark.parametrize(
    "spec", [spec for spec in UNITS if isinstance(spec, ShuffleV1Spec)], ids=lambda spec: spec.kind
)
def test_v1_layers_chain(spec: ShuffleV1Spec) -> None:
    for before, after in itertools.pairwise(spec.layers((15, 15))[:3]):
        assert (before.out_size, before.c_out) == (after.in_size, after.c_in)


def test_first_convolution_is_whole_behind_the_stem() -> None:
    spec = ShuffleV1Spec(c_in=24, c_out=240, groups=3, stride=2, first_grouped=False)
    assert [layer.groups for layer in spec.layers((56, 56))] == [1, 60, 3]
    grouped = replace(spec, first_grouped=True)
    assert [layer.groups for layer in grouped.layers((56, 56))] == [3, 60, 3]
    assert [layer.c_out for layer in grouped.layers((56, 56))] == [60, 60, 216]


@torch.no_grad()
def test_v1_unit_adds_the_input_and_activates_the_sum() -> None:
    module = ShuffleV1Spec(c_in=24, c_out=24, groups=3).build().eval()
    assert isinstance(module, ShuffleV1)
    nn.init.zeros_(module.expand.get_parameter("norm.weight"))
    x = torch.randn(2, 24, 5, 5)
    kept = x.clone()
    torch.testing.assert_close(module(x), x.relu())
    assert torch.equal(x, kept)


@torch.no_grad()
def test_v1_unit_of_stride_2_puts_the_means_first() -> None:
    module = ShuffleV1Spec(c_in=12, c_out=24, groups=3, stride=2).build().eval()
    assert isinstance(module, ShuffleV1)
    nn.init.zeros_(module.expand.get_parameter("norm.weight"))
    out = module(torch.full((1, 12, 6, 6), 2.0))
    torch.testing.assert_close(out[:, :12], torch.full((1, 12, 3, 3), 2.0))
    assert not out[:, 12:].any()


@torch.no_grad()
def test_v2_unit_passes_the_first_half_to_the_even_places() -> None:
    module = seeded(ShuffleV2Spec(c_in=8, c_out=8).build().eval())
    x = torch.randn(2, 8, 5, 5)
    out = module(x)
    assert torch.equal(out[:, ::2], x[:, :4])
    assert (out[:, 1::2] >= 0).all()


@pytest.mark.parametrize("kind", ["shuffle_v1", "shuffle_v2"])
def test_depthwise_convolution_has_no_activation(kind: str) -> None:
    if kind == "shuffle_v1":
        v1 = ShuffleV1Spec(c_in=8, c_out=8, groups=2)
        assert [v1.reduce.act, v1.depthwise.act, v1.expand.act] == ["relu", "none", "none"]
    else:
        v2 = ShuffleV2Spec(c_in=8, c_out=16, stride=2)
        assert [conv.act for conv in v2.branch] == ["relu", "none", "relu"]
        assert [conv.act for conv in v2.shortcut] == ["none", "relu"]


@torch.no_grad()
@pytest.mark.parametrize("spec", [UNITS[2], UNITS[7]], ids=["v1", "v2"])
def test_attention_acts_on_the_branch_alone(spec: Spec) -> None:
    plain = seeded(replace(spec, attention=None).build().eval())
    module = seeded(spec.build().eval())
    module.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, spec.c_in, 6, 6, generator=torch.Generator().manual_seed(1)).relu()
    gate = "attention" if isinstance(spec, ShuffleV1Spec) else "branch.3"
    nn.init.constant_(module.get_parameter(f"{gate}.expand.bias"), -100.0)  # shut
    out, expected = module(x), plain(x)
    branch, shortcut = slice(spec.c_in, None), slice(spec.c_in)
    if isinstance(spec, ShuffleV2Spec):
        branch, shortcut = slice(1, None, 2), slice(0, None, 2)
    assert out[:, branch].abs().max() < 1e-6 < expected[:, branch].abs().max()
    assert torch.equal(out[:, shortcut], expected[:, shortcut])


def reached(spec: ShuffleV1Spec, group: int) -> list[bool]:
    """Whether each group of input channels has a gradient from one group of the branch's output."""
    module = seeded(spec.build().eval())
    x = torch.rand(1, spec.c_in, 4, 4, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    assert isinstance(module, ShuffleV1)
    branch = module.expand(module.depthwise(module.shuffle(module.reduce(x))))
    branch.chunk(spec.groups, 1)[group].sum().backward()
    assert x.grad is not None
    return [bool(part.any()) for part in x.grad.chunk(spec.groups, 1)]


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_gradients_reach_every_group_through_the_shuffle(groups: int) -> None:
    channels = 4 * groups * groups
    spec = ShuffleV1Spec(c_in=channels, c_out=channels, groups=groups)
    for group in range(groups):
        assert all(reached(spec, group))
        alone = [other == group for other in range(groups)]
        assert reached(replace(spec, shuffle=False), group) == alone


def test_shortcut_is_alive_until_it_is_joined() -> None:
    pixels, less = 100, 25
    kept = [layer.kept for layer in ShuffleV1Spec(c_in=8, c_out=8, groups=2).layers((10, 10))]
    assert kept == [0, 8 * pixels, 8 * pixels]
    spec = ShuffleV1Spec(c_in=8, c_out=16, groups=2, stride=2, attention=SE)
    means, scaled = 8 * less, 8 * less
    kept = [layer.kept for layer in spec.layers((10, 10))]
    assert kept == [means, means, means, means + scaled, means + scaled]
    kept = [layer.kept for layer in ShuffleV2Spec(c_in=8, c_out=8).layers((10, 10))]
    assert kept == [4 * pixels] * 3
    kept = [layer.kept for layer in ShuffleV2Spec(c_in=8, c_out=16, stride=2).layers((10, 10))]
    assert kept == [0, 8 * pixels, 8 * less, 8 * less, 8 * less]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 0}, "groups=0 is not allowed; expected a whole number from 1 up"),
        ({"c_in": 0}, "c_in=0 is not allowed; expected a whole number from 1 up"),
        (
            {"c_in": 25, "stride": 2, "c_out": 48},
            r"groups=3 does not divide c_in=25; expected one of \[1, 5, 25\], or c_in=27",
        ),
        (
            {"c_in": 30, "c_out": 30},
            "c_out=30 does not divide into groups=3; expected a multiple of 4 x 3, such as 36",
        ),
        ({"c_out": 0}, "c_out=0 does not divide into groups=3; .* such as 12"),
        ({"c_out": 36}, "c_out=36 differs from c_in=24; .* expected c_out=24"),
        ({"stride": 2}, "c_out=24 leaves the branch no channels beside c_in=24; .* more than c_in"),
        ({"stride": 3}, "stride=3 is not allowed; expected 1 or 2"),
    ],
)
def test_v1_unit_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShuffleV1Spec(**{"c_in": 24, "c_out": 24, "groups": 3, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_in": 0, "stride": 2}, "c_in=0 is not allowed; expected a whole number from 1 up"),
        ({"c_out": 0}, "c_out=0 is not allowed; expected a whole number from 1 up"),
        (
            {"c_in": 117, "c_out": 117},
            "c_out=117 is odd and cannot be split into halves; expected an even number such as 118",
        ),
        ({"c_out": 48}, "c_out=48 differs from c_in=24; .* expected c_out=24"),
        ({"stride": 0}, "stride=0 is not allowed; expected 1 or 2"),
    ],
)
def test_v2_unit_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShuffleV2Spec(**{"c_in": 24, "c_out": 24, **change})


class Shuffler(nn.Module):
    """Makes it visible where each channel goes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(self.conv(x), 3).mean((2, 3))


@torch.no_grad()
def test_shuffle_exports_without_a_trace_of_batch_or_resolution(tmp_path: Path) -> None:
    module, pre = Shuffler().eval(), Preprocessing.for_resolution(32)
    card = FileCard(name="shuffler", classes=tuple("abcdef"), preprocessing=pre)
    export_onnx(module, tmp_path / "32.onnx", card)
    operators = [node.op_type for node in read_model(tmp_path / "32.onnx").graph.node]
    assert operators.count("Gather") == 1
    assert "Reshape" not in operators
    write_model(at_resolution(tmp_path / "32.onnx", 48), tmp_path / "48.onnx")
    mean, std = torch.tensor(pre.mean), torch.tensor(pre.std)
    for side, batch in [(32, 3), (48, 1)]:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
        session = get_runtime("onnxruntime").session(tmp_path / f"{side}.onnx", "f32", 1)
        images = ((torch.from_numpy(pixels) - mean) / std).permute(0, 3, 1, 2)
        expected = module(images.contiguous())
        torch.testing.assert_close(
            torch.from_numpy(session.run(pixels)), expected, rtol=1e-4, atol=1e-4
        )
