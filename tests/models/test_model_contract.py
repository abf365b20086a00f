"""What every registered network must do; a new entry is covered unasked."""

from pathlib import Path

import pytest
import torch

from pocketvision.measure.count import count
from pocketvision.models import registry, weights
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.storage import from_json, to_json

NAMES = registry.list_models()


def small_spec(name: str) -> ArchSpec:
    return registry.spec(
        name, width=min(registry.widths(name)), resolution=64, num_classes=7, in_chans=1
    )


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
    network = small_spec(name).build(seed=0).train()
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [0.1, 0.33, 1.07])
def test_any_width_chains_and_is_divisible(name: str, width: float) -> None:
    spec = registry.spec(name, width=width)
    assert all(block.c_out % 8 == 0 for block in spec.blocks)
    assert spec.num_classes == 1000


def test_pools_are_plain(network: Network) -> None:
    pools = [m for m in network.modules() if isinstance(m, torch.nn.AdaptiveAvgPool2d)]
    assert pools
    assert all(pool.output_size == 1 for pool in pools)
