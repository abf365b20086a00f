"""Other implementations as fixtures; where one is absent or broken, its tests skip and say why."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from other import AbsentError, import_other
from torch import nn

from pocketvision.models.arch import ArchSpec, Network

with suppress(AbsentError):  # before anything else imports it, as torchmetrics does
    import_other("torchvision")


@pytest.fixture(scope="session")
def torchvision() -> Any:
    return _import_or_skip("torchvision")


@pytest.fixture(scope="session")
def timm(torchvision: Any) -> Any:
    return _import_or_skip("timm")  # its data module imports torchvision, which must work by then


@pytest.fixture(scope="session")
def build() -> Callable[[ArchSpec], Network]:
    """Seeded weights, and batch norms whose scales and statistics would show a mistake."""
    return _build


@pytest.fixture(scope="session")
def assert_twins() -> Callable[[nn.Module, nn.Module], None]:
    """Give the second network the first one's weights; both then give the same logits."""
    return _assert_twins


def _build(spec: ArchSpec) -> Network:
    network = spec.build(seed=0)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in [
                (module.weight.data, 0.8, 1.4),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ]:
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return network


@torch.no_grad()
def _assert_twins(source: nn.Module, target: nn.Module) -> None:
    _transplant(source, target)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = source.eval()(x)
    assert expected.std() > 1e-3  # not all the same by accident
    torch.testing.assert_close(target.eval()(x), expected, rtol=1e-4, atol=1e-4)


def _transplant(source: nn.Module, target: nn.Module) -> None:
    """Copy weights between modules whose tensors have the same order and, up to ones, shapes."""
    given, own = source.state_dict(), target.state_dict()
    assert len(given) == len(own)
    moved = {}
    for (name, value), (own_name, place) in zip(given.items(), own.items(), strict=True):
        assert value.squeeze().shape == place.squeeze().shape, f"{name} is not {own_name}"
        moved[own_name] = value.reshape(place.shape)
    target.load_state_dict(moved)


def _import_or_skip(name: str) -> Any:
    try:
        return import_other(name)
    except AbsentError as error:
        pytest.skip(str(error))
