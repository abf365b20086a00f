import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec

SPECS = [
    *(
        registry.spec(name, width=width, resolution=resolution, num_classes=7, in_chans=in_chans)
        for name in registry.list_models()
        for width, resolution, in_chans in [(1.0, 224, 3), (min(registry.widths(name)), 97, 1)]
    ),
    mobilenet_v3_large(dilated=True, reduced_tail=True, resolution=130),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_count_agrees_with_the_module(spec: ArchSpec) -> None:
    shapes: dict[torch.nn.Module, tuple[int, int]] = {}  # calls of a shared layer add up

    def add(module: torch.nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
        read, written = shapes.get(module, (0, 0))
        shapes[module] = (read + inputs[0].numel(), written + out.numel())

    with torch.device("meta"):
        network = Network(spec).eval()
        x = torch.zeros(1, spec.in_chans, spec.resolution, spec.resolution)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(add)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(x)
    result = count(spec)
    assert result.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert result.macs * 2 == counter.get_total_flops()
    layers = [(layer.in_elements, layer.out_elements) for layer in result.layers]
    assert layers == list(shapes.values())


def test_totals_are_the_sums_over_layers() -> None:
    result = count(registry.spec("mobilenet_v3_small"))
    assert result.macs == sum(layer.macs for layer in result.layers)
    assert result.parameters == sum(layer.parameters for layer in result.layers)


def test_resolution_given_is_the_one_counted() -> None:
    spec = registry.spec("mobilenet_v2")
    assert count(spec, 96) == count(spec.at(96))
    assert count(spec, 96).parameters == count(spec).parameters


def test_peak_is_the_largest_layer_with_what_is_kept() -> None:
    spec = ArchSpec(
        name="tiny",
        width=1.0,
        in_chans=3,
        resolution=32,
        blocks=(
            ConvSpec(c_in=3, c_out=8, stride=2),
            InvertedResidualSpec(c_in=8, c_mid=48, c_out=8),
        ),
        head=ClassifierSpec(c_in=8, num_classes=10),
    )
    pixels = 16 * 16
    depthwise = 48 * pixels + 48 * pixels + 8 * pixels  # input, output, the residual
    assert count(spec).peak_activation_bytes == 4 * depthwise


def test_peak_of_mobilenet_v2_is_the_first_expanded_depthwise_layer() -> None:
    # 16 channels at 112 x 112 expand to 96; the stride 2 layer that follows holds 96 at both sizes.
    expected = max(96 * (112**2 + 56**2), (16 + 96) * 112**2)
    assert count(registry.spec("mobilenet_v2")).peak_activation_bytes == 4 * expected


@pytest.mark.parametrize("name", registry.list_models())
def test_macs_and_memory_grow_with_the_resolution(name: str) -> None:
    counts = [count(registry.spec(name), side) for side in range(32, 225, 32)]
    for small, large in itertools.pairwise(counts):
        assert small.macs < large.macs
        assert small.peak_activation_bytes < large.peak_activation_bytes


def test_count_refuses_a_resolution_below_32() -> None:
    with pytest.raises(ConfigError, match="resolution=16 is not allowed; expected a whole number"):
        count(registry.spec("mobilenet_v2"), 16)
