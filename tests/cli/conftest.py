"""No test of the command line hangs on how fast the machine is at the moment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _any_speed_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketvision.fitting.checks.LATENCY_TOLERANCE", 1000.0)
