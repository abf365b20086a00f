"""Files written without the exporter answer as the network does; the contracts compare nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard


def lively(spec: ArchSpec) -> Network:
    """With norms that do something, and maps that neither vanish nor grow."""
    network = spec.build(seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("norm.weight", "norm.bias")):
            tensor.copy_(0.2 + 0.4 * torch.rand(tensor.shape, generator=generator))
    with torch.no_grad():
        network(torch.randn(8, 3, 32, 32, generator=generator))
    return network.eval()


def small(name: str) -> ArchSpec:
    return registry.spec(name, resolution=32, num_classes=7)


def card(spec: ArchSpec) -> FileCard:
    return FileCard(
        name=spec.label,
        classes=tuple("abcdefg"),
        preprocessing=Preprocessing.for_resolution(spec.resolution),
    )


def by_depth(name: str) -> object:
    """The deepest networks hold the same blocks as their shallow siblings, and take seconds."""
    deep = name.endswith(("101", "152"))
    return pytest.param(name, marks=pytest.mark.slow) if deep else name


@torch.no_grad()
@pytest.mark.parametrize("name", [by_depth(name) for name in registry.list_models()])
def test_answers_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    spec = small(name)
    network = lively(spec)
    write_directly(network, tmp_path / "n.onnx", card(spec))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = get_runtime("onnxruntime").session(tmp_path / "n.onnx", "f32", 1).run(pixels)
    pre = card(spec).preprocessing
    images = (torch.from_numpy(pixels) - torch.tensor(pre.mean)) / torch.tensor(pre.std)
    expected = network(images.permute(0, 3, 1, 2).contiguous()).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)
