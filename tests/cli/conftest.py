"""One way to run the command line, and no test of it hangs on how fast the machine is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import Answer, Run, answer, called
from quick import quick_files
from quick_scenes import quick_scene_files


@pytest.fixture(autouse=True)
def _any_speed_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketvision.fitting.checks.LATENCY_TOLERANCE", 1000.0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `pocketvision` with these words, and read what it printed."""

    def call(*words: object) -> Answer:
        code = called(*words)
        printed = capsys.readouterr()
        return answer(code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    with quick_files():
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_scene_files() -> Iterator[None]:
    with quick_scene_files():
        yield
