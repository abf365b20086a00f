"""Peak memory of a process that runs what ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.measure import memory
from pocketvision.measure.memory import ProcessPeak, can_measure_memory, measure_process

linux = pytest.mark.skipif(not can_measure_memory(), reason="reads /proc")
MB = 1_000_000


def script(folder: Path, body: str) -> Path:
    """A folder whose run.py has this body of `open_session`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "run.py").write_text(f"import sys\n\n\ndef open_session():\n{lines}\n")
    return folder


@linux
def test_peak_counts_what_was_held_for_a_moment(tmp_path: Path) -> None:
    idle = measure_process(script(tmp_path / "idle", "return lambda pixels: None"), (2, 2, 3))
    loading = script(tmp_path / "loading", f"bytearray(b'x') * {40 * MB}\nreturn lambda p: None")
    running = script(tmp_path / "running", f"return lambda pixels: bytearray(b'x') * {40 * MB}")
    for folder in (loading, running):
        found = measure_process(folder, (2, 2, 3))
        assert found.beyond(idle) == pytest.approx(40 * MB, abs=2 * MB)
    assert idle.beyond(idle) < 2 * MB
    assert idle.processes == 3
    assert idle.low_bytes <= idle.median_bytes <= idle.high_bytes


@linux
def test_own_size_of_the_measuring_process_is_not_in_the_figure(tmp_path: Path) -> None:
    folder = script(tmp_path, "return lambda pixels: None")
    before = measure_process(folder, (2, 2, 3), repeats=1)
    ballast = bytearray(b"x") * (200 * MB)
    after = measure_process(folder, (2, 2, 3), repeats=1)
    assert abs(after.high_bytes - before.high_bytes) < 5 * MB
    assert len(ballast) == 200 * MB


@linux
def test_measured_process_sees_one_image_and_nothing_of_torch(tmp_path: Path) -> None:
    body = """\
assert not {"torch", "onnx", "pydantic"} & set(sys.modules)
def run(pixels):
    assert (pixels.shape, pixels.dtype) == ((1, 5, 7, 3), "uint8")
return run"""
    assert measure_process(script(tmp_path, body), (5, 7, 3), repeats=1).high_bytes > MB


@linux
def test_file_that_cannot_be_run_is_one_sentence(tmp_path: Path) -> None:
    folder = script(tmp_path / "bad", "raise ValueError('no such model')")
    message = r"bad could not be run to measure its memory: ValueError: no such model"
    with pytest.raises(ArtefactError, match=message):
        measure_process(folder, (2, 2, 3))


def test_difference_is_highest_over_median_and_never_negative() -> None:
    found = ProcessPeak(median_bytes=12, low_bytes=11, high_bytes=15, processes=3)
    empty = ProcessPeak(median_bytes=10, low_bytes=9, high_bytes=11, processes=3)
    assert found.beyond(empty) == 5
    assert empty.beyond(found) == 0


def test_high_water_mark_is_read_in_kibibytes() -> None:
    status = "Name:\tpython\nVmPeak:\t  99 kB\nVmHWM:\t    1234 kB\nVmRSS:\t  1000 kB\n"
    assert memory._high_water_bytes(status) == 1234 * 1024


def test_system_without_proc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert not can_measure_memory()
    with pytest.raises(ConfigError, match=r"does not have; leave --memory away here"):
        measure_process(tmp_path, (2, 2, 3))
    with pytest.raises(ConfigError, match="repeats=0 is not allowed"):
        measure_process(tmp_path, (2, 2, 3), repeats=0)
