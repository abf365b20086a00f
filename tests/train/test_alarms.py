"""The rules by which a training that went wrong is named, and each of them happening."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from courses import classification
from torch import nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StoredPixels
from pocketvision.data.transforms import eval_batch
from pocketvision.errors import GateError
from pocketvision.measure.accuracy import accuracy
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.record.scores import Score
from pocketvision.train import alarms
from pocketvision.train.alarms import Diverged
from pocketvision.train.batches import PixelSource
from pocketvision.train.config import TrainConfig
from pocketvision.train.trainer import CHECKPOINT, fit

PRE = Preprocessing(resolution=32, side=32)
CONFIG = TrainConfig(epochs=4, batch_size=8, warmup_epochs=1, learning_rate=1e-2)
LABELS = np.arange(24) % 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PixelSource:
    """24 noisy images of two classes, one dark and one bright."""
    noise = np.random.default_rng(0).integers(0, 60, (24, 32, 32, 3))
    pixels = (noise + 150 * LABELS[:, None, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("store") / "pixels"
    pixels.tofile(path)
    stored = StoredPixels(path=path, rows=24, shape=(32, 32, 3))
    return PixelSource(pixels=stored, indices=np.arange(24), labels=LABELS)


def network(seed: int = 0) -> Network:
    return registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(seed=seed)


def train(net: Network, source: PixelSource, folder: Path, config: TrainConfig) -> None:
    fit(classification(net, source, PRE, config), folder=folder)


def score(net: nn.Module, source: PixelSource) -> Score:
    with torch.no_grad():
        images = eval_batch(torch.from_numpy(source.pixels.take(source.indices)), PRE)
        named = net(images).argmax(1).numpy()
    return accuracy(int((named == source.labels).sum()), len(named))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.nan, 1e9])
def test_loss_that_is_none_or_far_beyond_guessing_is_a_divergence(loss: float) -> None:
    with pytest.raises(Diverged, match=r"The training loss became \S+ at step 7\."):
        alarms.check_loss(loss, 10, 1.0, "at step 7")
    assert issubclass(Diverged, GateError)


def test_loss_of_a_bad_start_or_of_a_heavy_class_is_none() -> None:
    alarms.check_loss(3 * math.log(10), 10, 1.0, "at step 1")
    alarms.check_loss(100.0, 10, 40.0, "at step 1")
    with pytest.raises(Diverged, match="became 100 in epoch 2"):
        alarms.check_loss(100.0, 10, 1.0, "in epoch 2")


def test_learning_rate_far_too_high_diverges_and_leaves_no_checkpoint_of_it(
    source: PixelSource, tmp_path: Path
) -> None:
    wild = replace(CONFIG, learning_rate=100.0, warmup_epochs=0)
    with pytest.raises(Diverged, match=r"The training loss became \S+ at step \d+\."):
        train(network(), source, tmp_path, wild)
    if (tmp_path / CHECKPOINT).exists():
        train(network(), source, tmp_path, CONFIG)


def test_rate_is_lowered_to_a_tenth_but_stays_allowed() -> None:
    assert alarms.lowered_rate(0.1) == pytest.approx(0.01)
    TrainConfig(learning_rate=alarms.lowered_rate(1e-8))


@pytest.mark.parametrize(("epoch", "place"), [(0, "its start"), (3, "epoch 3")])
def test_divergence_is_told_with_both_rates(epoch: int, place: str) -> None:
    error = Diverged("The training loss became nan at step 5.")
    alarm = alarms.divergence_alarm(error, epoch=epoch, rate=0.1, lowered=0.01)
    assert alarm.severity == "warning"
    assert alarm.code == alarms.DIVERGED
    assert alarm.sentence == (
        f"The training loss became nan at step 5. The training went back to {place} and on at a "
        "learning rate of 0.01 instead of 0.1."
    )


def test_batch_norms_that_lag_are_named_with_both_figures(
    source: PixelSource, tmp_path: Path
) -> None:
    """With so small a momentum the statistics stay those of the start, whatever is learned."""
    net = network()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1e-6
    train(net, source, tmp_path, replace(CONFIG, epochs=40))
    running, batch = score(net, source), score(alarms.batch_statistics(net), source)
    alarm = alarms.norm_alarm(running, batch)
    assert alarm is not None
    assert alarm.severity == "error"
    assert f"{running.value:.1%} of 24 training images right with them" in alarm.sentence
    assert f"{batch.value:.1%} with the statistics of each batch" in alarm.sentence


@pytest.mark.slow
def test_batch_norms_that_kept_up_are_not_named(source: PixelSource, tmp_path: Path) -> None:
    net = network()
    train(net, source, tmp_path, replace(CONFIG, epochs=40))
    assert (
        alarms.norm_alarm(score(net, source), score(alarms.batch_statistics(net), source)) is None
    )


def test_gap_within_the_noise_of_few_images_is_not_named() -> None:
    assert alarms.norm_alarm(accuracy(5, 10), accuracy(7, 10)) is None
    assert alarms.norm_alarm(accuracy(500, 1000), accuracy(590, 1000)) is None, "nine points"
    assert alarms.norm_alarm(accuracy(500, 1000), accuracy(700, 1000)) is not None


def test_gap_of_norms_is_told_in_the_metric_of_the_task() -> None:
    running = Score(value=0.35, low=0.3, high=0.4, n=128, metric="mIoU")
    alarm = alarms.norm_alarm(running, replace(running, value=0.6, low=0.55, high=0.65))
    assert alarm is not None
    assert "the network reaches mIoU 35.0% on 128 training images with them, and 60.0% with" in (
        alarm.sentence
    )


def test_twin_of_batch_statistics_leaves_the_network_alone() -> None:
    net = network().eval()
    net.spec.build(seed=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    twin = alarms.batch_statistics(net)
    twin(torch.rand(4, 3, 32, 32))
    assert not net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    norms = [m for m in twin.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training for norm in norms)
    assert not any(m.training for m in twin.modules() if isinstance(m, nn.Dropout))


def test_network_that_names_one_class_is_named_with_its_shares() -> None:
    alarm = alarms.majority_alarm([98, 2], [60, 40], ["cat", "<b>dog"])
    assert alarm is not None
    assert alarm.severity == "error"
    assert "names 'cat' for 98.0% of 100 val images, of which 60.0% are" in alarm.sentence


@pytest.mark.parametrize(
    ("named", "labels"),
    [([95, 5], [60, 40]), ([98, 2], [90, 10]), ([50, 50], [50, 50]), ([100], [100])],
)
def test_network_that_names_as_the_labels_do_is_well(named: list[int], labels: list[int]) -> None:
    assert alarms.majority_alarm(named, labels, ["a", "b"][: len(named)]) is None
