"""Training on scenes: the laws it keeps, on a scene and networks small enough for a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketvision.cpu import Cpu
from pocketvision.errors import ConfigError, GateError
from pocketvision.models.dense import DenseTwin
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.progress import Advance
from pocketvision.scene_record import Curve
from pocketvision.train import scene
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene import CHECKPOINT, settled, train_scene
from pocketvision.train.scene_config import SceneTrainConfig

BANDS, WINDOW, CLASSES, SIDE = 13, 9, 3, 24
CONFIG = SceneTrainConfig(
    steps=12,
    crops=2,
    side=8,
    batch_size=24,
    warmup_steps=3,
    learning_rate=3e-3,
    precision="f32",
    threads=1,
    accelerator="cpu",
)
BUILDERS = [hybridsn, mobile_patch]
TRAININGS: tuple[Literal["dense", "patches"], ...] = ("dense", "patches")


def classes() -> NDArray[np.int64]:
    """Three regions, one of them a square."""
    labels = np.zeros((SIDE, SIDE), np.int64)
    labels[:, SIDE // 2 :] = 1
    labels[6:14, 8:18] = 2
    return labels


@pytest.fixture(scope="module")
def source() -> SceneSource:
    """Classes that differ in their mean spectra; an eighth of the pixels is for training."""
    generator = np.random.default_rng(0)
    spectra = generator.normal(0, 1, (CLASSES, BANDS))
    labels = classes()
    bands = spectra[labels] + generator.normal(0, 0.7, (SIDE, SIDE, BANDS))
    training = generator.random((SIDE, SIDE)) < 1 / 8
    return SceneSource(bands=bands.astype(np.float32), targets=np.where(training, labels, -1))


def network(build: Callable[..., PatchSpec] = hybridsn, seed: int = 0) -> PatchNetwork:
    return build(bands=BANDS, window=WINDOW, num_classes=CLASSES).build(seed)


def accuracy_elsewhere(trained: PatchNetwork, source: SceneSource) -> float:
    """On all pixels that were not for training."""
    half = WINDOW // 2
    padded = np.pad(source.bands, ((half, half), (half, half), (0, 0)))
    x = torch.from_numpy(padded.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        named = DenseTwin(trained)(x)[0].argmax(0).numpy()
    unseen = source.targets < 0
    return float((named[unseen] == classes()[unseen]).mean())


class Interrupted(Exception):
    pass


class Clock:
    """A clock that on_step moves on by a second, and a training that is cut off at a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def ticking(self, cut: int | None = None) -> Advance:
        def on_step(done: int, total: int, note: str) -> None:
            self.now += 1.0
            if done == cut:
                raise Interrupted

        return on_step


def timeless(curves: tuple[Curve, ...]) -> list[Curve]:
    return [replace(point, seconds=0.0) for point in curves]


def assert_equal_bits(found: PatchNetwork, expected: PatchNetwork) -> None:
    tensors = expected.state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("build", BUILDERS)
def test_killed_training_resumes_to_equal_bits(
    build: Callable[..., PatchSpec],
    training: Literal["dense", "patches"],
    source: SceneSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is cut off before the first checkpoint, between two, as one is due, near the end."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(scene, "SAVE_EVERY_S", 2.5)  # a checkpoint each third step
    config = replace(CONFIG, training=training)
    unbroken, broken = network(build), network(build)
    whole = train_scene(unbroken, source, config, tmp_path / "a", on_step=clock.ticking())
    for cut in (2, 5, 6, 11):
        if cut > 5:
            broken = network(build, seed=cut)  # with a checkpoint, weights at the start are nothing
        elif cut > 2:
            broken = network(build)
        with pytest.raises(Interrupted):
            train_scene(broken, source, config, tmp_path / "b", on_step=clock.ticking(cut))
        assert (tmp_path / "b" / CHECKPOINT).exists() == (cut > 2)
    resumed = network(build, seed=99)
    result = train_scene(resumed, source, config, tmp_path / "b", on_step=clock.ticking())
    assert_equal_bits(resumed, unbroken)
    assert timeless(result.curves) == timeless(whole.curves)
    assert result.steps == whole.steps == 12


def test_damaged_checkpoint_is_said_and_the_training_begins_again(
    source: SceneSource, tmp_path: Path
) -> None:
    unbroken, again = network(), network()
    train_scene(unbroken, source, CONFIG, tmp_path / "a")
    (tmp_path / "b").mkdir()
    checkpoint = tmp_path / "b" / CHECKPOINT
    checkpoint.write_bytes((tmp_path / "a" / CHECKPOINT).read_bytes()[:5000])
    told: list[str] = []
    train_scene(again, source, CONFIG, tmp_path / "b", say=told.append)
    assert told == [f"{checkpoint} is damaged; the training begins again."]
    assert_equal_bits(again, unbroken)


def test_folder_that_vanished_is_not_made_anew(source: SceneSource, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        train_scene(network(), source, CONFIG, tmp_path / "gone" / "training" / "patch-0")
    assert not (tmp_path / "gone").exists()


def test_complete_training_is_taken_as_it_was(source: SceneSource, tmp_path: Path) -> None:
    first, second = network(), network(seed=5)
    whole = train_scene(first, source, CONFIG, tmp_path)
    assert train_scene(second, source, CONFIG, tmp_path) == whole
    assert_equal_bits(second, first)


def test_training_depends_on_its_seed_and_leaves_the_global_random_state(
    source: SceneSource, tmp_path: Path
) -> None:
    first, again, other = network(), network(), network()
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train_scene(first, source, CONFIG, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(5)
    train_scene(again, source, CONFIG, tmp_path / "b")
    assert_equal_bits(again, first)
    train_scene(other, source, replace(CONFIG, seed=1), tmp_path / "c")
    assert not torch.equal(other.head.classifier.weight, first.head.classifier.weight)


@pytest.mark.parametrize(
    ("build", "training"),
    [(hybridsn, "dense"), (hybridsn, "patches"), (mobile_patch, "dense")],
)
def test_training_learns_a_separable_scene(
    build: Callable[..., PatchSpec],
    training: Literal["dense", "patches"],
    source: SceneSource,
    tmp_path: Path,
) -> None:
    trained = network(build)
    seen: list[tuple[int, int]] = []
    config = replace(CONFIG, training=training, steps=80, side=12)
    result = train_scene(
        trained, source, config, tmp_path, on_step=lambda done, total, _: seen.append((done, total))
    )
    assert accuracy_elsewhere(trained, source) > 0.93  # where regions meet, windows hold both
    assert result.curves[-1].loss < 0.3 * result.curves[0].loss
    assert result.curves[-1].step == result.steps == 80
    assert not result.stopped_early
    assert seen == [(step, 80) for step in range(1, 81)]
    assert all(p.is_contiguous() for p in trained.parameters())


def test_trained_network_answers_alike_though_it_has_dropout(
    source: SceneSource, tmp_path: Path
) -> None:
    trained = network()
    train_scene(trained, source, CONFIG, tmp_path)
    x = torch.randn(4, BANDS, WINDOW, WINDOW, generator=torch.Generator().manual_seed(0))
    assert not any(module.training for module in trained.modules())
    assert torch.equal(trained(x), trained(x))
    trained.train()
    assert not torch.equal(trained(x), trained(x))


def test_half_of_what_is_learned_is_what_a_teacher_answers(source: SceneSource) -> None:
    """One that says the opposite of the labels leaves the network undecided."""
    teacher, loss = network(seed=1).eval(), {}
    with torch.no_grad():
        teacher.head.classifier.weight.zero_()
        teacher.head.classifier.bias.copy_(torch.tensor([20.0, 0.0, 0.0]))
    for name, taught in {"alone": None, "taught": teacher}.items():
        net = network()
        loop = scene._Loop(net, source, replace(CONFIG, steps=40), None, None, taught)
        loop.run(None)
        loss[name] = loop.curves[-1].loss
        if taught is not None:
            answers = net.eval()(torch.randn(16, BANDS, WINDOW, WINDOW)).argmax(1)
            assert (answers == 0).float().mean() > 0.5
    assert loss["taught"] > 2 * loss["alone"]


def test_deadline_brings_the_end_forward_and_the_rate_to_zero(
    source: SceneSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second; 60 seconds are there for 120 steps."""
    clock = Clock(monkeypatch)
    config = replace(CONFIG, steps=120, side=2, crops=1)
    result = train_scene(
        network(), source, config, tmp_path, on_step=clock.ticking(), deadline=60.0
    )
    assert result.stopped_early
    assert 50 <= result.steps <= 62  # the first step shows no second yet
    assert result.curves[-1].step == result.steps
    assert result.curves[-1].learning_rate < 0.02 * config.learning_rate
    rates = [point.learning_rate for point in result.curves[3:]]
    assert rates == sorted(rates, reverse=True)


def test_deadline_with_time_to_spare_changes_nothing(
    source: SceneSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    first, second = network(), network()
    train_scene(first, source, CONFIG, tmp_path / "a")
    result = train_scene(
        second, source, CONFIG, tmp_path / "b", on_step=clock.ticking(), deadline=1000.0
    )
    assert not result.stopped_early
    assert_equal_bits(second, first)


def test_deadline_that_is_past_stops_after_the_first_step(
    source: SceneSource, tmp_path: Path
) -> None:
    result = train_scene(network(), source, CONFIG, tmp_path, deadline=time.monotonic() - 1)
    assert (result.steps, result.stopped_early) == (1, True)


def test_loss_that_is_no_number_stops_the_training(source: SceneSource, tmp_path: Path) -> None:
    broken = replace(source, bands=np.full_like(source.bands, np.nan))
    message = r"training loss became nan at step 1; lower the learning rate .* broken spectra"
    with pytest.raises(GateError, match=message):
        train_scene(network(), broken, CONFIG, tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_absent_device_is_named(
    source: SceneSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = replace(CONFIG, accelerator="cuda")
    message = "device=cuda, but no CUDA device is in reach; ask for --device cpu"
    with pytest.raises(ConfigError, match=message):
        train_scene(network(), source, config, tmp_path)
    with pytest.raises(ConfigError, match=message):
        settled(network(), source, config)


@pytest.mark.parametrize("features", [(), ("amx_bf16",)])
def test_settled_takes_the_fastest_of_what_is_open(
    features: tuple[str, ...], source: SceneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "cpu", lambda: Cpu(name="a", architecture="b", features=features))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    timed: list[tuple[int, str]] = []

    def seconds(
        net: PatchNetwork, source: SceneSource, config: SceneTrainConfig, teacher: object
    ) -> float:
        timed.append((config.threads, config.precision))
        return {(1, "f32"): 4.0, (6, "f32"): 2.0, (1, "bf16"): 1.0}.get(timed[-1], 3.0)

    monkeypatch.setattr(scene, "_seconds_per_step", seconds)
    config, rate = settled(network(), source, replace(CONFIG, threads=0, precision="auto"))
    if features:
        assert timed == [(1, "f32"), (1, "bf16"), (6, "f32"), (6, "bf16")]
        assert (config.threads, config.precision, rate) == (1, "bf16", 1.0)
    else:
        assert timed == [(1, "f32"), (6, "f32")]
        assert (config.threads, config.precision, rate) == (6, "f32", 2.0)
    timed.clear()
    assert settled(network(), source, CONFIG)[0] == CONFIG
    assert timed == [(1, "f32")]


def test_settling_changes_neither_weights_nor_threads_nor_random_state(source: SceneSource) -> None:
    net, threads, before = network(mobile_patch), torch.get_num_threads(), torch.get_rng_state()
    config, rate = settled(net, source, replace(CONFIG, threads=0))
    assert config.threads in (1, threads)
    assert rate > 0
    assert_equal_bits(net, network(mobile_patch))
    assert (torch.get_num_threads(), net.training) == (threads, True)
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_leaves_the_weights_in_float32(source: SceneSource, tmp_path: Path) -> None:
    trained = network(mobile_patch)
    result = train_scene(trained, source, replace(CONFIG, precision="bf16"), tmp_path)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trained.parameters())
    assert np.isfinite(result.curves[-1].loss)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_training_on_cuda_learns_and_comes_back(
    precision: Literal["f32", "bf16"], source: SceneSource, tmp_path: Path
) -> None:
    trained = network()
    config = replace(CONFIG, steps=80, side=12, accelerator="cuda", precision=precision)
    before = torch.cuda.get_rng_state()
    train_scene(trained, source, config, tmp_path)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in trained.parameters())
    assert accuracy_elsewhere(trained, source) > 0.93  # where regions meet, windows hold both


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("build", BUILDERS)
def test_spectra_that_no_training_window_sees_change_nothing(
    build: Callable[..., PatchSpec],
    training: Literal["dense", "patches"],
    source: SceneSource,
    tmp_path: Path,
) -> None:
    """The law behind a leakage of zero: not a bit of the weights knows the other pixels."""
    half = SIDE // 2
    targets = source.targets.copy()
    targets[:, half:] = -1
    seen = slice(0, half + WINDOW // 2)
    other = source.bands.copy()
    other[:, seen.stop :] += 100
    trained = []
    for number, bands in enumerate((source.bands, other)):
        one = network(build)
        config = replace(CONFIG, training=training)
        train_scene(one, SceneSource(bands=bands, targets=targets), config, tmp_path / f"{number}")
        trained.append(one)
    assert_equal_bits(*trained)
