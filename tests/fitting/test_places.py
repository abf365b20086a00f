"""Segmentation and detection through the whole main job, on pictures of rectangles."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shapes import HEIGHT, NAMES, WIDTH, shape_of, write_boxes, write_masks

from pocketvision.boxes import TOLD
from pocketvision.budget import Budget
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.fitting.artefact import Artefact, read_pixels
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.measuring import measure_fitted
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.reproduce import reproduce
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.verify import verify
from pocketvision.models.networks import task_of
from pocketvision.models.weights import save
from pocketvision.record.words import TaskName

WRITERS = {"segment": write_masks, "detect": write_boxes}
CONFIG = FitConfig(
    data="",
    budget=Budget(latency_ms=50.0, size_bytes=20_000_000),
    models=("mobilenet_v3_small",),
    widths=(0.35,),
    resolutions=(96,),
    runtimes=("onnxruntime",),
    epochs=12,
    batch_size=8,
    learning_rate=5e-3,
    augmentation=Augmentation(min_scale=0.8),
)


@pytest.fixture(
    scope="module",
    params=[
        "segment",
        "detect",
        pytest.param("segment, r_aspp", marks=pytest.mark.slow),
        pytest.param("detect, nms inside", marks=pytest.mark.slow),
    ],
)
def fitted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artefact, Path]:
    task: TaskName = request.param.split(",")[0]
    folder = tmp_path_factory.mktemp(task)
    data = WRITERS[task](folder / "data")
    config = replace(CONFIG, data=str(data), task=task)
    if "r_aspp" in request.param:
        config = replace(config, head="r_aspp", epochs=40)  # it sees 6 x 6 places
    if "inside" in request.param:
        config = replace(config, nms="inside")
    return run_fit(config, folder / "out"), data


def test_a_file_ships_that_learned_something(fitted: tuple[Artefact, Path]) -> None:
    record = fitted[0].record
    assert record.verdict.met
    assert record.headline.metric == TASKS[record.task].metric
    assert record.headline.value > {"segment": 0.4, "detect": 0.01}[record.task]
    assert record.headline.low <= record.headline.value <= record.headline.high
    assert record.headline.metric in record.verdict.sentence
    assert all(found.agreement > 0.9 for found in record.verification)
    assert {v.precision for v in record.variants} == {"f32", "int8"}


def test_the_report_has_what_belongs_to_the_task(fitted: tuple[Artefact, Path]) -> None:
    artefact = fitted[0]
    page = (artefact.folder / "report.html").read_text()
    card = (artefact.folder / "README.md").read_text()
    metric = artefact.record.headline.metric
    assert f"({metric}, test)" in page or f"({metric}, val" in page
    for words in ("Worst images", "Class by class", *NAMES[1:]):
        assert words in page
    assert metric in card
    assert "top-1" not in card


def test_it_is_verified_from_image_files(
    fitted: tuple[Artefact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact, data = fitted
    again = {"shipped": artefact.record.latency}  # measuring it cannot be relied on
    monkeypatch.setattr("pocketvision.fitting.verify.measure_latency", lambda *_: again)
    found = verify(artefact.folder, data)
    assert found.passed, [check for check in found.checks if check.passed is False]
    accuracy = next(check for check in found.checks if check.name == "accuracy")
    assert accuracy.recorded == accuracy.found
    assert accuracy.recorded.startswith(artefact.record.headline.metric)


def test_the_shipped_script_says_what_the_library_says(
    fitted: tuple[Artefact, Path], tmp_path: Path
) -> None:
    artefact, data = fitted
    image = sorted((data / "images").iterdir())[0]
    script = artefact.folder / "model" / "run.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(image)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told = ran.stdout.strip().split("\t")
    if artefact.record.task == "segment":
        written = np.asarray(Image.open(tmp_path / f"{image.stem}.classes.png"))
        np.testing.assert_array_equal(written, artefact.segment(image))
        return
    found = artefact.detect(image, TOLD)
    assert len(told) - 1 == len(found.scores)
    scores = sorted((float(line.split()[1]) for line in told[1:]), reverse=True)
    np.testing.assert_allclose(scores, found.scores, atol=1e-3)


def test_decoding_is_timed_on_its_images_alone(
    fitted: tuple[Artefact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on masks, which lie beside them and are images too."""
    artefact, data = fitted
    decoded = []

    def listened(content: bytes, preprocessing: Preprocessing) -> np.ndarray:
        decoded.append(content)
        return read_pixels(content, preprocessing)

    monkeypatch.setattr("pocketvision.fitting.measuring.can_measure_memory", lambda: False)
    monkeypatch.setattr("pocketvision.fitting.measuring.read_pixels", listened)
    timing = measure_fitted(artefact.folder)
    assert timing.decode_ms is not None
    assert timing.decode_ms > 0
    assert sorted(decoded) == sorted(path.read_bytes() for path in (data / "images").iterdir())


@pytest.mark.slow
def test_a_replay_comes_to_the_same_weights(fitted: tuple[Artefact, Path], tmp_path: Path) -> None:
    found = reproduce(fitted[0].folder, tmp_path / "again")
    assert found.passed
    weights = next(check for check in found.checks if check.name == "weights")
    assert weights.passed


def test_python_answers(fitted: tuple[Artefact, Path]) -> None:
    artefact, data = fitted
    image = Image.open(data / "images" / "0.png")
    with pytest.raises(ConfigError, match=r"holds a network for the task .* does not tell classes"):
        artefact.predict(image)
    if artefact.record.task == "segment":
        assert artefact.segment(image).shape == (HEIGHT, WIDTH)
        with pytest.raises(ConfigError, match="does not tell objects"):
            artefact.detect(image)
        return
    assert artefact.detect(image).boxes.shape[1] == 4
    with pytest.raises(ConfigError, match="does not tell classes of pixels"):
        artefact.segment(image)


def test_images_that_changed_are_refused(fitted: tuple[Artefact, Path], tmp_path: Path) -> None:
    artefact, _ = fitted
    other = WRITERS[artefact.record.task](tmp_path / "other", 30)
    for image in (other / "images").iterdir():
        pixels, _, _ = shape_of(1000 + int(image.stem))
        Image.fromarray(pixels).save(image)
    with pytest.raises(DataError, match=r"does not hold the \d+ images that carry the recorded"):
        verify(artefact.folder, other)


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_options_of_other_tasks_are_refused(task: TaskName) -> None:
    with pytest.raises(ConfigError, match=f"Images of task='{task}' cannot be mixed"):
        replace(CONFIG, task=task, augmentation=Augmentation(mixup=0.2))
    with pytest.raises(ConfigError, match=r"nms='inside' is not in the latencies of target='t\.j"):
        replace(CONFIG, task="detect", nms="inside", target="t.json")
    with pytest.raises(ConfigError, match="nms='inside' is of boxes; leave it away"):
        replace(CONFIG, task="segment", nms="inside")
    with pytest.raises(ConfigError, match="head='r_aspp' is of segmentation; leave it away"):
        replace(CONFIG, task="detect", head="r_aspp")
    with pytest.raises(ConfigError, match="class_weights=True has no meaning with task='detect'"):
        replace(CONFIG, task="detect", class_weights=True)
    assert replace(CONFIG, task="segment", class_weights=True).class_weights
    with pytest.raises(ConfigError, match=r"void=\(3,\) is of masks; leave it away"):
        replace(CONFIG, task="detect", void=(3,))


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_training_begins_with_weights_of_a_classifier_or_of_its_kind(
    task: TaskName, tmp_path: Path
) -> None:
    folder = tmp_path / "classifier"
    body = TASKS["classify"].backbone("mobilenet_v3_small", 0.35, 96).with_classes(7)
    classifier = body.build(seed=3)
    save(classifier, folder)
    config = replace(CONFIG, task=task, weights=str(folder), models=(), widths=())
    found = TASKS[task]
    (spec,) = found.weights_specs(config, 2, Silent())
    assert task_of(spec) == task
    network, start = found.start(spec, config, Silent())
    assert start == f"fine-tuned from {folder}"
    expected = classifier.state_dict()["blocks.1.depthwise.conv.weight"]
    assert torch.equal(network.state_dict()["blocks.1.depthwise.conv.weight"], expected)
    # Its own weights, for other classes.
    save(network, tmp_path / "own")
    own = replace(config, weights=str(tmp_path / "own"))
    (again,) = found.weights_specs(own, 5, Silent())
    assert again.num_classes == {"segment": 5, "detect": 6}[task]
    if task == "segment":
        sentence = r"head is lr_aspp; head='r_aspp' cannot stand there\. Leave it away"
        with pytest.raises(ArtefactError, match=sentence):
            found.weights_specs(replace(own, head="r_aspp"), 5, Silent())
        (reduced,) = found.weights_specs(replace(config, head="r_aspp"), 2, Silent())
        assert reduced.name == "raspp_mobilenet_v3_small"
    other, _ = found.start(again, own, Silent())
    assert torch.equal(other.state_dict()["blocks.1.depthwise.conv.weight"], expected)
    wrong = TASKS["detect" if task == "segment" else "segment"]
    with pytest.raises(ArtefactError, match="which is for another task"):
        wrong.weights_specs(own, 5, Silent())
