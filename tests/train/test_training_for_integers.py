"""Training for integers: folding and rounding keep their laws, and a killed training goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StoredPixels
from pocketvision.data.transforms import eval_batch
from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.runtime import FileCard
from pocketvision.train.batches import PixelSource
from pocketvision.train.fake_quant import fake_quantized, fold_norms, strip
from pocketvision.train.quantization_aware import QatConfig, train_for_integers

PRE = Preprocessing(resolution=32, side=32)
CONFIG = QatConfig(epochs=2, batch_size=8, calibration_images=8, threads=1)
FAMILIES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet_a1",
    "shufflenet_v1_g3",
    "shufflenet_v2_x0_5",
    "se_resnet18",
    "cbam_resnet18",
    "bn_inception",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PixelSource:
    """24 noisy images of two classes, one dark and one bright."""
    labels = np.arange(24) % 2
    noise = np.random.default_rng(0).integers(0, 60, (24, 32, 32, 3))
    pixels = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("store") / "pixels"
    pixels.tofile(path)
    stored = StoredPixels(path=path, rows=24, side=32)
    return PixelSource(pixels=stored, indices=np.arange(24), labels=labels)


def settled(name: str) -> Network:
    """A network whose norms have seen images, so that folding them is no identity."""
    network = registry.spec(name, resolution=32, num_classes=2).build(seed=0)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def small() -> Network:
    return settled("mobilenet_v3_small")


def images(source: PixelSource) -> torch.Tensor:
    return torch.from_numpy(source.pixels.take(np.arange(8)))


@pytest.mark.parametrize("name", FAMILIES)
def test_folding_keeps_what_a_network_answers(name: str, source: PixelSource) -> None:
    network = settled(name)
    x = eval_batch(images(source), PRE)
    with torch.no_grad():
        expected, found = network(x), fold_norms(network)(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=2e-5 * max(scale, 1.0), rtol=1e-4)


def test_folding_leaves_no_norm_behind_a_convolution(small: Network) -> None:
    folded = fold_norms(small)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in small.modules())


def test_weights_take_as_many_values_as_integers_have(small: Network, source: PixelSource) -> None:
    for bits, most in ((8, 255), (7, 129)):
        rounded = fake_quantized(small, images(source), PRE, weight_bits=bits)
        for module in rounded.network.modules():
            if isinstance(module, nn.Conv2d):
                for channel in module.weight.detach():
                    assert len(torch.unique(channel)) <= most
    with pytest.raises(ConfigError, match=r"weight_bits=6 is out of range; expected 7 to 8"):
        fake_quantized(small, images(source), PRE, weight_bits=6)


def test_rounded_network_answers_nearly_as_it_did(small: Network, source: PixelSource) -> None:
    x = eval_batch(images(source), PRE)
    rounded = fake_quantized(small, images(source), PRE)
    with torch.no_grad():
        expected, found = small(x), rounded(x)
    assert not torch.equal(expected, found)
    assert float((expected - found).abs().max()) < 0.2 * float(expected.abs().max())


def test_gradient_reaches_every_weight(small: Network, source: PixelSource) -> None:
    rounded = fake_quantized(small, images(source), PRE).train()
    rounded(eval_batch(images(source), PRE)).square().sum().backward()
    missing = [n for n, p in rounded.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_stripped_network_is_plain_and_exports(
    small: Network, source: PixelSource, tmp_path: Path
) -> None:
    plain = strip(fake_quantized(small, images(source), PRE))
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    path = tmp_path / "plain.onnx"
    export_onnx(plain, path, FileCard(name="plain", classes=("a", "b"), preprocessing=PRE))
    assert path.stat().st_size > 0


def tuned(
    network: Network,
    source: PixelSource,
    folder: Path,
    config: QatConfig = CONFIG,
    on_step: Callable[[int, int, str], None] | None = None,
) -> dict[str, torch.Tensor]:
    made = train_for_integers(
        network,
        train=source,
        val=source,
        preprocessing=PRE,
        config=config,
        folder=folder,
        on_step=on_step,
    )
    return dict(made.state_dict())


def test_same_seed_gives_the_same_bits_and_a_broken_training_goes_on_to_them(
    small: Network, source: PixelSource, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    whole = tuned(small, source, tmp_path / "whole")

    class Interrupted(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        tuned(small, source, tmp_path / "broken", on_step=stop)
    again = tuned(small, source, tmp_path / "broken")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())


def test_labels_may_be_absent_from_all_images_but_not_from_some(
    small: Network, source: PixelSource, tmp_path: Path
) -> None:
    none = replace(source, labels=np.full(24, -1))
    assert tuned(small, none, tmp_path / "none", replace(CONFIG, epochs=1))
    some = replace(source, labels=np.where(np.arange(24) < 5, -1, source.labels))
    with pytest.raises(ConfigError, match=r"5 of 24 images have no label"):
        tuned(small, some, tmp_path / "some")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_share": 2.0}, r"label_share=2.0 is out of range"),
        ({"weight_bits": 4}, r"weight_bits=4 is out of range"),
        ({"calibration_images": 0}, r"calibration_images=0 is out of range"),
        ({"epochs": 0}, r"epochs=0"),
    ],
)
def test_impossible_trainings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QatConfig(**options)  # type: ignore[arg-type]
