import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchNetwork
from pocketvision.nn.attention import Attention, CbamSpec, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec


@pytest.mark.parametrize("attention", [None, SqueezeExciteSpec(squeezed=4), CbamSpec(squeezed=4)])
@pytest.mark.parametrize(("bands", "window"), [(15, 11), (1, 3), (200, 5)])
def test_parameters_and_macs_are_those_of_the_module(
    bands: int, window: int, attention: Attention | None
) -> None:
    spec = mobile_patch(bands=bands, window=window, num_classes=7, attention=attention)
    with torch.device("meta"):
        module = PatchNetwork(spec).eval()
        x = torch.zeros(1, bands, window, window)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        assert module(x).shape == (1, 7)
    assert sum(layer.macs for layer in spec.layers()) * 2 == counter.get_total_flops()
    assert sum(layer.parameters for layer in spec.layers()) == sum(
        p.numel() for p in module.parameters()
    )


def test_a_hundredth_of_hybridsn_s_parameters() -> None:
    small = mobile_patch(bands=30, num_classes=16).layers()
    large = hybridsn(bands=30, num_classes=16).layers()
    assert sum(layer.parameters for layer in small) == 54_128
    assert sum(layer.macs for layer in small) == 11_112_704
    assert 90 < sum(layer.parameters for layer in large) / 54_128 < 100


@pytest.mark.parametrize("window", range(3, 103, 2))
def test_blocks_leave_one_pixel_of_any_window(window: int) -> None:
    spec = mobile_patch(bands=4, window=window, num_classes=2)
    blocks = [block for block in spec.planes if isinstance(block, InvertedResidualSpec)]
    assert sum(block.kernel - 1 for block in blocks) == window - 1
    assert sum(block.kernel == 3 for block in blocks) == (window // 2) % 2
    assert spec.head.size == 1
    assert all(block.has_skip for block in blocks)


@pytest.mark.parametrize("window", [1, 10, 103])
def test_window_that_cannot_be_is_refused(window: int) -> None:
    with pytest.raises(ConfigError, match=f"window={window} is not allowed; expected an odd numb"):
        mobile_patch(bands=15, window=window, num_classes=2)


def test_no_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match="c_in=0 is not allowed"):
        mobile_patch(bands=0, window=9, num_classes=2)
