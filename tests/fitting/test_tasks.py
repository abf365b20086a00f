"""What holds of every task of the registry, whichever they are."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.fitting.standalone import standalone_script
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.models.answering import answering
from pocketvision.models.networks import AnyNetwork, task_of
from pocketvision.record.words import TaskName
from pocketvision.report.html import COUNTED
from pocketvision.report.text import metric_definition, metric_name, task_noun
from pocketvision.runtimes.onnxfile import ANSWERS
from pocketvision.runtimes.runtime import FileCard
from pocketvision.train.config import TrainConfig

SIDE, CLASSES = 96, 3


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = TASKS[request.param]
    return found


def network_of(task: Task) -> AnyNetwork:
    body = task.backbone("mobilenet_v3_small", 0.35, SIDE)
    spec = task.network(body, CLASSES, None)
    return spec.build(seed=0)


def test_every_task_of_the_record_is_there() -> None:
    assert set(TASKS) == set(get_args(TaskName)) == set(ANSWERS) == set(COUNTED)


def test_a_task_goes_by_its_name(task: Task) -> None:
    assert TASKS[task.name] is task
    assert task_of(network_of(task).spec) == task.name
    assert list(task.resolutions) == sorted(set(task.resolutions))
    assert task.batch_size >= 2
    assert task.candidate_cost >= 1


def test_the_answers_are_the_last_output_and_one_array(task: Task) -> None:
    network = network_of(task).eval()
    with torch.inference_mode():
        found = answering(network)(torch.zeros(2, 3, SIDE, SIDE))
    answers = found if isinstance(found, torch.Tensor) else found[-1]
    assert len(answers) == 2


def test_a_step_can_be_rehearsed(task: Task) -> None:
    config = TrainConfig(batch_size=4, warmup_epochs=0)
    pre = task.preprocessing(SIDE, 200)
    module = task.rehearsal(network_of(task), pre, config, images=9)
    assert module.metric == task.metric
    assert len(module.train_source) == 4
    batch = next(module.train_source.batches([np.arange(4)]))
    loss = module.step_loss(batch, (0, 0, 0))
    assert torch.isfinite(loss)
    torch.autograd.backward(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    module.check_loss(loss.item(), "at step 0")


def test_a_step_depends_on_its_key_alone(task: Task) -> None:
    config = TrainConfig(batch_size=4, warmup_epochs=0)
    module = task.rehearsal(network_of(task), task.preprocessing(SIDE, 200), config, 4)
    batch = next(module.train_source.batches([np.arange(4)]))
    losses = []
    for key in ((0, 1, 2), (0, 1, 2), (0, 1, 3)):
        torch.manual_seed(0)  # dropout
        losses.append(module.train().step_loss(batch, key).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_shipped_script_is_python_for_every_runtime(task: Task, runtime: str) -> None:
    pre = Preprocessing.of_whole(SIDE)
    card = FileCard(name="x", classes=("a", 'b"'), preprocessing=pre, task=task.name)
    script = standalone_script(runtime, "f32", 1, card)
    names = {node.name for node in ast.walk(ast.parse(script)) if isinstance(node, ast.FunctionDef)}
    assert {"open_session", "told", "main", "load_pixels"} <= names


def test_the_shipped_script_writes_over_no_answer_of_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of images of one name; those of an earlier call are made anew under the same names."""
    files = ["a/1.jpg", "b/1.jpg", "1.png", "1_2.png", "a/X.jpg", "b/x.jpg"]
    for number, file in enumerate(files):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        colour = (40 * number + 20,) * 3
        Image.new("RGB", (8, 8), colour).save(tmp_path / file)
    monkeypatch.chdir(tmp_path)
    pre = Preprocessing.of_whole(SIDE)
    card = FileCard(name="x", classes=tuple("abcdef"), preprocessing=pre, task="segment")
    script = standalone_script("onnxruntime", "f32", 1, card)
    expected = ["1", "1_2", "1_3", "1_2_2", "X", "x_2"]
    for _ in range(2):
        names: dict[str, Any] = {"__name__": "run"}
        exec(script, names)
        # Names every pixel by how bright the image is.
        names["open_session"] = lambda: lambda image: np.full((8, 8), image.max() // 40, np.uint8)
        assert names["main"](files) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("\t")[:2] for line in lines] == [
            [file, f"{name}.classes.png"] for file, name in zip(files, expected, strict=True)
        ]
        assert sorted(p.name for p in tmp_path.glob("*.png")) == sorted(
            ["1.png", "1_2.png", *(f"{name}.classes.png" for name in expected)]
        )
    written = [np.asarray(Image.open(f"{name}.classes.png")).max() for name in expected]
    assert written == [0, 1, 2, 3, 4, 5]


def test_the_report_has_words_for_it(task: Task) -> None:
    assert metric_name(task.metric)
    assert metric_definition(task.metric).endswith(".")
    assert task_noun(task.name)
