"""A time too short for the epochs asked for is told with what would do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.errors import BudgetError
from pocketvision.fitting import forecast, training


def refuse(left_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 epochs of 90 s each, with 100 s for what comes before and behind them."""
    work = SimpleNamespace(finish_s=60.0, decode_s=40.0, epoch_s=lambda rate: 90.0)
    monkeypatch.setattr(training, "workload_of", lambda *_: work)
    monkeypatch.setattr(training, "timed", lambda *_: (None, 0.1))
    run: Any = SimpleNamespace(
        clock=SimpleNamespace(remaining_s=left_s + 100), config=SimpleNamespace(epochs=40)
    )
    spec: Any = SimpleNamespace(resolution=32, label="small @32")
    training._refuse_hopeless(run, spec)


def test_epochs_that_cannot_fit_say_how_much_more_they_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = (
        r"The time is too short: 80 s are left for training, and one of the 40 epochs of small "
        r"@32 takes 90 s\. Ask for 62 m more; fewer --epochs need less\."
    )
    with pytest.raises(BudgetError, match=message):
        refuse(80.0, monkeypatch)
    needed_s = 40 * 90 / forecast.TRAINING_MARGIN
    assert abs(80 + 62 * 60 - needed_s) <= 30  # a rounded minute


def test_one_epoch_that_fits_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(91.0, monkeypatch)
