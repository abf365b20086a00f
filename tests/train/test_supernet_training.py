"""The supernet learns, resumes to the same, and members are judged with norms of their own."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as losses
from two_tones import two_tones

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ConfigError
from pocketvision.models.space import Member, SearchSpace, StageSpace
from pocketvision.models.supernet import Supernet
from pocketvision.train.alarms import Diverged
from pocketvision.train.batches import PixelSource
from pocketvision.train.brief import expected_accuracy
from pocketvision.train.distillation import divergence
from pocketvision.train.supernet import (
    CHECKPOINT,
    SupernetConfig,
    answers_of,
    calibrated,
    train_supernet,
)

PRE = Preprocessing(resolution=48, side=48)
PLAIN = Augmentation(min_scale=1.0, flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
CONFIG = SupernetConfig(steps=6, members=4, alone=0.0, batch_size=16, augmentation=PLAIN, threads=1)
SPACE = SearchSpace(
    name="tiny",
    stem=8,
    stages=(
        StageSpace(c_out=8, stride=2, depths=(1, 2), expansions=(1.0, 3.0)),
        StageSpace(c_out=16, stride=2, depths=(1, 2)),
    ),
    last=32,
    hidden=32,
    resolutions=(32, 48),
)


@pytest.fixture(scope="module")
def source() -> PixelSource:
    """Dark and bright images."""
    return two_tones(48)


def new() -> Supernet:
    return Supernet(SPACE, num_classes=2, seed=0)


def judge(supernet: Supernet, member: Member, source: PixelSource, held_out: PixelSource) -> float:
    """The score of a member, as a search takes it."""
    return float(answers_of(supernet, member, source, held_out, PRE).mean())


def weights(supernet: Supernet) -> dict[str, torch.Tensor]:
    return dict(supernet.named_parameters())


def same(first: Supernet, second: Supernet) -> bool:
    ours, theirs = weights(first), weights(second)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def trained(source: PixelSource, tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    """Behind forty steps; not to be changed."""
    supernet = new()
    config = replace(CONFIG, steps=40)
    train_supernet(supernet, source, PRE, config, tmp_path_factory.mktemp("supernet"))
    return supernet


def test_every_member_learns(trained: Supernet, source: PixelSource) -> None:
    drawn = [SPACE.sample(random.Random(seed)) for seed in range(4)]
    for member in (SPACE.smallest(), SPACE.largest(), *drawn):
        assert judge(trained, member, source, source) > 0.8
    assert not trained.training


@pytest.mark.gpu
def test_training_on_cuda_uses_bfloat16_and_comes_back(source: PixelSource, tmp_path: Path) -> None:
    supernet = new()
    train_supernet(supernet, source, PRE, replace(CONFIG, steps=40, accelerator="cuda"), tmp_path)
    assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in supernet.parameters())
    assert judge(supernet, SPACE.smallest(), source, source) > 0.8


def test_member_that_is_judged_by_shared_norms_is_judged_wrongly(
    trained: Supernet, source: PixelSource
) -> None:
    member = SPACE.smallest()
    wrongly = expected_accuracy(trained.extract(member).eval(), source, PRE)
    rightly = judge(trained, member, source, source)
    assert wrongly < 0.7 < 0.8 < rightly


def test_judging_changes_nothing(trained: Supernet, source: PixelSource) -> None:
    before = copy.deepcopy(trained)
    judge(trained, SPACE.smallest(), source, source)
    pairs = zip(before.state_dict().values(), trained.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_calibrated_member_is_what_was_judged(trained: Supernet, source: PixelSource) -> None:
    member = SPACE.sample(random.Random(3))
    network = calibrated(trained, member, source, PRE)
    assert not network.training
    found = expected_accuracy(network, source, PRE)
    assert found == judge(trained, member, source, source)


def test_interrupted_training_comes_to_the_same(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = new(), new()
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    train_supernet(whole, source, PRE, CONFIG, tmp_path / "whole")
    monkeypatch.setattr("pocketvision.train.supernet.SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train_supernet(parts, source, PRE, CONFIG, tmp_path / "parts", on_step=stop_at(3))
    again = new()
    torch.manual_seed(99)
    assert train_supernet(again, source, PRE, CONFIG, tmp_path / "parts") == 6
    assert same(whole, again)
    finished = new()
    assert train_supernet(finished, source, PRE, CONFIG, tmp_path / "parts") == 6
    assert same(whole, finished)


def stop_at(step: int) -> Any:
    def on_step(done: int, total: int, note: str) -> None:
        assert note.startswith("loss ")
        if done == step:
            raise KeyboardInterrupt

    return on_step


def test_damaged_checkpoint_begins_anew(source: PixelSource, tmp_path: Path) -> None:
    whole, again = new(), new()
    train_supernet(whole, source, PRE, CONFIG, tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    said: list[str] = []
    train_supernet(again, source, PRE, CONFIG, tmp_path, say=said.append)
    assert said == [f"{tmp_path / CHECKPOINT} is damaged; the training begins again."]
    assert same(whole, again)


def test_end_is_brought_forward_where_the_time_is_short(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketvision.train.supernet.LOOK_EVERY", 2)
    config = replace(CONFIG, steps=1000)
    steps = train_supernet(
        new(), source, PRE, config, tmp_path, deadline=time.monotonic() - 1, on_step=None
    )
    assert steps == 3


class Losses:
    """torch.nn.functional as far as a step uses it."""

    one_hot = staticmethod(losses.one_hot)

    def __init__(self, cross_entropy: Any) -> None:
        self.cross_entropy = cross_entropy


def test_largest_teaches_the_others_and_only_it_sees_labels(
    source: PixelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def cross_entropy(*arguments: Any, **named: Any) -> Any:
        seen.append("labels")
        return losses.cross_entropy(*arguments, **named)

    def told(answers: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        seen.append("answers")
        assert not wanted.requires_grad
        return divergence(answers, wanted)

    monkeypatch.setattr("pocketvision.train.supernet.F", Losses(cross_entropy))
    monkeypatch.setattr("pocketvision.train.supernet.divergence", told)
    train_supernet(new(), source, PRE, replace(CONFIG, steps=1, members=5), tmp_path)
    assert seen == ["labels", "answers", "answers", "answers", "answers"]


def test_members_are_drawn_as_asked(source: PixelSource, tmp_path: Path) -> None:
    drawn = []

    def draw(generator: random.Random) -> Any:
        drawn.append(SPACE.sample(generator))
        return drawn[-1]

    train_supernet(new(), source, PRE, replace(CONFIG, steps=2, members=3), tmp_path, draw=draw)
    assert len(drawn) == 2


def test_largest_learns_alone_at_first(source: PixelSource, tmp_path: Path) -> None:
    drawn = []

    def draw(generator: random.Random) -> Any:
        drawn.append(SPACE.sample(generator))
        return drawn[-1]

    config = replace(CONFIG, steps=4, members=3, alone=0.5)
    train_supernet(new(), source, PRE, config, tmp_path, draw=draw)
    assert len(drawn) == 4  # in every step, so that later ones do not depend on the share
    with pytest.raises(ConfigError, match=r"alone=2\.0 is out of range"):
        replace(CONFIG, alone=2.0)


def test_divergence_is_told(source: PixelSource, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"of the supernet"):
        train_supernet(new(), source, PRE, replace(CONFIG, steps=9, learning_rate=99.0), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0 is out of range"),
        ({"members": 1}, "members=1 is out of range; expected 2 to 64"),
        ({"batch_size": 1}, "batch_size=1 is out of range"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0 is out of range"),
    ],
)
def test_config_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)
