"""Whether there is time to train for integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.fitting import int8_rungs
from pocketvision.fitting.artefact import TRAINING, Artefact
from pocketvision.record.run import Epoch, Step
from pocketvision.train.config import TrainConfig
from pocketvision.train.watch import METRICS, write_metrics

FINISH_S = 100.0


def line(epoch: int, steps: int, seconds: float) -> Epoch:
    return Epoch(
        epoch=epoch,
        steps=steps,
        seconds=seconds,
        learning_rate=0.1,
        train_loss=1.0,
        val_loss=1.0,
        val_score=0.5,
    )


@pytest.mark.parametrize(
    ("epochs", "epoch_s"),
    [
        ([line(1, 10, 6.0), line(2, 20, 12.0)], 6.0),
        ([line(1, 10, 6.0), line(2, 15, 9.0)], 6.0),
        ([], 12.0),
    ],
    ids=["between epochs", "within the last", "within the first"],
)
def test_training_that_was_shortened_does_not_make_epochs_look_cheap(
    fitted: Artefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: list[Epoch],
    epoch_s: float,
) -> None:
    """Of 40 epochs that were planned two at most were made."""
    (tmp_path / TRAINING).mkdir()
    write_metrics(tmp_path / TRAINING / METRICS, epochs)
    monkeypatch.setattr(int8_rungs, "workload_of", lambda *_: SimpleNamespace(finish_s=FINISH_S))
    monkeypatch.setattr(int8_rungs, "training_sources", lambda *_: (None, None))
    state = replace(
        fitted.state,
        train=TrainConfig(epochs=40),
        steps=(Step(name="train", seconds=12.0),),
    )

    def trains(left_s: float) -> bool:
        nothing: Any = None  # pixels, which are not looked at
        run: Any = SimpleNamespace(
            out=tmp_path,
            state=state,
            spec=fitted.network.spec,
            samples=None,
            clock=SimpleNamespace(remaining_s=left_s),
        )
        return int8_rungs._training(run, fitted.network, nothing, nothing) is not None

    needed = FINISH_S + int8_rungs.QAT_EPOCHS * int8_rungs.QAT_COST * epoch_s
    assert trains(needed + 1)
    assert not trains(needed - 1)
