import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch import PatchNetwork
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec

# Roy et al., HybridSN, Table I: Indian Pines, window 25.
LAYERS = (
    #   parameters  map: channels, bands, side
    (512, (8, 24, 23)),
    (5_776, (16, 20, 21)),
    (13_856, (32, 18, 19)),
    (331_840, (64, 1, 17)),
    (4_735_232, (256, 1, 1)),
    (32_896, (128, 1, 1)),
    (2_064, (16, 1, 1)),
)


@pytest.mark.parametrize(
    ("bands", "window", "classes", "parameters"),
    [
        (30, 25, 16, 5_122_176),  # Indian Pines
        (15, 25, 9, 4_844_793),  # Pavia University
        (15, 25, 16, 4_845_696),  # Salinas
        (30, 19, 16, 2_369_664),
        (30, 21, 16, 3_156_096),
        (30, 23, 16, 4_073_600),
    ],
)
def test_hybridsn_has_the_published_parameters(
    bands: int, window: int, classes: int, parameters: int
) -> None:
    spec = hybridsn(bands=bands, window=window, num_classes=classes)
    assert sum(layer.parameters for layer in spec.layers()) == parameters
    with torch.device("meta"):
        module = PatchNetwork(spec)
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_layers_are_those_of_table_1() -> None:
    layers = hybridsn(bands=30, num_classes=16).layers()
    assert (
        tuple(
            (layer.parameters, (layer.c_out, layer.out_depth, layer.out_size[0]))
            for layer in layers
        )
        == LAYERS
    )
    assert layers[3].c_in == 576  # 32 channels x 18 bands
    assert layers[4].c_in == 18_496  # 64 channels x 17 x 17


@pytest.mark.parametrize(
    "attention", [None, SqueezeExciteSpec(squeezed=4), CbamSpec(squeezed=4)], ids=str
)
@pytest.mark.parametrize(("bands", "window"), [(30, 25), (15, 19), (13, 9)])
def test_macs_are_those_of_the_module(
    bands: int, window: int, attention: SqueezeExciteSpec | CbamSpec | None
) -> None:
    spec = hybridsn(bands=bands, window=window, num_classes=16, attention=attention)
    with torch.device("meta"):
        module = PatchNetwork(spec).eval()
        x = torch.zeros(1, bands, window, window)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(x)
    assert sum(layer.macs for layer in spec.layers()) * 2 == counter.get_total_flops()
    assert sum(layer.parameters for layer in spec.layers()) == sum(
        p.numel() for p in module.parameters()
    )


def test_hybridsn_of_the_paper_has_248_million_macs() -> None:
    assert sum(layer.macs for layer in hybridsn(bands=30, num_classes=16).layers()) == 247_683_392


def test_neither_norms_nor_other_dropout_than_published() -> None:
    modules = list(hybridsn(bands=13, window=9, num_classes=4).build().modules())
    assert not [m for m in modules if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d)]
    assert [m.p for m in modules if isinstance(m, torch.nn.Dropout)] == [0.4]


def test_smallest_network_leaves_one_pixel_and_one_band() -> None:
    spec = hybridsn(bands=13, window=9, num_classes=4)
    assert (spec.head.size, spec.planes[0].c_in) == (1, 32)
    assert spec.build(0)(torch.zeros(2, 13, 9, 9)).shape == (2, 4)


@pytest.mark.parametrize(("bands", "window"), [(12, 25), (30, 7)])
def test_too_little_to_convolve_is_refused(bands: int, window: int) -> None:
    message = (
        "at least 13 bands after reduction and a window of at least 9; "
        f"got bands={bands}, window={window}"
    )
    with pytest.raises(ConfigError, match=message):
        hybridsn(bands=bands, window=window, num_classes=16)


@pytest.mark.parametrize("window", [1, 24, 103])
def test_window_that_has_no_centre_or_no_sense_is_refused(window: int) -> None:
    with pytest.raises(ConfigError, match=f"window={window} is not allowed; expected an odd numb"):
        hybridsn(bands=30, window=window, num_classes=16)
