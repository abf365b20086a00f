"""Fake quantization: folding changes nothing, and roundings are where the INT8 file has them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quick import export_quickly
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import eval_batch
from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.runtimes.graph import Graph
from pocketvision.runtimes.int8.static import static_int8
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import PLAIN_INT8, FileCard
from pocketvision.train.fake_quant import (
    STEPS,
    FakeQuantized,
    Rounding,
    WeightIntegers,
    fake_quantized,
    fold_norms,
    integer_gate,
    least_error_range,
    strip,
)

PRE = Preprocessing(resolution=32, side=32)
CLASSES = 4
FAMILIES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v1_g3",
    "shufflenet_v2_x0_5",
    "mnasnet_a1",
    "se_resnet18",
    "cbam_resnet18",
    "se_inception",
)
GRAPHS = ("mobilenet_v3_small", "shufflenet_v1_g3", "cbam_resnet18")  # each has something special

Build = Callable[[str, int | None], Network]


def names(default: tuple[str, ...], all_names: tuple[str, ...]) -> list[object]:
    """Parameters: those by default, and the others under the marker slow."""
    return [n if n in default else pytest.param(n, marks=pytest.mark.slow) for n in all_names]


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """(16, 32, 32, 3) uint8: coarse noise of changing brightness."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (16, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
    return torch.from_numpy((coarse * generator.uniform(0.3, 1, (16, 1, 1, 1))).astype(np.uint8))


@pytest.fixture(scope="module")
def build(pixels: Tensor) -> Build:
    """name, number of blocks -> a narrow network in eval mode, with the statistics of `pixels`."""

    def made(name: str, first: int | None) -> Network:
        width = registry.widths(name)[0]
        spec = registry.spec(name, width=width, resolution=32, num_classes=CLASSES)
        blocks = spec.blocks[:first]
        head = replace(spec.head, c_in=blocks[-1].c_out)
        network = replace(spec, blocks=blocks, head=head).build(seed=0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain average of what was seen
        with torch.no_grad():
            network.train()(eval_batch(pixels, PRE))
        return network.eval()

    return made


@pytest.fixture(scope="module")
def network(build: Build) -> Network:
    """The first blocks of a MobileNetV3: h-swish, gates, 5x5 filters, a residual."""
    return build("mobilenet_v3_small", 6)


@pytest.fixture
def student(network: Network, pixels: Tensor) -> FakeQuantized:
    return fake_quantized(network, pixels, PRE)


def layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    found = dict(network.named_modules()).items()
    return {name: m for name, m in found if isinstance(m, nn.Conv2d | nn.Linear)}


@torch.no_grad()
@pytest.mark.parametrize("name", names(FAMILIES, tuple(registry.list_models())))
def test_folding_keeps_outputs(name: str, build: Build, pixels: Tensor) -> None:
    """In double precision, where nothing hides behind rounding."""
    network = build(name, None).double()
    before = copy.deepcopy(network.state_dict())
    folded = fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = eval_batch(pixels, PRE).double()
    torch.testing.assert_close(folded(images), network(images), rtol=1e-9, atol=1e-12)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@torch.no_grad()
def test_folded_network_is_right_in_train_mode_too(network: Network, pixels: Tensor) -> None:
    """Depthwise 5x5 convolutions have a way of their own there, which knows no bias."""
    folded, images = fold_norms(network), eval_batch(pixels, PRE)
    torch.testing.assert_close(
        folded.train().blocks(images), network.blocks(images), rtol=1e-3, atol=1e-3
    )


@torch.no_grad()
def test_norm_behind_no_convolution_stays_as_it_is(pixels: Tensor) -> None:
    parts = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    parts.eval()
    folded, images = fold_norms(parts), eval_batch(pixels, PRE)
    assert [type(part) for part in folded] == [type(part) for part in parts]
    assert torch.equal(folded(images), parts(images))


def test_norm_that_is_left_keeps_its_statistics(network: Network, pixels: Tensor) -> None:
    odd = copy.deepcopy(network)
    odd.head.act = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), nn.BatchNorm2d(1024), nn.Flatten())
    student = fake_quantized(odd, pixels, PRE).train()
    before = copy.deepcopy(student.state_dict())
    student(eval_batch(pixels, PRE))
    assert all(torch.equal(tensor, before[key]) for key, tensor in student.state_dict().items())


@pytest.mark.parametrize("name", names(GRAPHS, FAMILIES))
def test_roundings_are_where_the_integer_graph_has_them(
    name: str, build: Build, pixels: Tensor, tmp_path: Path
) -> None:
    """In the first blocks; later ones are like them."""
    network = build(name, 5)
    card = FileCard(name=name, preprocessing=PRE)
    export_quickly(network, tmp_path / "float.onnx", card)
    batches = [pixels[:2].numpy()]
    graph = Graph(static_int8(tmp_path / "float.onnx", tmp_path, batches, PLAIN_INT8).model)
    quantizers = [
        node
        for node in graph.proto.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants
    ]
    scales = {node.input[1] for node in quantizers} - {"gate_in_scale"}
    assert len(fake_quantized(network, pixels[:2], PRE).rounding) == len(scales)


@pytest.mark.parametrize(("bits", "levels"), [(7, 129), (8, 255)])
def test_weights_take_no_more_levels_than_their_bits(
    network: Network, pixels: Tensor, bits: int, levels: int
) -> None:
    student = fake_quantized(network, pixels, PRE, weight_bits=bits)
    plain = layers(fold_norms(network))
    for name, layer in layers(student.network).items():
        for channel, exact in zip(layer.weight, plain[name].weight, strict=True):
            assert len(channel.unique()) <= levels
            step = exact.abs().max() / (levels // 2)
            assert (channel - exact).abs().max() <= 0.501 * step


def test_unknown_number_of_bits_is_refused(network: Network, pixels: Tensor) -> None:
    with pytest.raises(ConfigError, match="weight_bits=4 is out of range; expected 7 to 8"):
        fake_quantized(network, pixels, PRE, weight_bits=4)


def test_pixels_of_another_size_are_refused_and_nothing_changes(
    student: FakeQuantized, pixels: Tensor
) -> None:
    before = student(eval_batch(pixels, PRE))
    with pytest.raises(ConfigError, match="pixels is 1x8x32x3; expected anyx32x32x3"):
        student.calibrate(pixels[:, :8], PRE)
    assert torch.equal(student(eval_batch(pixels, PRE)), before)


def test_range_holds_zero_and_gives_up_a_lone_outlier() -> None:
    values = torch.linspace(2, 3, 10_000)
    assert least_error_range(values, torch.tensor([0.0, 3.0])).tolist() == [0, 3]
    low, high = least_error_range(values - 3, torch.tensor([-1.0, 60.0])).tolist()
    assert (low, high) == (-1, 60 / STEPS)
    assert least_error_range(torch.zeros(5), torch.zeros(2)).tolist() == [0, 0]


def test_activations_are_rounded_to_256_values_zero_among_them() -> None:
    rounding = Rounding()
    rounding.range.copy_(torch.tensor([-1.0, 3.0]))
    values = torch.linspace(-2, 4, 10_001, requires_grad=True)
    rounded = rounding(values)
    assert len(rounded.unique()) == 256
    assert rounding(torch.zeros(1)).item() == 0
    inside = (values > -0.99) & (values < 2.99)
    assert (rounded - values)[inside].abs().max() <= 0.501 * 4 / 255
    rounded.sum().backward()
    assert values.grad is not None
    assert (values.grad[inside] == 1).all()
    assert (values.grad[(values < -1.1) | (values > 3.1)] == 0).all()


def test_gate_is_the_hard_sigmoid_in_steps() -> None:
    values = torch.linspace(-5, 5, 1001)
    gates = integer_gate(values)
    assert (gates.min().item(), gates.max().item()) == (0, 1)
    torch.testing.assert_close(gates, nn.functional.hardsigmoid(values), rtol=0, atol=1.01 / 255)
    torch.testing.assert_close(gates * 255, (gates * 255).round())


def test_gradient_reaches_every_weight_and_bias(student: FakeQuantized, pixels: Tensor) -> None:
    student.train()(eval_batch(pixels, PRE)).square().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_weights_are_learned_in_units_of_their_channels() -> None:
    """Those of channels that are scaled, out and in, are learned as if they were not."""
    out, into = torch.logspace(-3, 3, 6), torch.logspace(-1, 2, 5)
    weight = (out[:, None] * into)[:, :, None, None] * torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    integers = WeightIntegers(weight, 8)
    learned = integers.right_inverse(weight)
    torch.testing.assert_close(learned.abs(), torch.ones_like(weight))
    torch.testing.assert_close(integers(learned).abs().amax((1, 2, 3)), out * into.max())
    dead = WeightIntegers(torch.zeros(3, 2, 1, 1), 8)
    assert not dead(dead.right_inverse(torch.zeros(3, 2, 1, 1))).any()


@torch.no_grad()
def test_copy_computes_the_same_by_itself(student: FakeQuantized, pixels: Tensor) -> None:
    images = eval_batch(pixels, PRE)
    before, twin = student(images), copy.deepcopy(student)
    assert torch.equal(twin(images), before)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(student(images), before)
    assert not twin(images).any()


@torch.no_grad()
def test_stripped_network_is_plain_and_holds_the_integers(
    student: FakeQuantized, pixels: Tensor, tmp_path: Path
) -> None:
    images = eval_batch(pixels, PRE)
    before, plain = student(images), strip(student)
    assert isinstance(plain, Network)
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert {type(layer) for layer in layers(plain).values()} == {nn.Conv2d, nn.Linear}
    for name, layer in layers(student.network).items():
        assert torch.equal(layers(plain)[name].weight, layer.weight)
        assert layers(plain)[name].weight.requires_grad
    assert torch.equal(student(images), before), "stripping has to leave it as it was"
    again = strip(fake_quantized(plain, pixels, PRE))
    for name, layer in layers(plain).items():
        torch.testing.assert_close(layers(again)[name].weight, layer.weight, rtol=1e-5, atol=0)
    card = FileCard(name="stripped", preprocessing=PRE)
    export_quickly(plain, tmp_path / "model.onnx", card)
    logits = OnnxRuntime().session(tmp_path / "model.onnx", "f32", 1).run(pixels.numpy())
    np.testing.assert_allclose(logits, plain(images).numpy(), rtol=1e-3, atol=1e-4)
