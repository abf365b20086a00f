"""A replay of the recorded recipe: the same weights here, and a verdict where it is not so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.fitting import pipeline
from pocketvision.fitting import reproduce as module
from pocketvision.fitting.artefact import Artefact, read_state
from pocketvision.fitting.checks import Check, Verification
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.reproduce import reproduce
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.models.weights import save
from pocketvision.storage import to_json, write_atomic
from pocketvision.train.alarms import Diverged, divergence_alarm


def check(found: Verification, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


@pytest.fixture(autouse=True)
def _same_latency(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing is tested elsewhere, and cannot be relied on."""

    def known(recorded: object, found: object, same: bool, limit: object, name: str) -> Check:
        assert recorded == fitted.record.latency
        return Check(name=name, passed=True, recorded="", found="")

    monkeypatch.setattr(module, "latency_check", known)


def test_replay_gives_the_same_weights_file_and_answers(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    found = reproduce(fitted.folder, tmp_path / "again")
    assert found.passed
    assert found.same_machine
    assert check(found, "weights").found == "equal, bit for bit"
    assert check(found, "file").found == "equal, byte for byte"
    curves, accuracy = check(found, "curves"), check(found, "accuracy")
    assert curves.recorded.startswith("val top-1 ")
    assert curves.found.endswith("after 40 epochs, equal")
    assert ", +0.00 points (" in accuracy.found
    assert "100.0%, the share of images on which both name the same class" in accuracy.note
    again = Artefact(tmp_path / "again")
    assert again.state.train == fitted.state.train
    assert again.record.network == fitted.record.network
    assert again.record.confusion == fitted.record.confusion
    assert again.shipped.precision == fitted.shipped.precision
    assert [step.note for step in again.record.steps if step.name == "plan"] == [
        "taken from fitted"
    ]
    with pytest.raises(ConfigError, match="again exists and holds a finished run; nothing was"):
        reproduce(fitted.folder, tmp_path / "again")


@pytest.fixture
def other(fitted: Artefact, tmp_path: Path) -> Artefact:
    """The fitted folder as if its training had come out otherwise."""
    folder = Path(shutil.copytree(fitted.folder, tmp_path / "other"))
    with torch.no_grad():
        network = Artefact(folder).network
        for parameter in network.head.parameters():
            parameter.add_(0.25)
    save(network, folder, classes=fitted.classes, preprocessing=fitted.preprocessing)
    return Artefact(folder)


def test_other_weights_inform_and_name_how_far_they_are(fitted: Artefact, other: Artefact) -> None:
    found = module._weights_check(fitted, other)
    assert found.passed is None
    assert found.found == "2 differ, by up to 0.25"
    assert found.note == "other processors, versions and numbers of threads give other bits"


@pytest.mark.parametrize("more", [-1, 1])
def test_training_whose_end_the_time_moved_is_replayed_for_as_long(
    fitted: Artefact, photos: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    train = fitted.state.train
    assert train is not None
    planned = replace(fitted.state, train=replace(train, epochs=train.epochs + more))
    monkeypatch.setattr(Artefact, "state", planned)
    assert module.was_moved(fitted)
    plan = module._plan(fitted, fitted.state.config, "")
    assert plan.train == train
    assert plan.config.budget.is_open
    assert plan.config.budget.time_s is None


@pytest.mark.parametrize(
    ("drop", "low", "high", "passed"),
    [
        (0.0, -0.02, 0.02, True),
        (0.05, 0.009, 0.09, True),
        (0.05, 0.011, 0.09, False),
        (-0.05, -0.09, -0.011, False),
    ],
)
def test_accuracy_fails_beyond_the_noise_of_images_and_trainings(
    fitted: Artefact,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    drop: float,
    low: float,
    high: float,
    passed: bool,
) -> None:
    compared = fitted.record.verification[-1]
    moved = replace(compared, drop=drop, drop_low=low, drop_high=high)
    monkeypatch.setattr(LabelJudge, "compare", lambda *_, **__: moved)
    found = module._accuracy_check(fitted, fitted, fitted.state.config, Silent())
    assert found.passed is passed
    assert f"{100 * (0 - drop):+.2f} points ({-100 * high:+.2f} to " in found.found


@pytest.mark.slow
def test_interrupted_replay_goes_on(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "build_variants", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reproduce(fitted.folder, out, data=photos)
    assert read_state(out).trained
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_folder", None)
        assert reproduce(fitted.folder, out, data=photos).passed


def test_other_images_are_refused_before_anything_is_written(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    (moved / "dark below" / "000.png").unlink()
    with pytest.raises(DataError, match=r"does not hold the images that .*fitted was fitted to"):
        reproduce(fitted.folder, tmp_path / "again", data=moved)
    with pytest.raises(DataError, match=r"The images lay in .*gone, which is not there; say where"):
        reproduce(fitted.folder, tmp_path / "again", data=tmp_path / "gone")
    assert not (tmp_path / "again").exists()


def test_folder_in_use_is_left_alone(
    fitted: Artefact, other: Artefact, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="mine exists and holds something else; nothing was cha"):
        reproduce(fitted.folder, tmp_path / "mine", data=photos)
    unfinished = replace(fitted.state, status="unfinished", ranking=())
    write_atomic(tmp_path / "run" / "run.json", to_json(unfinished))
    with pytest.raises(ConfigError, match="run exists and holds an unfinished run with other opt"):
        reproduce(fitted.folder, tmp_path / "run", data=photos)


@pytest.mark.parametrize("name", ["model/model.onnx", "record.json", "network.safetensors"])
def test_folder_that_was_tampered_with_is_refused_before_anything_runs(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    copy = Path(shutil.copytree(fitted.folder, tmp_path / "copy"))
    content = (copy / name).read_bytes()
    assert b"0.1.0" in content or not name.endswith("onnx")
    altered = content.replace(b"mobilenet", b"Mobilenet", 1)
    if name == "network.safetensors":
        altered = content[:-1] + bytes([content[-1] ^ 1])
    (copy / name).write_bytes(altered)
    assert altered != content
    monkeypatch.setattr(module, "run_fit", None)
    message = rf"copy is not as its run left it \(altered, missing or added: {name}\), and a replay"
    with pytest.raises(ArtefactError, match=message):
        reproduce(copy, tmp_path / "again", data=photos)
    assert not (tmp_path / "again").exists()


DIVERGED_ONCE = divergence_alarm(Diverged("nan."), epoch=1, rate=0.1, lowered=0.01)


def test_training_that_went_back_is_not_replayed(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Artefact, "state", replace(fitted.state, alarms=(DIVERGED_ONCE,)))
    message = r"fitted diverged and went on at a lower .* Run its command again with another"
    with pytest.raises(ArtefactError, match=message):
        reproduce(fitted.folder, tmp_path / "again", data=photos)
    assert not (tmp_path / "again").exists()


def test_replay_that_went_back_itself_goes_on(fitted: Artefact, tmp_path: Path) -> None:
    plan = module._plan(fitted, fitted.state.config, "")
    assert plan.train is not None
    lowered = replace(plan.train, learning_rate=plan.train.learning_rate / 10)
    there = replace(plan, train=lowered, alarms=(DIVERGED_ONCE,))
    write_atomic(tmp_path / "again" / "run.json", to_json(there))
    module._begin(plan, tmp_path / "again", fitted.folder)
    write_atomic(tmp_path / "again" / "run.json", to_json(replace(there, alarms=())))
    with pytest.raises(ConfigError, match="again exists and holds an unfinished run with other op"):
        module._begin(plan, tmp_path / "again", fitted.folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"only": "lists/clean.txt"}, "The clean list lay in lists/clean.txt, .* with --only"),
        ({"weights": "gone.pth"}, r"The weights lay in gone\.pth, which .* with --weights"),
    ],
)
def test_files_of_the_run_that_are_not_there_are_asked_for(
    fitted: Artefact, tmp_path: Path, asked: dict[str, str], message: str
) -> None:
    config = replace(fitted.state.config, **asked)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        module._begin(module._plan(fitted, config, ""), tmp_path / "again", fitted.folder)


def test_replay_is_told_where_list_and_weights_lie(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[FitConfig] = []

    def begin(plan: RunState, *_: object) -> None:
        plans.append(plan.config)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_begin", begin)
    with pytest.raises(KeyboardInterrupt):
        reproduce(fitted.folder, tmp_path / "again", data="d", only=Path("l"), weights="w")
    (config,) = plans
    assert (config.data, config.only, config.weights) == ("d", "l", "w")


def test_folder_without_a_training_is_refused(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtefactError, match="is not a fitted network"):
        reproduce(tmp_path, tmp_path / "again")
    monkeypatch.setattr(Artefact, "state", replace(fitted.state, train=None))
    with pytest.raises(ArtefactError, match=r"run\.json names no training; it cannot be replayed"):
        reproduce(fitted.folder, tmp_path / "again", data=photos)


def test_curves_are_called_by_the_score_of_the_task(fitted: Artefact) -> None:
    epochs = fitted.record.epochs
    check = module._curves_check(epochs, epochs[:2], "mIoU")
    assert check.recorded == f"val mIoU {epochs[-1].val_score:.2%} after 40 epochs"
    assert check.found.startswith("val mIoU ")
    assert check.found.endswith("after 2 epochs, 2 epochs, equal so far")
    assert module._curves_check((), (), "mAP").recorded == "none"
