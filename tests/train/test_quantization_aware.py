"""Quantization-aware training: the laws of a training, and what it is for."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pocketvision.compress.ladder import TRAINED_FOR
from pocketvision.cpu import cpu
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StoredPixels
from pocketvision.data.transforms import Augmentation, eval_batch
from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.nn.attention import SqueezeExcite, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.progress import Advance
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration, FileCard, Int8Config, Pixels
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.distillation import divergence
from pocketvision.train.fake_quant import fake_quantized, strip
from pocketvision.train.quantization_aware import (
    QatConfig,
    begin_near,
    correct_biases,
    train_for_integers,
)
from pocketvision.train.trainer import CHECKPOINT, fit
from pocketvision.train.watch import METRICS, read_metrics

PRE = Preprocessing(resolution=32, side=32)
STILL = Augmentation(min_scale=0.8, flip=0, brightness=0, contrast=0, saturation=0)
CONFIG = QatConfig(epochs=3, batch_size=8, calibration_images=8, threads=1, augmentation=STILL)


def tiny(classes: int) -> ArchSpec:
    """Depthwise convolutions between ReLUs, with gates on what they give."""

    def block(c_in: int, c_mid: int, c_out: int, stride: int) -> InvertedResidualSpec:
        gates = SqueezeExciteSpec(squeezed=8)
        return InvertedResidualSpec(
            c_in=c_in, c_mid=c_mid, c_out=c_out, stride=stride, act="relu", attention=gates
        )

    stem = ConvSpec(c_in=3, c_out=8, stride=2, act="relu")
    blocks = (stem, block(8, 24, 16, 2), block(16, 32, 16, 1), block(16, 48, 24, 2))
    head = ClassifierSpec(c_in=24, num_classes=classes, dropout=0.1)
    return ArchSpec(name="tiny", width=1.0, in_chans=3, resolution=32, blocks=blocks, head=head)


def stored(pixels: Pixels, path: Path) -> StoredPixels:
    pixels.tofile(path)
    return StoredPixels(path=path, rows=len(pixels), shape=(32, 32, 3))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PixelSource:
    """24 noisy images of two classes, one dark and one bright."""
    labels = np.arange(24) % 2
    noise = np.random.default_rng(0).integers(0, 60, (24, 32, 32, 3))
    pixels = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("store") / "pixels"
    return PixelSource(pixels=stored(pixels, path), indices=np.arange(24), labels=labels)


@pytest.fixture(scope="module")
def network(source: PixelSource) -> Network:
    built = tiny(2).build(seed=0)
    with torch.no_grad():
        built.train()(eval_batch(torch.from_numpy(source.pixels.take(source.indices)), PRE))
    return built.eval()


def run(
    network: Network,
    source: PixelSource,
    folder: Path,
    config: QatConfig = CONFIG,
    on_step: Advance | None = None,
    deadline: float | None = None,
) -> Network:
    return train_for_integers(
        network,
        train=source,
        val=source,
        preprocessing=PRE,
        config=config,
        folder=folder,
        on_step=on_step,
        deadline=deadline,
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return list(states[0]) == list(states[1]) and all(
        torch.equal(tensor, states[1][key]) for key, tensor in states[0].items()
    )


class Interrupted(Exception):
    pass


def test_training_gives_a_plain_network_and_leaves_its_own(
    network: Network, source: PixelSource, tmp_path: Path
) -> None:
    before, seen = copy.deepcopy(network), list[tuple[int, int]]()
    trained = run(network, source, tmp_path, on_step=lambda done, all, _: seen.append((done, all)))
    assert same(network, before)
    assert seen == [(step, 9) for step in range(1, 10)]
    assert [line.epoch for line in read_metrics(tmp_path / METRICS)] == [1, 2, 3]
    assert isinstance(trained, Network)
    assert not trained.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())
    untrained = strip(fake_quantized(network, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), PRE))
    assert untrained.state_dict().keys() == trained.state_dict().keys()
    assert not same(trained, untrained)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_interrupted_training_resumes_to_the_same_bits(
    network: Network, source: PixelSource, tmp_path: Path, ema_decay: float
) -> None:
    config = replace(CONFIG, ema_decay=ema_decay)
    unbroken = run(network, source, tmp_path / "a", config)

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(network, source, tmp_path / "b", config, on_step=interrupt)
    assert (tmp_path / "b" / CHECKPOINT).exists()
    assert same(run(network, source, tmp_path / "b", config), unbroken)
    losses = [[e.val_loss for e in read_metrics(tmp_path / f / METRICS)] for f in ("a", "b")]
    assert losses[0] == losses[1]
    assert same(run(network, source, tmp_path / "b", config), unbroken), "it was complete already"


def test_training_depends_on_its_seed_alone(
    network: Network, source: PixelSource, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    first = run(network, source, tmp_path / "a")
    torch.manual_seed(2)
    assert same(run(network, source, tmp_path / "b"), first)
    assert not same(run(network, source, tmp_path / "c", replace(CONFIG, seed=1)), first)


def test_no_step_is_made_after_the_deadline(
    network: Network, source: PixelSource, tmp_path: Path
) -> None:
    steps: list[int] = []
    run(network, source, tmp_path, on_step=lambda n, *_: steps.append(n), deadline=time.monotonic())
    assert steps == [1]


def test_labels_are_not_needed(network: Network, source: PixelSource, tmp_path: Path) -> None:
    """Without them the float network's answers are what is learned, and what is scored."""
    bare = replace(source, labels=np.full(24, -1))
    trained = run(network, bare, tmp_path / "a")
    with torch.no_grad():
        images = eval_batch(torch.from_numpy(source.pixels.take(source.indices)), PRE)
        answers = network(images).argmax(1).numpy()
    answered = replace(source, labels=answers)
    distilled = run(network, answered, tmp_path / "b", replace(CONFIG, label_share=0.0))
    assert same(trained, distilled)
    assert read_metrics(tmp_path / "a" / METRICS)[-1].val_score > 0.9
    labelled = run(network, source, tmp_path / "c", replace(CONFIG, label_share=1.0))
    assert not same(labelled, trained)


def test_labels_of_some_images_are_refused(
    network: Network, source: PixelSource, tmp_path: Path
) -> None:
    some = replace(source, labels=np.where(np.arange(24) < 5, -1, source.labels))
    with pytest.raises(ConfigError, match=r"5 of 24 images have no label \(one below 0\); give"):
        run(network, some, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0 is out of range; expected 1 to 100000"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is out of range"),
        ({"label_share": 1.5}, "label_share=1.5 is out of range; expected 0 to 1"),
        ({"weight_bits": 4}, "weight_bits=4 is out of range; expected 7 to 8"),
        ({"calibration_images": 0}, "calibration_images=0 is out of range; expected 1 to 65536"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_divergence_is_that_of_the_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(5, 3, generator=generator) for _ in range(2))
    truth = p.softmax(1)
    expected = (truth * (truth / q.softmax(1)).log()).sum(1).mean()
    torch.testing.assert_close(divergence(q, p), expected)
    assert divergence(p + 7, p).abs() < 1e-6


@torch.no_grad()
def test_corrected_biases_give_the_mean_answers_of_the_teacher(
    network: Network, source: PixelSource
) -> None:
    pixels = torch.from_numpy(source.pixels.take(source.indices))
    images = eval_batch(pixels, PRE)
    hard = spread(network, 16.0)
    student = fake_quantized(hard, pixels, PRE)
    wanted = hard(images).mean(0)
    before = (student(images).mean(0) - wanted).abs().max()
    correct_biases(student, hard, images)
    after = (student(images).mean(0) - wanted).abs().max()
    assert after < 1e-5 < before


@torch.no_grad()
def test_student_never_begins_further_away_than_it_is(
    network: Network, source: PixelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.from_numpy(source.pixels.take(source.indices))
    images = eval_batch(pixels, PRE)
    student = fake_quantized(network, pixels, PRE)
    before = copy.deepcopy(student)
    module = "pocketvision.train.quantization_aware.correct_biases"

    def spoil(student: nn.Module, *_: object) -> None:
        for parameter in student.parameters():
            parameter.add_(1)

    monkeypatch.setattr(module, spoil)
    begin_near(student, network, images)
    assert same(student, before)


def spread(network: Network, most: float) -> Network:
    """The same function, with the channels before each gate scaled by 1 / most..most.

    Neither a scale for all channels nor, beyond the gate, one for all inputs of a weight fits them.
    """
    hard = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in hard.modules():
            if not isinstance(block, InvertedResidual):
                continue
            gates, after = block.attention, block.project
            assert isinstance(gates, SqueezeExcite)
            norm = block.depthwise.get_submodule("norm")
            share = 2 * torch.rand(len(gates.expand.weight), generator=generator) - 1
            scales = most**share
            for tensor in norm.parameters():
                tensor.mul_(scales)
            for weight in (gates.reduce.weight, after.get_parameter("conv.weight")):
                weight.div_(scales.view(1, -1, 1, 1))
    return hard


Answers = Callable[[Network, Int8Config], np.ndarray]


@pytest.fixture
def digits(tmp_path: Path) -> tuple[PixelSource, PixelSource]:
    """600 handwritten digits to train on, and 600 others."""
    found = pytest.importorskip("sklearn.datasets", reason="needs the extra samples").load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    pixels = stored(grey.repeat(4, 1).repeat(4, 2)[..., None].repeat(3, 3), tmp_path / "digits")
    rows = np.random.default_rng(0).permutation(len(grey))[:1200].reshape(2, 600)
    first, second = (
        PixelSource(pixels=pixels, indices=np.sort(part), labels=found.target[np.sort(part)])
        for part in rows
    )
    return first, second


@pytest.fixture
def answers(digits: tuple[PixelSource, PixelSource], tmp_path: Path) -> Answers:
    """What the INT8 file of a network answers on the second digits: (600,) classes."""
    seen, unseen = (part.pixels.take(part.indices) for part in digits)

    def found(network: Network, config: Int8Config) -> np.ndarray:
        card = FileCard(name="tiny", preprocessing=PRE)
        export_onnx(network, tmp_path / "float.onnx", card)
        calibration = Calibration(pixels=seen[:128], config=config)
        OnnxRuntime().quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", calibration)
        session = OnnxRuntime().session(tmp_path / "int8.onnx", "int8", 1)
        return np.asarray(session.run(unseen).argmax(1))

    return found


@pytest.mark.slow
def test_training_for_integers_undoes_most_of_what_quantization_does(
    digits: tuple[PixelSource, PixelSource], answers: Answers, tmp_path: Path
) -> None:
    """Measured on the INT8 files, quantized alike, on digits not seen."""
    seen, unseen = digits
    config = TrainConfig(
        epochs=6, batch_size=16, learning_rate=1e-2, ema_decay=0.9, augmentation=STILL, threads=1
    )
    network = tiny(10).build(seed=0)
    course = Course(train=seen, val=unseen, preprocessing=PRE, config=config)
    fit(Classification(network, course), folder=tmp_path / "a")
    hard = spread(network, 24.0)
    pixels = torch.from_numpy(unseen.pixels.take(unseen.indices))
    with torch.no_grad():
        wanted = hard(eval_batch(pixels, PRE)).argmax(1).numpy()
    assert (wanted == unseen.labels).mean() > 0.9
    before = (answers(hard, TRAINED_FOR) == wanted).mean()
    trained = train_for_integers(
        hard,
        train=seen,
        val=unseen,
        preprocessing=PRE,
        config=replace(
            CONFIG,
            epochs=6,
            batch_size=16,
            learning_rate=3e-3,
            calibration_images=64,
            weight_bits=cpu().weight_bits,
        ),
        folder=tmp_path / "b",
    )
    after = (answers(trained, TRAINED_FOR) == wanted).mean()
    assert before < 0.8
    assert 1 - after < 0.7 * (1 - before)
