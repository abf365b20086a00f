"""Learning where objects are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from resumed import check_goes_on_to_the_same
from shapes import HEIGHT, WIDTH, shape_of

from pocketvision.boxes import Detections, Objects
from pocketvision.data.pixels import load_pixels
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import PixelsInMemory
from pocketvision.data.transforms import Augmentation, eval_batch
from pocketvision.measure.detection_judge import DetectionJudge
from pocketvision.models import registry
from pocketvision.models.detector import Detector, ssdlite
from pocketvision.train.alarms import Diverged
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.detect import Detection, ObjectSource, rehearsal
from pocketvision.train.distillation import divergence_of_objects
from pocketvision.train.pace import seconds_per_image
from pocketvision.train.trainer import fit

SIDE, IMAGES = 96, 24
PRE = Preprocessing.of_whole(SIDE)
CONFIG = TrainConfig(
    epochs=20,
    batch_size=8,
    warmup_epochs=1,
    learning_rate=5e-3,
    ema_decay=0,
    augmentation=Augmentation(min_scale=0.8),
)


def network() -> Detector:
    body = registry.spec("mobilenet_v3_small", width=0.35, resolution=SIDE, reduced_tail=True)
    return ssdlite(body, 3).build(seed=0)


def rectangles() -> ObjectSource:
    """Pictures with a red and a blue rectangle each."""
    from PIL import Image

    pixels, boxes, labels = [], [], []
    for seed in range(IMAGES):
        image, _, found = shape_of(seed)
        pixels.append(load_pixels(Image.fromarray(image), SIDE, whole=True))
        for number, *box in found:
            boxes.append(np.array(box) / [WIDTH, HEIGHT, WIDTH, HEIGHT])
            labels.append(number - 1)
    return ObjectSource(
        pixels=PixelsInMemory(rows=np.stack(pixels)),
        objects=Objects(
            boxes=np.array(boxes, np.float32),
            labels=np.array(labels, np.int32),
            ignored=np.zeros(len(labels), bool),
            starts=np.arange(0, len(labels) + 1, 2),
        ),
        indices=np.arange(IMAGES),
    )


def judge_of(source: ObjectSource) -> DetectionJudge:
    sizes = np.tile(np.array([[WIDTH, HEIGHT]], np.int32), (IMAGES, 1))
    return DetectionJudge(objects=source.objects, sizes=sizes, classes=("red", "blue"))


def module_of(config: TrainConfig = CONFIG, teacher: Detector | None = None) -> Detection:
    source = rectangles()
    judge = judge_of(source)

    def judged(found: Sequence[Detections]) -> float:
        return judge.score(list(found)).value

    course = Course(train=source, val=source, preprocessing=PRE, config=config, teacher=teacher)
    return Detection(network(), course, judged=judged)


@pytest.mark.slow  # by default, test_places.py fits a network that learned something
def test_rectangles_are_found(tmp_path: Path) -> None:
    result = fit(module_of(), folder=tmp_path / "training")
    assert result.epochs[-1].val_score > 0.1
    assert result.epochs[-1].train_loss < 0.5 * result.epochs[0].train_loss


def test_training_goes_on_to_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2)
    check_goes_on_to_the_same(lambda: module_of(config), tmp_path)


def test_a_batch_without_objects_has_a_loss() -> None:
    module = module_of()
    nothing = rectangles().objects.take(np.zeros(0, np.int64))
    empty = Objects(
        boxes=nothing.boxes,
        labels=nothing.labels,
        ignored=nothing.ignored,
        starts=np.zeros(3, np.int64),
    )
    loss = module.loss(module(torch.zeros(2, 3, SIDE, SIDE)), empty)
    assert torch.isfinite(loss)
    assert loss.item() > 0


def test_validation_runs_the_network_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of()
    calls = []
    module.network.register_forward_hook(lambda *_: calls.append(1))
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    pixels, objects = next(rectangles().batches([np.arange(8)]))
    module.eval()
    with torch.no_grad():
        module.validation_step((pixels, objects), 0)
        assert len(calls) == 1
        expected = module.loss(module(eval_batch(pixels, PRE)), objects)
    assert torch.equal(logged["val_loss"], expected)
    assert len(module.found) == 8


def test_teacher_is_half_of_what_is_learned() -> None:
    """It answers as the network does, so that its half is nothing."""
    batch = next(rectangles().batches([np.arange(8)]))
    taught = module_of(teacher=network().train()).step_loss(batch, (0, 0, 0))
    alone = module_of().step_loss(batch, (0, 0, 0))
    assert taught.item() == pytest.approx(alone.item() / 2, rel=1e-4)


def test_anchors_count_by_what_the_teacher_sees_in_them() -> None:
    answers = torch.zeros(1, 3, 3), torch.zeros(1, 3, 4)
    background, object_ = torch.tensor([20.0, 0, 0]), torch.tensor([0, 20.0, 0])
    boxes = torch.full((1, 3, 4), 3.0)
    seen = torch.stack([background, object_, background])[None]
    alone = divergence_of_objects(
        (answers[0][:, 1:2], answers[1][:, 1:2]), (seen[:, 1:2], boxes[:, 1:2])
    )
    torch.testing.assert_close(divergence_of_objects(answers, (seen, boxes)), alone)
    assert alone == pytest.approx(np.log(3) + 4 * 2.5, abs=1e-3)
    nothing = torch.stack([background] * 3)[None]
    assert divergence_of_objects(answers, (nothing, boxes)) == pytest.approx(0, abs=1e-3)


def test_score_and_expected_score_are_the_map_of_val(tmp_path: Path) -> None:
    module = module_of()
    result = fit(module, folder=tmp_path / "training")
    assert module.expected_score() == pytest.approx(result.epochs[-1].val_score, abs=1e-3)
    with torch.no_grad():
        assert module.expected_score() == module.score_of(module.network)


def test_a_loss_far_beyond_guessing_is_a_divergence() -> None:
    module = module_of()
    module.check_loss(20.0, "at step 1")
    with pytest.raises(Diverged, match=r"The training loss became inf at step 3"):
        module.check_loss(float("inf"), "at step 3")


def test_a_step_is_timed_on_noise() -> None:
    module = rehearsal(network(), PRE, CONFIG, images=4)
    assert len(module.train_source) == 4
    assert 0 < seconds_per_image(module) < 60
