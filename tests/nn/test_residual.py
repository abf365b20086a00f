from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.layer import Size
from pocketvision.nn.residual import BasicResidualSpec, BottleneckSpec, Residual

SE = SqueezeExciteSpec(squeezed=2, gate="sigmoid", bias=False)
POSITIONS = ["standard", "pre", "post", "identity"]
Spec = BasicResidualSpec | BottleneckSpec
BLOCKS: list[Spec] = [
    BasicResidualSpec(c_in=8, c_out=8),
    BasicResidualSpec(c_in=8, c_out=16, stride=2),
    BasicResidualSpec(c_in=8, c_out=16, attention=CbamSpec(squeezed=2), position="identity"),
    BottleneckSpec(c_in=16, c_mid=4, c_out=16, attention=SE),
    BottleneckSpec(c_in=16, c_mid=8, c_out=32, stride=2, attention=SE, position="pre"),
    BottleneckSpec(c_in=16, c_mid=8, c_out=32, stride=2, stride_at="1x1"),
]


def built(spec: Spec) -> Residual:
    """With running statistics that a forgotten norm would show."""
    torch.manual_seed(0)
    module = spec.build().eval()
    assert isinstance(module, Residual)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.get_buffer("running_mean"))
    return module


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2)])
def test_block_output_has_the_stated_shape(spec: Spec, size: Size) -> None:
    out = spec.build().eval()(torch.zeros(2, spec.c_in, *size))
    assert out.shape == (2, spec.c_out, *spec.out_size(size))
    assert spec.out_size(size) == tuple(-(-side // spec.stride) for side in size)


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
def test_block_counts_the_parameters_it_builds(spec: Spec) -> None:
    counted = sum(layer.parameters for layer in spec.layers((9, 9)))
    assert counted == sum(p.numel() for p in spec.build().parameters())


@torch.no_grad()
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("spec", BLOCKS[1:], ids=str)
def test_layers_are_the_module_s_in_order(spec: Spec, position: Any) -> None:
    spec = replace(spec, attention=SE, position=position)
    module = spec.build().eval()
    called: list[tuple[int, int]] = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _, x, out: called.append((x[0].numel(), out.numel())))
    module(torch.zeros(1, spec.c_in, 7, 9))
    assert [(layer.in_elements, layer.out_elements) for layer in spec.layers((7, 9))] == called


@torch.no_grad()
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    "spec",
    [
        BasicResidualSpec(c_in=8, c_out=8, attention=SE),
        BottleneckSpec(c_in=8, c_mid=4, c_out=16, stride=2, attention=SE),
    ],
    ids=["identity shortcut", "projection"],
)
def test_attention_is_where_figure_5_has_it(spec: Spec, position: Any) -> None:
    module = built(replace(spec, position=position))
    x = torch.randn(2, 8, 7, 7, generator=torch.Generator().manual_seed(1))
    given = x.clone()
    f, shortcut, se, relu = module.branch, module.shortcut, module.attention, torch.relu
    expected: dict[str, Callable[[], torch.Tensor]] = {
        "standard": lambda: relu(se(f(x)) + shortcut(x)),
        "pre": lambda: relu(f(se(x)) + shortcut(x)),
        "post": lambda: se(relu(f(x) + shortcut(x))),
        "identity": lambda: relu(f(x) + se(shortcut(x))),
    }
    found = module(x)
    torch.testing.assert_close(found, expected[position]())
    assert torch.equal(x, given)  # nothing works in place on the input
    if position != "pre":  # whose attention fits c_in alone
        others = [expected[name]() for name in POSITIONS if name not in (position, "pre")]
        assert not any(torch.allclose(found, other, atol=1e-4) for other in others)


@torch.no_grad()
def test_block_with_a_branch_of_zeros_passes_what_is_positive() -> None:
    module = built(BottleneckSpec(c_in=8, c_mid=4, c_out=8))
    last = module.get_submodule("branch.2.norm")
    last.load_state_dict({name: torch.zeros_like(t) for name, t in last.state_dict().items()})
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(module(x), x.clamp(min=0))


@pytest.mark.parametrize(
    ("stride", "c_out", "projects"), [(1, 8, False), (2, 8, True), (1, 16, True)]
)
def test_shortcut_projects_where_shapes_differ(stride: int, c_out: int, projects: bool) -> None:
    spec = BasicResidualSpec(c_in=8, c_out=c_out, stride=stride)
    assert (spec.projection is not None) is projects
    names = list(spec.build().state_dict())
    assert any(name.startswith("shortcut.conv") for name in names) is projects


@pytest.mark.parametrize(
    ("position", "channels"), [("standard", 16), ("pre", 8), ("post", 16), ("identity", 16)]
)
def test_attention_sees_the_channels_of_its_place(position: Any, channels: int) -> None:
    spec = BasicResidualSpec(c_in=8, c_out=16, attention=SE, position=position)
    assert spec.attention_channels == channels
    assert spec.build().get_parameter("attention.reduce.weight").shape[1] == channels


def test_stride_is_at_the_stated_convolution() -> None:
    spec = BottleneckSpec(c_in=8, c_mid=4, c_out=16, stride=2)
    assert [conv.stride for conv in spec.branch] == [1, 2, 1]
    early = replace(spec, stride_at="1x1")
    assert [conv.stride for conv in early.branch] == [2, 1, 1]
    macs = [sum(layer.macs for layer in s.layers((8, 8))) for s in (spec, early)]
    assert macs[0] - macs[1] == 8 * 4 * (64 - 16)  # the first convolution alone


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
def test_branch_ends_linear(spec: Spec) -> None:
    assert [conv.act for conv in spec.branch][-1] == "none"
    assert {conv.act for conv in spec.branch[:-1]} == {"relu"}


# A basic block from 8 to 16 channels at stride 2, on 10 x 10: the input has 800 elements, the
# output 400. An attention keeps the map it scales: 400, or the input in front of the branch.
@pytest.mark.parametrize(
    ("position", "kept"),
    [
        ("standard", [0, 800, 800 + 400, 800 + 400, 400]),
        ("pre", [800, 800, 800, 800, 400]),
        ("post", [0, 800, 400, 400, 400]),
        ("identity", [0, 800, 400, 400 + 400, 400 + 400]),
    ],
)
def test_what_is_needed_later_is_alive(position: Any, kept: list[int]) -> None:
    spec = BasicResidualSpec(c_in=8, c_out=16, stride=2, attention=SE, position=position)
    assert [layer.kept for layer in spec.layers((10, 10))] == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_in": 0}, "c_in=0 is not allowed; expected a whole number from 1 up"),
        ({"c_out": 0}, "c_out=0 is not allowed"),
        ({"c_mid": 0}, "c_mid=0 is not allowed"),
        ({"stride": 3}, "stride=3 is not allowed; expected 1 or 2"),
        ({"position": "behind"}, r"position='behind' is unknown; expected one of \['identity', "),
        ({"stride_at": "7x7"}, r"stride_at='7x7' is unknown; expected one of \['1x1', '3x3'\]"),
    ],
)
def test_bottleneck_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BottleneckSpec(**{"c_in": 8, "c_mid": 4, "c_out": 16, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_out": 0}, "c_out=0 is not allowed"),
        ({"stride": 0}, "stride=0 is not allowed; expected 1 or 2"),
        ({"position": "posts"}, "position='posts' is unknown; .* Did you mean 'post'"),
    ],
)
def test_basic_block_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BasicResidualSpec(**{"c_in": 8, "c_out": 8, **change})
