"""What the verdict of a record says of the training behind the shipped file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.fitting.artefact import TRAINING, Artefact
from pocketvision.fitting.summing_up import verdict_of
from pocketvision.record.run import Epoch
from pocketvision.train.config import TrainConfig
from pocketvision.train.watch import METRICS, write_metrics


def lines(*steps: int) -> list[Epoch]:
    """Of metrics.csv: the steps made when each epoch ended."""
    return [
        Epoch(
            epoch=number,
            steps=made,
            seconds=float(number),
            learning_rate=0.1,
            train_loss=1.0,
            val_loss=1.0,
            val_score=0.5,
        )
        for number, made in enumerate(steps, 1)
    ]


def sentence_of(fitted: Artefact, out: Path, epochs: list[Epoch], label: str) -> str:
    """The verdict of the fitted run, had 3 epochs been planned and these been made."""
    (out / TRAINING).mkdir()
    write_metrics(out / TRAINING / METRICS, epochs)
    run: Any = SimpleNamespace(
        out=out,
        config=fitted.state.config,
        samples=SimpleNamespace(headline_split="test"),
        spec=SimpleNamespace(label=label),
        state=replace(fitted.state, train=TrainConfig(epochs=3, warmup_epochs=0.5)),
        target=None,
    )
    record = fitted.record
    shipped = next(variant for variant in record.variants if variant.shipped)
    verdict = verdict_of(run, shipped, record.shipped, record.headline, "")
    return verdict.sentence


@pytest.mark.parametrize(
    ("steps", "told"),
    [((5, 10), "2 of 3"), ((5, 10, 12), "2 of 3"), ((), "0 of 3")],
    ids=["between epochs", "within the last", "within the first"],
)
def test_verdict_tells_the_epochs_of_a_training_that_was_cut_short(
    fitted: Artefact, tmp_path: Path, steps: tuple[int, ...], told: str
) -> None:
    """Whatever the network is called: labels may hold commas."""
    label = "lraspp_mobilenet_v2 @64, output stride 32"
    sentence = sentence_of(fitted, tmp_path, lines(*steps), label)
    assert sentence.startswith(f"{label} answers in ")
    assert f". The time allowed {told} epochs. The budget is " in sentence


def test_verdict_is_silent_on_a_training_that_had_its_time(
    fitted: Artefact, tmp_path: Path
) -> None:
    assert "The time allowed" not in sentence_of(fitted, tmp_path, lines(5, 10, 15), "small")
    assert "The time allowed" not in fitted.record.verdict.sentence
