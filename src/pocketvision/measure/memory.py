"""Peak resident memory of a shipped file, as its own process sees it.

What is measured: the high-water mark of resident bytes (VmHWM) of a fresh process that loads
model/run.py, opens the file and runs it a few times on one image; so loading counts as well as
running. The interpreter and the runtime's libraries are taken off by the same process with a model
of one operation. Pages of the file that the system keeps for itself are not in it, and neither is
what `pocketvision predict` needs beyond run.py.
"""

from __future__ import annotations

import importlib.util
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketvision.errors import ArtefactError, ConfigError, at_least

STATUS = Path("/proc/self/status")
REPEATS = 3
RUNS = 3  # of the session in each process: buffers grow in the first, and stay


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessPeak:
    """High-water mark of resident bytes, over processes that did the same."""

    median_bytes: int
    low_bytes: int
    high_bytes: int
    processes: int

    def beyond(self, empty: ProcessPeak) -> int:
        """Bytes above an empty session: the highest seen here over the median there, 0 or more."""
        return max(0, self.high_bytes - empty.median_bytes)


def can_measure_memory() -> bool:
    """True where the system says what a process held at most (Linux)."""
    return STATUS.exists()


def measure_process(
    folder: Path, shape: tuple[int, int, int], repeats: int = REPEATS
) -> ProcessPeak:
    """Peak memory of a process that runs `folder`/run.py, in `repeats` fresh processes.

    folder: what ships. shape: (height, width, channels) of the image it takes.

    Raises: ConfigError: no Linux, repeats below 1. ArtefactError: the file cannot be run.
    """
    at_least("repeats", repeats, 1)
    if not can_measure_memory():
        raise ConfigError(
            f"peak memory is read from {STATUS}, which {platform.system()} does not have; leave "
            "--memory away here."
        )
    peaks = [_peak_bytes(folder, shape) for _ in range(repeats)]
    return ProcessPeak(
        median_bytes=round(statistics.median(peaks)),
        low_bytes=min(peaks),
        high_bytes=max(peaks),
        processes=repeats,
    )


def _peak_bytes(folder: Path, shape: tuple[int, int, int]) -> int:
    command = [sys.executable, "-m", __name__, str(folder), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ArtefactError(f"{folder} could not be run to measure its memory: {reason}")
    return int(done.stdout.split()[-1])


def _run_here(folder: Path, shape: tuple[int, ...]) -> int:
    """Run `folder`/run.py in this process; bytes of its high-water mark."""
    spec = importlib.util.spec_from_file_location("run", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    run = script.open_session()
    pixels = np.zeros((1, *shape), np.uint8)
    for _ in range(RUNS):
        run(pixels)
    return _high_water_bytes(STATUS.read_text())


def _high_water_bytes(status: str) -> int:
    # Not ru_maxrss: a new process inherits there the mark of the one that started it.
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(_run_here(Path(sys.argv[1]), tuple(int(size) for size in sys.argv[2:])))
