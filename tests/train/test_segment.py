"""Learning the class of every pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from resumed import check_goes_on_to_the_same

from pocketvision.data.masks.mask import VOID
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import PixelsInMemory
from pocketvision.data.transforms import Augmentation, eval_batch
from pocketvision.models import registry
from pocketvision.models.segmenter import Segmenter, lr_aspp
from pocketvision.train.alarms import Diverged
from pocketvision.train.brief import fine_tune_briefly
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.pace import seconds_per_image
from pocketvision.train.segment import MaskSource, Segmentation, pixel_weights, rehearsal
from pocketvision.train.trainer import fit

SIDE = 64
PRE = Preprocessing.of_whole(SIDE)
CONFIG = TrainConfig(
    epochs=12,
    batch_size=8,
    warmup_epochs=1,
    learning_rate=1e-2,
    ema_decay=0,
    augmentation=Augmentation(min_scale=0.6),
)
PLAIN = Augmentation(min_scale=1.0, flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0)


def network(classes: int = 3) -> Segmenter:
    body = registry.spec("mobilenet_v3_small", width=0.35, resolution=SIDE)
    return lr_aspp(body, classes).build(seed=0)


def coloured(count: int = 24, seed: int = 0) -> MaskSource:
    """Quarters of three colours, whose mask is their number; a corner is void."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(0, 3, (count, 2, 2)).astype(np.uint8)
    masks = patches.repeat(SIDE // 2, 1).repeat(SIDE // 2, 2)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)
    pixels = colours[masks]
    counts = np.stack([np.bincount(mask.ravel(), minlength=3) for mask in masks])
    masks[:, :4, :4] = VOID
    return MaskSource(
        pixels=PixelsInMemory(rows=pixels),
        masks=PixelsInMemory(rows=masks),
        indices=np.arange(count),
        class_pixels=counts,
    )


def module_of(
    config: TrainConfig = CONFIG,
    source: MaskSource | None = None,
    teacher: Segmenter | None = None,
) -> Segmentation:
    source = source or coloured()
    course = Course(train=source, val=source, preprocessing=PRE, config=config, teacher=teacher)
    return Segmentation(network(), course)


@pytest.mark.slow  # by default, test_places.py fits a network that learned something
def test_colours_are_learned(tmp_path: Path) -> None:
    result = fit(module_of(), folder=tmp_path / "training")
    assert not result.stopped_early
    assert result.epochs[-1].val_score > 0.6
    assert result.epochs[-1].val_score > result.epochs[0].val_score + 0.2


def test_training_goes_on_to_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3)
    check_goes_on_to_the_same(lambda: module_of(config), tmp_path)


def test_void_teaches_nothing() -> None:
    module = module_of()
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    truth = torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    truth[0, :2] = VOID
    torch.autograd.backward(module.loss(logits, truth, 0.1))
    assert logits.grad is not None
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:] != 0).all()
    nothing = torch.full((2, 4, 4), VOID, dtype=torch.uint8)
    assert module.loss(logits, nothing, 0.1).item() == 0


def test_weights_even_out_rare_classes() -> None:
    counts = np.array([900, 90, 10])
    weights = pixel_weights(np.stack([counts - 5, [5, 5, 5]])).numpy()
    np.testing.assert_allclose(weights * counts, weights[0] * counts[0], rtol=1e-5)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-5)
    module = module_of(replace(CONFIG, class_weights=True))
    assert isinstance(module.weights, torch.Tensor)


def test_smoothing_does_not_spread_a_weight_over_all_pixels() -> None:
    """Each pixel's loss, smoothed, counts by the weight of its own class."""
    module = module_of(replace(CONFIG, class_weights=True))
    module.weights = torch.tensor([1.0, 1.0, 1e6])
    logits, truth = torch.randn(2, 3, 4, 4), torch.randint(0, 2, (2, 4, 4), dtype=torch.uint8)
    plain = F.cross_entropy(logits, truth.long(), label_smoothing=0.1)
    torch.testing.assert_close(module.loss(logits, truth, 0.1), plain)
    truth[0, 0, 0] = 2
    first = F.cross_entropy(logits[:1, :, 0, 0], torch.tensor([2]), label_smoothing=0.1)
    assert module.loss(logits, truth, 0.1) == pytest.approx(1e6 * first.item() / 32, rel=1e-3)


def test_class_that_train_does_not_have_weighs_nothing() -> None:
    counts = np.array([[10_000, 0, 30_000]])
    assert pixel_weights(counts).tolist() == pytest.approx([2, 0, 2 / 3])
    source = replace(coloured(), class_pixels=counts)
    module = module_of(replace(CONFIG, class_weights=True), source)
    logits = torch.randn(2, 3, 4, 4)
    truth = torch.randint(0, 2, (2, 4, 4), dtype=torch.uint8) * 2
    assert module.loss(logits, truth, 0.1) < 10
    with pytest.raises(Diverged, match="The training loss became 50 at step 1"):
        module.check_loss(50.0, "at step 1")


def test_expected_score_is_the_miou_of_one_who_draws_from_the_softmax() -> None:
    source = coloured(6)
    module = module_of(source=source)
    module.network.eval()
    sums = np.zeros((3, 3))
    for pixels, masks in source.batches([np.arange(6)]):
        with torch.no_grad():
            chances = module(eval_batch(pixels, PRE)).softmax(1)
        for k in range(3):
            sums[k] = chances.movedim(1, -1)[masks == k].sum(0)
    right = sums.diagonal()
    expected = (right / (sums.sum(0) + sums.sum(1) - right)).mean()
    assert module.expected_score() == pytest.approx(expected, rel=1e-4)


def test_expected_score_leaves_classes_out_that_val_does_not_have() -> None:
    source = coloured(6)
    masks = np.zeros((6, SIDE, SIDE), np.uint8)
    module = module_of(source=replace(source, masks=PixelsInMemory(rows=masks)))
    module.network.eval()
    chances = []
    for pixels, _ in source.batches([np.arange(6)]):
        with torch.no_grad():
            chances.append(module(eval_batch(pixels, PRE)).softmax(1)[:, 0].mean().item())
    assert module.expected_score() == pytest.approx(np.mean(chances), rel=1e-4)


def test_teacher_is_half_of_what_is_learned_until_it_is_outgrown() -> None:
    teacher = network()  # it answers as the network does
    module = module_of(teacher=teacher)
    batch = next(coloured().batches([np.arange(8)]))
    taught, alone = module.step_loss(batch, (0, 0, 0)), module_of().step_loss(batch, (0, 0, 0))
    assert taught.item() == pytest.approx(alone.item() / 2, rel=1e-4)
    teacher.eval()
    score = module.score_of(module.network.eval())
    for val_score, still in ((score - 0.01, True), (score, False)):
        module.leave_teacher(val_score)
        assert (module.taught_by is teacher) == still
    assert module.teacher_score == pytest.approx(score)


def test_a_few_steps_teach_something_and_leave_the_norms_calibrated() -> None:
    module = module_of(replace(CONFIG, learning_rate=1e-2, augmentation=PLAIN))
    module.network.eval()
    before = module.expected_score()
    fine_tune_briefly(module, 30)
    assert module.expected_score() > before + 0.1
    assert not module.network.training


def test_part_of_a_source_knows_its_own_pixels() -> None:
    source = coloured(6)
    part = source.part(np.array([1, 4]))
    assert len(part) == 2
    np.testing.assert_array_equal(part.class_pixels, source.class_pixels[[1, 4]])
    ours, theirs = (
        next(one.batches([rows])) for one, rows in ((part, np.arange(2)), (source, part.indices))
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_loss_beyond_guessing_is_a_divergence() -> None:
    module = module_of()
    with pytest.raises(Diverged, match=r"The training loss became nan at step 3"):
        module.check_loss(float("nan"), "at step 3")
    module.check_loss(2.0, "at step 3")


def test_a_step_is_timed_on_noise() -> None:
    module = rehearsal(network(), PRE, CONFIG, images=4)
    assert len(module.train_source) == 4
    before = {k: v.clone() for k, v in module.network.state_dict().items()}
    assert 0 < seconds_per_image(module) < 60
    for name, tensor in module.network.state_dict().items():
        assert torch.equal(before[name], tensor)
