"""Short fine-tunings: they learn, depend on their seed and key alone, and listen to a teacher."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from courses import classification
from two_tones import two_tones

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, eval_batch
from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.train.batches import PixelSource
from pocketvision.train.brief import calibrate_norms, expected_accuracy, fine_tune_briefly
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.distillation import distilled, divergence

PRE = Preprocessing(resolution=32, side=32)
PLAIN = Augmentation(min_scale=1.0, flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
CONFIG = TrainConfig(batch_size=16, learning_rate=1e-3, augmentation=PLAIN, threads=1)
STEPS, MORE_STEPS = 12, 40
FASTER = replace(CONFIG, learning_rate=0.01)


@pytest.fixture(scope="module")
def source() -> PixelSource:
    """Dark and bright images."""
    return two_tones()


def new(seed: int = 0) -> Network:
    return (
        registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(seed).eval()
    )


def training(
    network: Network,
    source: PixelSource,
    config: TrainConfig = CONFIG,
    teacher: Network | None = None,
) -> Classification:
    return classification(network, source, PRE, config, teacher)


def tuned(source: PixelSource, key: int = 0) -> Network:
    network = new()
    fine_tune_briefly(training(network, source), STEPS, key=key)
    return network


def tuned_longer(source: PixelSource) -> Network:
    network = new()
    fine_tune_briefly(training(network, source, FASTER), MORE_STEPS)
    return network


def same(first: Network, second: Network) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_few_steps_teach_something(source: PixelSource) -> None:
    before = expected_accuracy(new(), source, PRE)
    network = tuned_longer(source)
    assert before == pytest.approx(0.5, abs=0.05)
    assert expected_accuracy(network, source, PRE) > 0.7
    assert not network.training


def test_seed_and_key_alone_decide(source: PixelSource) -> None:
    first = tuned(source)
    torch.manual_seed(123)
    assert same(first, tuned(source))
    assert not same(first, tuned(source, key=1))


def test_global_random_state_is_left_alone(source: PixelSource) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tuned(source)
    assert torch.equal(torch.rand(3), expected)


def test_no_step_changes_nothing(source: PixelSource) -> None:
    network = new()
    fine_tune_briefly(training(network, source), 0)
    assert same(network, new())


def test_expected_accuracy_is_the_mean_probability_of_the_right_class(source: PixelSource) -> None:
    network = new()
    pixels = torch.from_numpy(source.pixels.take(source.indices))
    images = (pixels - torch.tensor(PRE.mean)) / torch.tensor(PRE.std)
    with torch.no_grad():
        probabilities = network(images.permute(0, 3, 1, 2)).softmax(1)
    labels = torch.from_numpy(source.labels)
    right = probabilities[torch.arange(64), labels].mean().item()
    assert expected_accuracy(network, source, PRE) == pytest.approx(right, abs=1e-5)


@torch.no_grad()
def test_distilled_loss_is_half_label_and_half_teacher() -> None:
    wanted_logits = torch.randn(4, 2)
    logits, plain = torch.randn(4, 2), torch.tensor(0.8)
    wanted = wanted_logits.softmax(1)
    answers = F.log_softmax(logits, 1)
    expected = (wanted * (wanted.log() - answers)).sum(1).mean()
    found = distilled(plain, divergence(logits, wanted_logits))
    torch.testing.assert_close(found, 0.5 * plain + 0.5 * expected)
    assert divergence(logits, logits) == pytest.approx(0, abs=1e-6)


def test_calibrated_norms_hold_the_statistics_of_the_images(source: PixelSource) -> None:
    network = new()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.fill_(9.0)  # type: ignore[union-attr]  # it has one
    assert expected_accuracy(network, source, PRE) == pytest.approx(0.5, abs=0.02)
    momenta = [m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    calibrate_norms(network, source, PRE)
    first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    images = eval_batch(torch.from_numpy(source.pixels.take(source.indices)), PRE)
    with torch.no_grad():
        maps = network.blocks[0].conv(images)  # type: ignore[operator]  # a module
    assert first.running_mean is not None
    torch.testing.assert_close(first.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert not network.training
    assert momenta == [m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_student_comes_nearer_to_its_teacher(source: PixelSource) -> None:
    teacher = tuned_longer(source)
    before = copy.deepcopy(teacher.state_dict())
    student = new(3)
    images = torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        far = divergence(student(images), teacher(images))
    fine_tune_briefly(training(student, source, teacher=teacher), STEPS)
    with torch.no_grad():
        assert divergence(student(images), teacher(images)) != far
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_negative_steps_are_refused(source: PixelSource) -> None:
    with pytest.raises(ConfigError, match="steps=-1 is out of range"):
        fine_tune_briefly(training(new(), source), -1)
