"""How often a run saves what it has spent, while it trains."""

from __future__ import annotations

import time

import pytest

from pocketvision.fitting.run import saving


def test_time_is_saved_now_and_then_and_progress_always(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told, saved = [0.0], list[tuple[int, int, str]](), list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    on_step = saving(lambda *words: told.append(words), lambda: saved.append(now[0]))
    for step in range(7):
        now[0] = 10.0 * step
        on_step(step, 7, "loss 1.0")
    assert told == [(step, 7, "loss 1.0") for step in range(7)]
    assert saved == [30.0, 60.0]
