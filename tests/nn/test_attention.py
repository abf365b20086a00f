import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import SqueezeExcite, SqueezeExciteSpec


def test_squeeze_excite_scales_channels_by_the_gate_of_their_means() -> None:
    module = SqueezeExciteSpec(squeezed=3).build(6)
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
