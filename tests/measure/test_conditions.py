"""How quiet the machine was, from a /proc and a /sys that the tests write."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pocketvision.measure import conditions as module
from pocketvision.measure.conditions import causes, explain, judged, watch_conditions
from pocketvision.measure.device import load_average
from pocketvision.record.timing import Conditions, Latency

QUIET = Conditions(load=0.1, governor="performance", steal=0.0, busy=0.03, throttled=0, pinned=True)
UNKNOWN = Conditions(load=None, governor=None, steal=None, busy=None, throttled=None, pinned=False)


class Machine:
    """A root folder with the counters of a machine of two cores."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def ticks(self, *, user: int, idle: int, waiting: int, steal: int, own: int) -> None:
        columns = f"{user} 20 30 {idle} {waiting} 4 6 {steal} 15 0"
        self.write("proc/stat", f"cpu  {columns}\ncpu0 {columns}\nintr 5\n")
        # Fields 14 to 17: user and system time, and that of children waited for.
        times = f"{own - 9} 2 3 4"
        before = "S 1 1 1 0 -1 4194304 100 0 0 0"
        self.write("proc/self/stat", f"77 (odd) name (x)) {before} {times} 20 0 1 0\n")

    def throttle(self, core: int, of_core: int, of_package: int) -> None:
        folder = f"sys/devices/system/cpu/cpu{core}/thermal_throttle"
        self.write(f"{folder}/core_throttle_count", f"{of_core}\n")
        self.write(f"{folder}/package_throttle_count", f"{of_package}\n")
        self.write(f"{folder}/core_throttle_total_time_ms", "99999\n")

    def governor(self, core: int, name: str) -> None:
        self.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{name}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_shares_are_those_of_the_block(machine: Machine) -> None:
    """200 ticks of two cores: 80 ours, 40 of others, 30 stolen, 50 idle or waiting."""
    machine.ticks(user=1000, idle=5000, waiting=70, steal=400, own=300)
    with watch_conditions(1, machine.root) as seen:
        assert seen == []
        machine.ticks(user=1120, idle=5040, waiting=80, steal=430, own=380)
    (found,) = seen
    assert found.steal == pytest.approx(30 / 150)  # of the time in which cores had work
    assert found.busy == pytest.approx(40 / 200)


def test_throttling_counts_what_happened_meanwhile(machine: Machine) -> None:
    """Two cores of one package count its events alike: three events, not six."""
    for core in (0, 1):
        machine.throttle(core, of_core=7, of_package=12)
    with watch_conditions(1, machine.root) as seen:
        machine.throttle(0, of_core=8, of_package=15)
        machine.throttle(1, of_core=7, of_package=15)
    assert seen[0].throttled == 3
    with watch_conditions(1, machine.root) as seen:
        pass
    assert seen[0].throttled == 0


def test_governors_are_named_once_each(machine: Machine) -> None:
    for core, name in enumerate(("powersave", "performance", "powersave")):
        machine.governor(core, name)
    with watch_conditions(1, machine.root) as seen:
        pass
    assert seen[0].governor == "performance, powersave"


def test_what_the_system_does_not_say_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with watch_conditions(1, tmp_path) as seen:
        pass
    assert seen == [UNKNOWN]


@pytest.mark.parametrize("text", ["", "cpu  0 0 0 0 0 0 0 0 0 0\n", "cpu  1 2 3\n", "cpu  a b\n"])
def test_counters_that_do_not_count_are_none(machine: Machine, text: str) -> None:
    machine.ticks(user=1000, idle=5000, waiting=70, steal=400, own=300)
    machine.write("proc/stat", text)
    with watch_conditions(1, machine.root) as seen:
        pass
    assert (seen[0].steal, seen[0].busy) == (None, None)


def test_shares_stay_within_bounds(machine: Machine) -> None:
    """Our own time may be a tick ahead of that of all cores, and waiting may go backwards."""
    machine.ticks(user=1000, idle=5000, waiting=70, steal=400, own=300)
    with watch_conditions(1, machine.root) as seen:
        machine.ticks(user=1010, idle=5020, waiting=60, steal=400, own=320)
    assert (seen[0].steal, seen[0].busy) == (0.0, 0.0)


def test_load_is_read_when_the_block_begins(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_average", lambda: 0.25)
    with watch_conditions(1, machine.root) as seen:
        monkeypatch.setattr(module, "load_average", lambda: 8.0)
    assert seen[0].load == 0.25


def test_load_that_cannot_be_had_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> None:
        raise OSError("unobtainable")

    monkeypatch.setattr(os, "getloadavg", closed, raising=False)
    assert load_average() is None


def test_pinned_is_whether_the_threads_have_their_cores(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "sched_setaffinity"):
        monkeypatch.setattr(os, "sched_setaffinity", None, raising=False)
    found = []
    for threads in (1, 10_000):
        with watch_conditions(threads, machine.root) as seen:
            pass
        found.append(seen[0].pinned)
    assert found == [True, False]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"steal": 0.12},
            "12% of the working time went to other machines (steal); wait until the host is quiet "
            "and measure again",
        ),
        (
            {"busy": 0.4},
            "other processes took 40% of the cores; stop other programs and measure again",
        ),
        ({"throttled": 1}, "the cores were throttled once; let the machine cool and measure again"),
        (
            {"throttled": 3},
            "the cores were throttled 3 times; let the machine cool and measure again",
        ),
        (
            {"governor": "powersave"},
            "the frequency governor is powersave; set it to performance and measure again",
        ),
        (
            {"steal": 0.05, "busy": 0.3},
            "5% of the working time went to other machines (steal), other processes took 30% of "
            "the cores; wait until the host is quiet, stop other programs and measure again",
        ),
    ],
)
def test_causes_are_named_with_their_remedies(change: dict[str, float], sentence: str) -> None:
    assert explain(replace(QUIET, **change)) == sentence  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threads", "busy", "trusted"),
    [(1, 0.54, True), (1, 0.56, False), (2, 0.09, True), (2, 0.11, False), (9, 0.11, False)],
)
def test_figures_are_not_trusted_where_the_threads_had_to_wait(
    threads: int, busy: float, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two cores one thread leaves half, and two leave none; a tenth is let pass."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    latency = Latency(median_ms=5, p95_ms=6, low_ms=5, high_ms=5, runs=9, threads=threads)
    found = judged(latency, replace(QUIET, busy=busy))
    assert (found == latency) == trusted
    if not trusted:
        assert found.noise == (
            f"its threads had to wait: other processes took {busy:.0%} of the cores; stop other "
            "programs and measure again"
        )
    assert judged(latency, UNKNOWN) == latency
    noisy = replace(latency, noise="wide")
    assert judged(noisy, replace(QUIET, busy=1.0)) == noisy


@pytest.mark.parametrize("conditions", [QUIET, UNKNOWN])
def test_without_a_cause_none_is_invented(conditions: Conditions) -> None:
    assert causes(conditions) == []
    assert explain(conditions).startswith("the system names no cause; stop other programs")
