"""What every registered network must do; a new entry is covered unasked."""

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry, weights
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.detector import ssdlite
from pocketvision.models.segmenter import lr_aspp
from pocketvision.models.taps import FeatureNetwork
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxfile import read_model
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import from_json, to_json

NAMES = registry.list_models()
EXPORTED = ("mobilenet_v3_small",)


def takes_width(name: str) -> bool:
    try:
        return registry.spec(name, width=0.25).width == 0.25
    except ConfigError:
        return False


def small_spec(name: str) -> ArchSpec:
    width = min(0.25, *registry.widths(name)) if takes_width(name) else None
    return registry.spec(name, width=width, resolution=64, num_classes=7, in_chans=1)


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Network:
    return small_spec(request.param).build(seed=0).eval()


def images(batch: int, side: int) -> torch.Tensor:
    return torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize(("batch", "side"), [(2, 64), (1, 32), (1, 33), (1, 47), (3, 65)])
def test_logits_have_their_shape_at_any_size(network: Network, batch: int, side: int) -> None:
    logits = network(images(batch, side))
    assert logits.shape == (batch, 7)
    assert logits.isfinite().all()


@torch.no_grad()
def test_input_need_not_be_square(network: Network) -> None:
    assert network(torch.zeros(1, 1, 33, 70)).shape == (1, 7)


@torch.no_grad()
def test_images_of_a_batch_do_not_mix_in_eval_mode(network: Network) -> None:
    batch = images(3, 32)
    torch.testing.assert_close(network(batch)[1:2], network(batch[1:2]), rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 45])
def test_features_have_the_stated_channels_and_strides(network: Network, side: int) -> None:
    features = network.features(images(1, side))
    assert {stride: x.shape[1] for stride, x in features.items()} == network.spec.feature_channels
    assert list(features) == [2, 4, 8, 16, 32]
    for stride, x in features.items():
        assert x.shape[2:] == (-(-side // stride),) * 2


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = small_spec(name).build(seed=1).train()  # narrow gates can be shut by chance
    network(images(4, 64)).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


def test_spec_round_trips_through_json(network: Network) -> None:
    again = from_json(ArchSpec, to_json(network.spec), source="a test")
    assert again == network.spec
    assert hash(again) == hash(network.spec)


@torch.no_grad()
def test_saved_network_gives_equal_logits(network: Network, tmp_path: Path) -> None:
    weights.save(network, tmp_path)
    loaded, _ = weights.load(tmp_path)
    assert torch.equal(loaded(images(2, 32)), network(images(2, 32)))


def test_count_from_the_spec_is_the_module_s(network: Network) -> None:
    assert count(network.spec).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if takes_width(name)])
@pytest.mark.parametrize("width", [0.1, 0.33, 1.07])
def test_any_width_chains(name: str, width: float) -> None:
    spec = registry.spec(name, width=width)  # it checks that widths chain
    assert (spec.width, spec.num_classes) == (width, 1000)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("mobilenet")])
@pytest.mark.parametrize("width", [0.1, 0.33, 1.07])
def test_widths_of_mobilenets_are_multiples_of_8(name: str, width: float) -> None:
    assert all(block.c_out % 8 == 0 for block in registry.spec(name, width=width).blocks)


@torch.no_grad()
def test_features_only_gives_the_same_maps(network: Network) -> None:
    body = FeatureNetwork(network, tuple(range(5))).eval()
    maps, expected = body(images(1, 45)), network.features(images(1, 45))
    assert body.strides == tuple(expected)
    for stride, found in zip(body.strides, maps, strict=True):
        assert torch.equal(found, expected[stride])


@torch.no_grad()
def test_network_is_the_body_of_a_segmenter_and_of_a_detector(network: Network) -> None:
    segmenter = lr_aspp(network.spec, 3, output_stride=32).build(seed=0).eval()
    assert segmenter(images(1, 45)).shape == (1, 3, 45, 45)
    assert count(segmenter.spec).parameters == sum(p.numel() for p in segmenter.parameters())
    detector = ssdlite(network.spec, 3).build(seed=0).eval()
    assert detector(images(1, 64))[0].shape == (1, detector.spec.num_anchors, 3)
    assert count(detector.spec).parameters == sum(p.numel() for p in detector.parameters())


@torch.no_grad()
def test_forward_is_the_head_on_the_features(network: Network) -> None:
    x = images(2, 32)
    features = network.forward_features(x)
    assert features.shape == (2, network.spec.head.c_in, 1, 1)
    assert torch.equal(network.head(features), network(x))


@torch.no_grad()
def test_reset_classifier_changes_the_number_of_logits_alone(network: Network) -> None:
    changed = copy.deepcopy(network)
    changed.reset_classifier(3)
    assert changed.spec == network.spec.with_classes(3)
    assert changed(images(1, 32)).shape == (1, 3)
    assert not changed.head.training
    after = changed.state_dict()
    for key, tensor in network.state_dict().items():
        assert key.startswith("head.classifier.") or torch.equal(after[key], tensor), key


@torch.no_grad()
def settled(network: Network, images: torch.Tensor) -> Network:
    """With the images' statistics in its norms: without, signals grow from unit to unit."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain average of what was seen
    network.train()(images)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in EXPORTED else pytest.mark.slow) for name in NAMES],
)
def test_exported_file_gives_the_network_s_logits(name: str, tmp_path: Path) -> None:
    """One by default."""
    spec = registry.spec(name, width=small_spec(name).width, resolution=64, num_classes=7)
    pre = Preprocessing.for_resolution(64)
    pixels = torch.randint(256, (8, 64, 64, 3), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(pre.mean), torch.tensor(pre.std)
    images = ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
    network = settled(spec.build(seed=0), images)
    card = FileCard(name=name, classes=tuple("abcdefg"), preprocessing=pre)
    export_onnx(network, tmp_path / "n.onnx", card)
    write_directly(network, tmp_path / "direct.onnx", card)
    assert operators(tmp_path / "direct.onnx") == operators(tmp_path / "n.onnx")
    session = get_runtime("onnxruntime").session(tmp_path / "n.onnx", "f32", 1)
    found = torch.from_numpy(session.run(pixels.byte().numpy()))
    torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-4)


def operators(path: Path) -> Counter[str]:
    """How often each occurs. The exporter flattens in two ways, which do the same."""
    nodes = read_model(path).graph.node
    return Counter("Flatten" if node.op_type == "Reshape" else node.op_type for node in nodes)


def test_pools_are_plain(network: Network) -> None:
    pools = [m for m in network.modules() if isinstance(m, torch.nn.AdaptiveAvgPool2d)]
    assert pools
    assert all(pool.output_size == 1 for pool in pools)
