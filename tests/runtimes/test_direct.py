"""Files written without the exporter answer as the network does; the contracts compare nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.models import registry
from pocketvision.models.answering import answering
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import ssdlite
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.int8.statistics import whole
from pocketvision.runtimes.onnxfile import OUTPUT, read_model
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard


def lively(spec: AnySpec) -> AnyNetwork:
    """With norms that do something, and maps that neither vanish nor grow."""
    network: AnyNetwork = spec.build(seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("norm.weight", "norm.bias")):
            tensor.copy_(0.2 + 0.4 * torch.rand(tensor.shape, generator=generator))
    with torch.no_grad():
        network(torch.randn(8, 3, spec.resolution, spec.resolution, generator=generator))
    return network.eval()


def small(name: str) -> ArchSpec:
    """As narrow as the papers have it, where they have it narrower: the nodes are the same."""
    narrowest = min(registry.widths(name))
    width = narrowest if narrowest < 1 else None
    return registry.spec(name, width=width, resolution=32, num_classes=7)


def card(spec: AnySpec) -> FileCard:
    return FileCard(
        name=spec.label,
        classes=tuple("abcdefg"),
        preprocessing=Preprocessing.for_resolution(spec.resolution),
        task=task_of(spec),
    )


def by_depth(name: str) -> object:
    """The deepest networks hold the same blocks as their shallow siblings, and take seconds."""
    deep = name.endswith(("101", "152"))
    return pytest.param(name, marks=pytest.mark.slow) if deep else name


@torch.no_grad()
def check(spec: AnySpec, folder: Path) -> None:
    """Raises: AssertionError: the file does not answer as the network does."""
    network, side = lively(spec), spec.resolution
    write_directly(network, folder / "n.onnx", card(spec))
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    pre = card(spec).preprocessing
    images = (torch.from_numpy(pixels) - torch.tensor(pre.mean)) / torch.tensor(pre.std)
    expected = answering(network)(images.permute(0, 3, 1, 2).contiguous())
    raw, answers = (expected, expected) if isinstance(expected, torch.Tensor) else expected
    model = read_model(folder / "n.onnx")
    onnx.checker.check_model(model, full_check=True)
    found = whole(model, OUTPUT, [pixels])
    np.testing.assert_allclose(found, raw.numpy(), rtol=0, atol=1e-4 * float(raw.abs().max()))
    told = get_runtime("onnxruntime").session(folder / "n.onnx", "f32", 1).run(pixels)
    assert (np.abs(told - answers.numpy()) <= 1e-4 * float(answers.abs().max())).mean() > 0.999


def with_lr_aspp(backbone: ArchSpec, classes: int) -> AnySpec:
    return TASKS["segment"].network(backbone, classes, None)


def with_r_aspp(backbone: ArchSpec, classes: int) -> AnySpec:
    return r_aspp(backbone, classes, output_stride=32)


@pytest.mark.parametrize("name", [by_depth(name) for name in registry.list_models()])
def test_answers_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    check(small(name), tmp_path)


@pytest.mark.parametrize("head", [with_lr_aspp, with_r_aspp, ssdlite])
@pytest.mark.parametrize(
    "name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2_x0_5", "resnet18"]
)
def test_what_stands_on_a_backbone_answers_as_the_network(
    name: str, head: Callable[[ArchSpec, int], AnySpec], tmp_path: Path
) -> None:
    width = 0.25 if name.startswith("mobilenet") else None
    check(head(registry.spec(name, width=width, resolution=96), 7), tmp_path)


def test_windows_of_a_large_map(tmp_path: Path) -> None:
    body = registry.spec("mobilenet_v3_small", width=0.35, resolution=1120)
    check(lr_aspp(body, 7), tmp_path)  # its last map has 70 x 70 places: 2 x 2 windows
