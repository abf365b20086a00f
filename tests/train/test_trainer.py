"""Training: the laws it keeps, on a network small enough for a test."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from courses import classification
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StoredPixels
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ArtefactError, ConfigError, DataError, PocketvisionError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.progress import Advance
from pocketvision.train import devices, pace, trainer
from pocketvision.train.alarms import Diverged
from pocketvision.train.batches import PixelSource, epoch_batches, num_batches
from pocketvision.train.classify import Classification, class_weights, rehearsal
from pocketvision.train.config import TrainConfig
from pocketvision.train.module import build_optimizer
from pocketvision.train.processes import raise_as_here
from pocketvision.train.schedule import Schedule, epochs_in_all
from pocketvision.train.trainer import CHECKPOINT, TrainResult, fit
from pocketvision.train.watch import METRICS, read_metrics

PRE = Preprocessing(resolution=32, side=32)
CONFIG = TrainConfig(epochs=4, batch_size=8, warmup_epochs=1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PixelSource:
    """24 noisy images of two classes, one dark and one bright."""
    labels = np.arange(24) % 2
    noise = np.random.default_rng(0).integers(0, 60, (24, 32, 32, 3))
    pixels = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("store") / "pixels"
    pixels.tofile(path)
    stored = StoredPixels(path=path, rows=24, shape=(32, 32, 3))
    return PixelSource(pixels=stored, indices=np.arange(24), labels=labels)


def network(seed: int = 0) -> Network:
    return registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(seed=seed)


def run(
    net: Network,
    source: PixelSource,
    folder: Path,
    config: TrainConfig = CONFIG,
    on_step: Advance | None = None,
    deadline: float | None = None,
    teacher: Network | None = None,
    most_epochs: int | None = None,
) -> TrainResult:
    module = training(net, source, config, teacher)
    return fit(module, folder=folder, on_step=on_step, deadline=deadline, most_epochs=most_epochs)


def training(
    net: Network,
    source: PixelSource,
    config: TrainConfig = CONFIG,
    teacher: Network | None = None,
) -> Classification:
    return classification(net, source, PRE, config, teacher)


class Interrupted(Exception):
    pass


def test_training_learns_and_writes_its_curves(source: PixelSource, tmp_path: Path) -> None:
    net = network()
    seen: list[tuple[int, int]] = []
    config = replace(CONFIG, epochs=40)  # batch-norm statistics need some steps
    result = run(
        net, source, tmp_path, config, lambda done, total, note: seen.append((done, total))
    )
    assert result.epochs[-1].val_score == 1.0
    assert [e.epoch for e in result.epochs] == list(range(1, 41))
    assert result.epochs == read_metrics(tmp_path / METRICS)
    assert seen == [(step, 120) for step in range(1, 121)]
    assert not result.stopped_early
    assert not net.training
    assert next(net.parameters()).is_contiguous()


class Thirds(Network):
    """A teacher that gets a third of the images right, whatever it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        wrong = torch.arange(len(x)) % 3 > 0
        return torch.nn.functional.one_hot(wrong.long(), 2).float()


def left(module: Classification, val_score: float) -> bool:
    """Whether the teacher is left at that accuracy."""
    module.leave_teacher(val_score)
    return module.outgrown


def test_teacher_is_listened_to_until_the_network_knows_as_much(
    source: PixelSource, tmp_path: Path
) -> None:
    teacher = Thirds(network().spec).eval()
    module = training(network(), source, teacher=teacher)
    assert not left(module, 0.3)
    assert module.teacher_score == pytest.approx(0.5, abs=0.2)
    images, targets = torch.zeros(2, 3, 32, 32), torch.eye(2)
    taught = module.batch_loss(images, targets)
    assert left(module, 1.0)
    assert module.batch_loss(images, targets) != taught
    assert left(module, 0.0)  # for good
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    again = training(network(), source, teacher=teacher)
    again.on_load_checkpoint(checkpoint)
    assert again.outgrown


def test_interrupted_training_under_a_teacher_resumes_to_the_same_weights(
    source: PixelSource, tmp_path: Path
) -> None:
    """The teacher is left on the way."""
    teacher, config = Thirds(network().spec).eval(), replace(CONFIG, epochs=8)
    unbroken = network()
    run(unbroken, source, tmp_path / "a", config, teacher=teacher)

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(network(), source, tmp_path / "b", config, on_step=interrupt, teacher=teacher)
    resumed = network(seed=1)
    run(resumed, source, tmp_path / "b", config, teacher=teacher)
    for name, tensor in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_interrupted_training_resumes_to_the_same_weights(
    source: PixelSource, tmp_path: Path
) -> None:
    unbroken, broken = network(), network()
    run(unbroken, source, tmp_path / "a")

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(broken, source, tmp_path / "b", on_step=interrupt)
    assert (tmp_path / "b" / CHECKPOINT).exists()
    resumed = network(seed=1)  # its initial weights do not matter
    result = run(resumed, source, tmp_path / "b")
    for name, tensor in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
    whole = read_metrics(tmp_path / "a" / METRICS)
    assert [e.val_loss for e in result.epochs] == [e.val_loss for e in whole]


def test_training_that_was_complete_is_taken_as_it_was(source: PixelSource, tmp_path: Path) -> None:
    """Stopped after its last epoch: the averaged weights are in the checkpoint, no step is left."""
    first, second = network(), network(seed=5)
    whole = run(first, source, tmp_path)
    again = run(second, source, tmp_path)
    assert again == whole
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)


def test_two_images_a_batch_are_enough(source: PixelSource, tmp_path: Path) -> None:
    odd = replace(source, indices=source.indices[:7], labels=source.labels[:7])
    run(network(), odd, tmp_path, replace(CONFIG, epochs=1, batch_size=2, warmup_epochs=0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_absent_device_is_said_before_anything_begins() -> None:
    config = replace(CONFIG, accelerator="cuda")
    with pytest.raises(ConfigError, match="device=cuda with devices=1, but 0 CUDA devices are in"):
        devices.check_devices(config, 100)


@pytest.mark.parametrize(
    ("count", "nodes", "images", "message"),
    [
        (4, 1, 7, r"devices=4 need at least 8 .*; there are 7: ask for 3 in all at most, or add"),
        (4, 2, 9, r"devices=4 on each of nodes=2 need at least 16 .*; there are 9: ask for 4 in"),
        (1, 1, 1, r"devices=1 need at least 2 training images; there are 1: add images\."),
    ],
)
def test_too_few_images_for_the_devices_are_refused(
    count: int, nodes: int, images: int, message: str
) -> None:
    """The words are those that were typed, and say what would do."""
    config = replace(CONFIG, devices=count, nodes=nodes, accelerator="cpu")
    with pytest.raises(ConfigError, match=message):
        devices.check_devices(config, images)
    devices.check_devices(config, 2 * count * nodes)


def test_control_c_comes_through_as_such(source: PixelSource, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, note: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network(), source, tmp_path, on_step=interrupt)
    assert (tmp_path / CHECKPOINT).exists()


def test_tensorboard_logs_on_request(source: PixelSource, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    run(network(), source, tmp_path, replace(CONFIG, epochs=1, tensorboard=True, warmup_epochs=0))
    assert list(tmp_path.glob("tensorboard/**/events.*"))


@pytest.mark.gpu
def test_training_on_cuda_uses_bfloat16_and_comes_back(source: PixelSource, tmp_path: Path) -> None:
    net = network()
    result = run(net, source, tmp_path, replace(CONFIG, epochs=40, accelerator="cuda"))
    assert result.epochs[-1].val_score > 0.9
    assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in net.parameters())


def test_deadline_stops_between_steps_and_says_so(source: PixelSource, tmp_path: Path) -> None:
    result = run(network(), source, tmp_path, deadline=time.monotonic())
    assert result.stopped_early
    assert [e.steps for e in result.epochs] == [1]


def test_deadline_in_the_second_epoch_keeps_the_first(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps: list[int] = []

    def tick(done: int, total: int, note: str) -> None:
        now[0] += 1.0
        steps.append(done)

    result = run(network(), source, tmp_path, on_step=tick, deadline=4.5)
    assert result.stopped_early
    assert steps == [1, 2, 3, 4, 5]
    assert len(result.epochs) >= 1


def test_loss_that_is_no_number_stops_the_training(source: PixelSource, tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match=r"The training loss became nan at step 1\."):
        run(net, source, tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_training_goes_on_at_a_lowered_rate(source: PixelSource, tmp_path: Path) -> None:
    """As after a divergence: the checkpoint has the old rate, the configuration the new one."""

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(network(), source, tmp_path, on_step=interrupt)
    whole = run(network(), source, tmp_path / "whole")
    lowered = run(network(), source, tmp_path, replace(CONFIG, learning_rate=1e-3))
    rates = [[epoch.learning_rate for epoch in result.epochs] for result in (whole, lowered)]
    assert rates[1][:2] == rates[0][:2]
    assert rates[1][2:] == pytest.approx([rate / 10 for rate in rates[0][2:]])


def test_dropout_of_a_training_that_goes_on_is_that_of_an_unbroken_one(
    source: PixelSource, tmp_path: Path
) -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35, resolution=32, num_classes=2)
    assert any(m.p for m in spec.build().modules() if isinstance(m, torch.nn.Dropout))
    config = replace(CONFIG, epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    unbroken = spec.build(seed=0)
    run(unbroken, source, tmp_path / "a", config)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are untouched"

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 5:
            raise Interrupted

    torch.manual_seed(2)
    with pytest.raises(Interrupted):
        run(spec.build(seed=0), source, tmp_path / "b", config, on_step=interrupt)
    resumed = spec.build(seed=0)
    run(resumed, source, tmp_path / "b", config)
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_checkpoint_that_is_not_of_a_training_is_refused(
    source: PixelSource, tmp_path: Path
) -> None:
    torch.save({"state_dict": object()}, tmp_path / CHECKPOINT)
    with pytest.raises(ArtefactError, match="holds more than tensors and plain values"):
        run(network(), source, tmp_path)


def text_of(error: Exception) -> str:
    """As torch hands on what a process raised, while it was handling something else."""
    try:
        try:
            raise FileNotFoundError(2, "No such file or directory", "other")
        except OSError:
            raise error  # noqa: B904
    except Exception:
        return f"\n\n-- Process 1 terminated with the following error:\n{traceback.format_exc()}"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (Diverged("The training loss became nan."), Diverged, r"^The training loss became nan\.$"),
        (DataError("2 of 3 fail:\n  a.png: why\nEnd."), DataError, r"^2 of 3 .*\n  a.png: .*\nEnd"),
        (
            OSError(28, "No space left on device", "/a/b"),
            OSError,
            r"\[Errno 28\] No space .*'/a/b'",
        ),
        (
            ValueError("something else"),
            PocketvisionError,
            "^A process of the training failed: ValueError: something else$",
        ),
    ],
)
def test_what_another_process_raised_is_the_same_here(
    error: Exception, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        raise_as_here(ProcessRaisedException(text_of(error), 1, 1))
    assert type(caught.value) is type(error) or kind is PocketvisionError
    assert getattr(caught.value, "filename", None) == getattr(error, "filename", None)


def test_file_that_another_process_lacked_is_named_here() -> None:
    lacked = FileNotFoundError(2, "No such file or directory", Path("/a/b"))
    with pytest.raises(FileNotFoundError) as caught:
        raise_as_here(ProcessRaisedException(text_of(lacked), 1, 1))
    assert caught.value.filename == str(lacked.filename)


def test_process_that_was_killed_is_a_sentence() -> None:
    message = "process 0 terminated with signal SIGKILL"
    killed = ProcessExitedException(message, 0, 1, -9, "SIGKILL")
    with pytest.raises(PocketvisionError, match=rf"ended before it was done: {message}\. Run the"):
        raise_as_here(killed)


@pytest.mark.slow
def test_file_that_two_processes_lack_is_named(source: PixelSource, tmp_path: Path) -> None:
    gone = replace(source, pixels=StoredPixels(path=tmp_path / "gone", rows=24, shape=(32, 32, 3)))
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*gone'"):
        run(network(), gone, tmp_path, replace(CONFIG, devices=2, accelerator="cpu"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_no_decay_on_norms_biases_and_depthwise_filters(optimizer: str) -> None:
    net = network()
    groups = build_optimizer(net, replace(CONFIG, optimizer=optimizer)).param_groups  # type: ignore[arg-type]
    decayed = {id(p) for p in groups[0]["params"]}
    by_name = dict(net.named_parameters())
    assert groups[0]["weight_decay"] == CONFIG.weight_decay
    assert groups[1]["weight_decay"] == 0
    assert id(by_name["blocks.0.conv.weight"]) in decayed
    assert id(by_name["blocks.1.depthwise.conv.weight"]) not in decayed
    assert id(by_name["blocks.0.norm.weight"]) not in decayed
    assert sum(len(g["params"]) for g in groups) == len(by_name)


def test_averaging_warms_up_from_the_first_step() -> None:
    averaged, current = [torch.zeros(3)], [torch.ones(3)]
    trainer.update_average(0.999, averaged, current, 0)
    torch.testing.assert_close(averaged[0], torch.full((3,), 0.9))  # decay 1 / 10
    averaged = [torch.zeros(3)]
    trainer.update_average(0.999, averaged, current, 10**7)
    torch.testing.assert_close(averaged[0], torch.full((3,), 0.001))


def test_schedule_rises_then_falls_to_zero() -> None:
    rates = [Schedule.for_steps(100, warmup=10)(step) for step in range(101)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize("now", [0, 5, 10, 11, 40, 69])
def test_schedule_brought_forward_has_no_jump_and_reaches_zero(now: int) -> None:
    planned = Schedule.for_steps(100, warmup=10)
    shorter = planned.ending_at(70, now)
    assert shorter(now) == pytest.approx(planned(now), abs=1e-12)
    assert shorter(70) == pytest.approx(0)
    falling = [shorter(s) for s in range(max(now, 10), 71)]
    assert falling == sorted(falling, reverse=True)


def test_schedule_that_is_moved_every_step_falls_as_one_that_never_was() -> None:
    planned = moved = Schedule.for_steps(1000, warmup=10)
    for now in range(10, 500):
        moved = moved.ending_at(1000, now)
    assert [moved(s) for s in range(499, 1001)] == pytest.approx(
        [planned(s) for s in range(499, 1001)], abs=1e-9
    )


def test_schedule_comes_back_from_a_checkpoint_but_not_from_one_of_another_version() -> None:
    moved = Schedule.for_steps(100, warmup=10).ending_at(70, 40)
    values = asdict(moved)
    assert Schedule.restored(values) == moved
    del values["phase"]
    with pytest.raises(ArtefactError, match="begun by another version of pocketvision"):
        Schedule.restored({**values, "top": 0.5})


def test_epochs_are_cut_to_the_time_left_but_never_added() -> None:
    assert epochs_in_all(5, 40, seconds_per_epoch=10, left_s=1000) == 40
    assert epochs_in_all(5, 40, seconds_per_epoch=10, left_s=101) == 15
    assert epochs_in_all(5, 40, seconds_per_epoch=10, left_s=-3) == 6


def test_slow_machine_shortens_the_training_and_still_anneals(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes a second of a fake clock, and there is time for five of eight epochs."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tick(done: int, total: int, note: str) -> None:
        now[0] += 1.0

    config = replace(CONFIG, epochs=8)
    result = run(network(), source, tmp_path, config, on_step=tick, deadline=15.5)
    assert len(result.epochs) == 5
    assert result.stopped_early
    assert result.epochs[-1].learning_rate == pytest.approx(0, abs=1e-9)
    whole = run(network(), source, tmp_path / "whole", config, on_step=tick, deadline=1e9)
    assert len(whole.epochs) == 8
    assert not whole.stopped_early


def test_machine_that_becomes_fast_again_makes_all_epochs_that_were_planned(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of the first two epochs take three seconds, the others one: there is time for all."""
    now, ends = [0.0], list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tick(done: int, total: int, note: str) -> None:
        per_epoch = total // 8 if not ends else ends[0] // 8
        now[0] += 3.0 if done <= 2 * per_epoch else 1.0
        ends.append(total)

    config = replace(CONFIG, epochs=8)
    result = run(network(), source, tmp_path, config, on_step=tick, deadline=50.0)
    assert min(ends) < ends[0], "it was to end sooner for a while"
    assert len(result.epochs) == 8
    assert not result.stopped_early
    assert result.epochs[-1].learning_rate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("most", "made"), [(None, 8), (10, 10), (200, 15)])
def test_training_that_becomes_faster_grows_into_the_time_that_was_planned(
    source: PixelSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int | None,
    made: int,
) -> None:
    """Eight epochs of two seconds a step are planned; behind the first, a step takes one."""
    now, steps = [0.0], 3
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tick(done: int, total: int, note: str) -> None:
        now[0] += 2.0 if done <= steps else 1.0

    config = replace(CONFIG, epochs=8)
    deadline = 8 * steps * 2.0 / 0.95
    grown = run(
        network(), source, tmp_path, config, on_step=tick, deadline=deadline, most_epochs=most
    )
    assert len(grown.epochs) == made
    assert now[0] <= 8 * steps * 2.0
    assert grown.epochs[-1].learning_rate == pytest.approx(0, abs=1e-9)
    assert not grown.stopped_early


@pytest.mark.parametrize(
    "epoch", [9, *(pytest.param(epoch, marks=pytest.mark.slow) for epoch in (4, 7, 12, 15))]
)
def test_training_that_grew_goes_on_to_the_same_weights(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """Killed before and behind the end that was planned, of 8 epochs, and behind the last."""
    now, steps, config = [0.0], 3, replace(CONFIG, epochs=8)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    named: dict[str, Any] = {"deadline": 8 * steps * 2.0 / 0.95, "most_epochs": 200}

    def tick(done: int, total: int, note: str) -> None:
        now[0] += 2.0 if done <= steps else 1.0

    def killed(done: int, total: int, note: str) -> None:
        tick(done, total, note)
        if done == epoch * steps:
            raise Interrupted

    whole, cut = network(), network()
    run(whole, source, tmp_path / "whole", config, on_step=tick, **named)
    now[0] = 0.0
    with pytest.raises(Interrupted):
        run(cut, source, tmp_path / "cut", config, on_step=killed, **named)
    now[0] = read_metrics(tmp_path / "cut" / METRICS)[-1].seconds
    result = run(again := network(), source, tmp_path / "cut", config, on_step=tick, **named)
    assert len(result.epochs) == 15
    pairs = zip(again.state_dict().values(), whole.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("images", [4, 7, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_batches_are_a_permutation_without_an_odd_remainder(
    images: int, batch_size: int, world: int
) -> None:
    count = num_batches(images, batch_size, world)
    batches = epoch_batches(images, count, seed=1, epoch=3)
    assert sorted(np.concatenate(batches)) == list(range(images))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2 * world
    assert max(sizes) <= max(batch_size, 4 * world - 1)


def test_order_of_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    first = np.concatenate(epoch_batches(100, 10, 0, 0))
    assert (first == np.concatenate(epoch_batches(100, 10, 0, 0))).all()
    assert (first != np.concatenate(epoch_batches(100, 10, 0, 1))).any()


def test_class_weights_average_to_one_over_the_images() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[1] == 3 * weights[0]
    assert weights[torch.as_tensor(labels)].mean().item() == pytest.approx(1)


def test_training_step_is_timed_without_touching_the_network() -> None:
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    config = replace(CONFIG, augmentation=Augmentation(flip=0))
    assert 0 < pace.seconds_per_image(rehearsal(net, PRE, config, 24)) < 60
    for name, tensor in net.state_dict().items():
        assert torch.equal(before[name], tensor)


def test_number_of_threads_is_chosen_and_put_back() -> None:
    before = torch.get_num_threads()
    config, rate = pace.faster_threads(lambda config: rehearsal(network(), PRE, config, 24), CONFIG)
    assert config.threads in (1, before)
    assert rate > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs=0 is out of range; expected 1 to"),
        ("batch_size", 1, "batch_size=1 is out of range; expected 2 to"),
        ("optimizer", "adam", r"optimizer='adam' is unknown; .* Did you mean 'adamw'\?"),
        ("learning_rate", 0.0, "learning_rate=0.0 is out of range"),
        ("label_smoothing", 1.0, r"label_smoothing=1.0 is out of range; expected 0.0 to 0.9"),
        ("warmup_epochs", 9.0, "warmup_epochs=9.0 is out of range; expected 0.0 to 4"),
        ("precision", "f16", "precision='f16' is unknown"),
        ("accelerator", "tpu", "accelerator='tpu' is unknown"),
        ("devices", 0, "devices=0 is out of range"),
        ("seed", -1, "seed=-1 is out of range"),
    ],
)
def test_config_refuses_what_cannot_be(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{field: value})  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_processes_train_together(source: PixelSource, tmp_path: Path) -> None:
    net = network()
    result = run(net, source, tmp_path, replace(CONFIG, devices=2, accelerator="cpu", epochs=40))
    assert result.epochs[-1].val_score > 0.9
    with torch.no_grad():
        assert torch.isfinite(net(torch.zeros(1, 3, 32, 32))).all()
