"""One process at a time on an output folder; a dead one is no obstacle."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import QUICK, Told

from pocketvision.errors import ConfigError
from pocketvision.fitting import lock
from pocketvision.fitting.lock import locked
from pocketvision.fitting.pipeline import run_fit

HOLD = """
import sys
from pathlib import Path
from pocketvision.fitting.lock import locked
with locked(Path(sys.argv[1]), print):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_second_process_is_told_which_one_is_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held_elsewhere(out) as process:
        message = (
            rf"Another run works on the output folder .*out: process {process.pid} on .+ since "
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\. Wait for it, stop it, or give another --out\."
        )
        with pytest.raises(ConfigError, match=message), locked(out, print):
            pass
        with pytest.raises(ConfigError, match="Another run works on the output folder"):
            run_fit(replace(QUICK, data=str(tmp_path)), out)
    assert not out.exists()


def test_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held_elsewhere(out) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".out.lock").exists()
        with locked(out, print):
            assert f"process {os.getpid()} on " in (tmp_path / ".out.lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_lock_holds_within_one_process_and_for_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        locked(tmp_path / "out", print),
        pytest.raises(ConfigError, match="Another run works on the output folder"),
        locked(tmp_path / "link" / "x" / ".." / "out", print),
    ):
        pass
    with locked(tmp_path / "out", print), locked(tmp_path / "other", print):
        pass


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folders" / "out"
    with locked(out, print):
        assert (out.parent / ".out.lock").exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(out, print):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with locked(out, print):
        out.mkdir()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_lock_file_that_its_holder_just_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock_it = tmp_path / ".out.lock", lock._lock

    def after_the_holder_ended(handle: int) -> bool:
        monkeypatch.setattr(lock, "_lock", lock_it)
        path.unlink()
        return lock_it(handle)

    monkeypatch.setattr(lock, "_lock", after_the_holder_ended)
    with locked(tmp_path / "out", print):
        assert path.exists()
        with pytest.raises(ConfigError, match="Another run"), locked(tmp_path / "out", print):
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_file_system_without_locks_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    assert lock.fcntl is not None
    monkeypatch.setattr(lock.fcntl, "flock", none_here)
    told = Told()
    with locked(tmp_path / "out", told.say):
        pass
    assert len(told.sentences) == 1
    assert told.sentences[0].startswith("This system cannot lock ")
    assert list(tmp_path.iterdir()) == []


def test_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    told = Told()
    with locked(tmp_path / "out", told.say):
        pass
    assert told.sentences[0].endswith("take care that nothing else fits into it meanwhile.")
