from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import CbamSpec, SqueezeExcite, SqueezeExciteSpec, attention_spec


def test_squeeze_excite_scales_channels_by_the_gate_of_their_means() -> None:
    module = SqueezeExciteSpec(squeezed=3).build(6)
    assert isinstance(module, SqueezeExcite)
    reduce_bias, expand_bias = module.reduce.bias, module.expand.bias
    assert reduce_bias is not None
    assert expand_bias is not None
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    means = x.mean((2, 3))
    hidden = (means @ module.reduce.weight[:, :, 0, 0].T + reduce_bias).clamp(min=0)
    gate = hidden @ module.expand.weight[:, :, 0, 0].T + expand_bias
    gate = ((gate + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(module(x), x * gate[:, :, None, None])


def test_squeeze_excite_is_the_identity_with_an_open_gate() -> None:
    module = SqueezeExciteSpec(squeezed=3).build(6)
    torch.nn.init.constant_(module.get_parameter("expand.bias"), 100.0)
    x = torch.rand(1, 6, 3, 3)
    torch.testing.assert_close(module(x), x)


@pytest.mark.parametrize(("channels", "squeezed"), [(16, 8), (72, 24), (120, 32), (960, 240)])
def test_squeezed_width_is_a_quarter_rounded_to_8(channels: int, squeezed: int) -> None:
    assert SqueezeExciteSpec.for_channels(channels) == SqueezeExciteSpec(squeezed=squeezed)


def test_squeeze_excite_counts_what_it_builds() -> None:
    spec = SqueezeExciteSpec(squeezed=8)
    layers = spec.layers(16, (5, 4), kept=7)
    assert sum(layer.parameters for layer in layers) == sum(
        p.numel() for p in spec.build(16).parameters()
    )
    assert [layer.macs for layer in layers] == [128, 128]
    assert [layer.alive_elements for layer in layers] == [24 + 320 + 7] * 2


def test_squeeze_excite_refuses_no_hidden_layer() -> None:
    with pytest.raises(ConfigError, match="squeezed=0 is not allowed; expected a whole number"):
        SqueezeExciteSpec(squeezed=0)


@torch.no_grad()
def test_sigmoid_gate_without_biases_is_equation_3() -> None:
    module = SqueezeExciteSpec(squeezed=3, gate="sigmoid", bias=False).build(6)
    assert [name for name, _ in module.named_parameters()] == ["reduce.weight", "expand.weight"]
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    w1, w2 = (p[:, :, 0, 0] for p in module.parameters())
    s = torch.sigmoid((x.mean((2, 3)) @ w1.T).clamp(min=0) @ w2.T)
    torch.testing.assert_close(module(x), x * s[:, :, None, None])


def test_squeeze_excite_without_biases_has_2_c_squared_over_r_parameters() -> None:
    spec = attention_spec("se", 256, 16)
    assert spec is not None
    assert sum(p.numel() for p in spec.build(256).parameters()) == 2 * 256**2 // 16


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "bias"), [(7, True), (3, False)])
def test_cbam_is_the_equations_of_its_paper(kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    module = CbamSpec(squeezed=2, kernel=kernel, bias=bias).build(6)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    state = module.state_dict()
    x = torch.randn(2, 6, 5, 4)

    def mlp(pooled: Tensor) -> Tensor:  # (N, C), for means and maxima alike
        hidden = torch.einsum("nc,hc->nh", pooled, state["reduce.weight"][:, :, 0, 0])
        hidden = (hidden + state.get("reduce.bias", torch.zeros(()))).clamp(min=0)
        out = torch.einsum("nh,ch->nc", hidden, state["expand.weight"][:, :, 0, 0])
        return torch.add(out, state.get("expand.bias", torch.zeros(())))

    flat = x.flatten(2)
    channel = torch.sigmoid(mlp(flat.mean(2)) + mlp(flat.max(2).values))  # M_c
    scaled = torch.einsum("nchw,nc->nchw", x, channel)  # F'
    maps = torch.stack([scaled.mean(1), scaled.max(1).values], 1)
    padded = nn.functional.pad(maps, (kernel // 2,) * 4)
    windows = padded.unfold(2, kernel, 1).unfold(3, kernel, 1)  # (N, 2, H, W, k, k)
    spatial = torch.einsum("nihwkl,ikl->nhw", windows, state["spatial.weight"][0]).sigmoid()  # M_s
    torch.testing.assert_close(module(x), scaled * spatial[:, None])


def test_cbam_has_no_more_than_a_shared_mlp_and_98_weights() -> None:
    spec = attention_spec("cbam", 256)
    assert spec == CbamSpec(squeezed=16, kernel=7, bias=True)
    shapes = {name: tuple(p.shape) for name, p in spec.build(256).named_parameters()}
    assert shapes == {
        "reduce.weight": (16, 256, 1, 1),
        "reduce.bias": (16,),
        "expand.weight": (256, 16, 1, 1),
        "expand.bias": (256,),
        "spatial.weight": (1, 2, 7, 7),
    }


def test_cbam_counts_what_it_builds() -> None:
    spec = CbamSpec(squeezed=8)
    layers = spec.layers(16, (5, 4), kept=7)
    counted = sum(layer.parameters for layer in layers)
    assert counted == sum(p.numel() for p in spec.build(16).parameters())
    assert [layer.macs for layer in layers] == [2 * 128, 2 * 128, 98 * 20]  # the MLP runs twice
    assert [layer.kept for layer in layers] == [320 + 7] * 3


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("spec", [SqueezeExciteSpec(squeezed=2), CbamSpec(squeezed=2)], ids=str)
def test_attention_keeps_shape_and_makes_nothing_larger(
    spec: SqueezeExciteSpec | CbamSpec, size: tuple[int, int]
) -> None:
    x = torch.randn(2, 6, *size)
    out = spec.build(6)(x)
    assert out.shape == x.shape
    assert bool((out.abs() <= x.abs()).all())


@pytest.mark.parametrize(
    ("name", "bias", "expected"),
    [
        ("none", None, None),
        ("none", True, None),
        ("se", None, SqueezeExciteSpec(squeezed=4, gate="sigmoid", bias=False)),
        ("se", True, SqueezeExciteSpec(squeezed=4, gate="sigmoid", bias=True)),
        ("cbam", None, CbamSpec(squeezed=4, bias=True)),
        ("cbam", False, CbamSpec(squeezed=4, bias=False)),
    ],
)
def test_attention_spec_takes_the_paper_s_biases_unless_told(
    name: str, bias: bool | None, expected: SqueezeExciteSpec | CbamSpec | None
) -> None:
    assert attention_spec(name, 64, bias=bias) == expected


@pytest.mark.parametrize(
    ("channels", "reduction", "squeezed"), [(64, 16, 4), (64, 2, 32), (100, 16, 6), (8, 16, 1)]
)
def test_hidden_width_is_channels_over_r_and_at_least_1(
    channels: int, reduction: int, squeezed: int
) -> None:
    for name in ("se", "cbam"):
        spec = attention_spec(name, channels, reduction)
        assert spec is not None
        assert spec.squeezed == squeezed


@pytest.mark.parametrize("name", ["none", "se", "cbam"])
def test_attention_spec_refuses_a_reduction_below_1(name: str) -> None:
    message = "reduction=0 is not allowed; expected a whole number from 1 up"
    with pytest.raises(ConfigError, match=message):
        attention_spec(name, 64, 0)


def test_attention_spec_refuses_an_unknown_name() -> None:
    message = r"attention='see' is unknown; expected one of \['cbam', 'none', 'se'\]. Did you mean"
    with pytest.raises(ConfigError, match=message):
        attention_spec("see", 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"squeezed": 0}, "squeezed=0 is not allowed; expected a whole number from 1 up"),
        ({"kernel": 0}, "kernel=0 is not allowed; expected a whole number from 1 up"),
        ({"kernel": 4}, "kernel=4 is even; expected an odd number such as 7"),
    ],
)
def test_cbam_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CbamSpec(**{"squeezed": 4, **change})


def test_squeeze_excite_refuses_an_unknown_gate() -> None:
    gate: Any = "tanh"
    message = r"gate='tanh' is unknown; expected one of \['hsigmoid', 'sigmoid'\]"
    with pytest.raises(ConfigError, match=message):
        SqueezeExciteSpec(squeezed=4, gate=gate)
