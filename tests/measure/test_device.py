"""What machine this is, and keeping to some of its cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pocketvision import cpu as cpu_module
from pocketvision.errors import ConfigError
from pocketvision.measure import device
from pocketvision.measure.device import machine, machine_key, pinned
from pocketvision.record.timing import Machine
from pocketvision.storage import from_json, to_json

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a system with core affinity, and two cores",
)


def test_machine_is_described_and_goes_into_a_record() -> None:
    here = machine()
    assert from_json(Machine, to_json(here), source="record") == here
    assert here.cores >= 1
    assert here.memory_bytes > 10**8
    assert {"pocketvision", "torch", "onnxruntime", "numpy"} <= set(here.versions)


def test_versions_are_read_without_imports() -> None:
    program = (
        "import sys; from pocketvision.measure.device import machine, machine_key\n"
        "machine(), machine_key()\n"
        "print([m for m in ('torch', 'onnxruntime', 'openvino', 'nncf') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_machine_key_changes_with_what_latency_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    key = machine_key()
    assert key == machine_key()
    assert len(key) == 16
    versions = {"onnxruntime": "0.0", "openvino": "1.0"}
    monkeypatch.setattr(device, "_versions", lambda packages: versions)
    other = machine_key()
    monkeypatch.setattr(device, "available_cores", lambda: 77)
    more_cores = machine_key()
    fake = cpu_module.Cpu(name="fake", architecture="x86_64", features=("amx_int8",))
    monkeypatch.setattr(device, "cpu", lambda: fake)
    assert len({key, other, more_cores, machine_key()}) == 4


def test_absent_packages_have_no_version() -> None:
    assert device._versions(("no-such-distribution",)) == {}


@needs_affinity
def test_pinned_holds_every_thread_and_lets_go() -> None:
    before = os.sched_getaffinity(0)
    stop, ready = threading.Event(), threading.Event()
    seen: list[int] = []

    def wait() -> None:
        seen.append(threading.get_native_id())
        ready.set()
        stop.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(10)
    try:
        with pinned(1):
            assert os.sched_getaffinity(0) == {min(before)}
            assert os.sched_getaffinity(seen[0]) == {min(before)}
            late = threading.Thread(target=wait)
            ready.clear()
            late.start()
            ready.wait(10)
        assert os.sched_getaffinity(0) == before
        assert [os.sched_getaffinity(thread_id) for thread_id in seen] == [before, before]
    finally:
        stop.set()
        thread.join()
        late.join()


@needs_affinity
def test_pinned_lets_go_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), pinned(1):
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_pinned_does_nothing_where_cores_are_few_or_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pinned(10_000):
        pass
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(1):
        pass
    with (
        pytest.raises(ConfigError, match="threads=0 is out of range; expected at least 1"),
        pinned(0),
    ):
        pass
