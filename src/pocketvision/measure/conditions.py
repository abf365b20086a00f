"""How quiet the machine was while something was timed, and what that explains.

Linux counts what its cores did since it started; the counters are read before and after. What a
system does not say (macOS, Windows, many containers and virtual machines) is None.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pocketvision.measure.device import can_pin, load_average
from pocketvision.record.timing import Conditions, Latency

ROOT = Path("/")
CORES = "sys/devices/system/cpu/cpu[0-9]*"

# From here on they are named as the cause of noise; less is usual on a quiet machine.
STEAL_SHARE = 0.02
BUSY_SHARE = 0.1
CROWDED_SHARE = 0.9  # of the cores of the threads: when others leave less, the threads waited


class Cause(NamedTuple):
    """Why figures are noisy, and what to do about it."""

    fact: str
    remedy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ticks:
    """Time since the system started, of all cores together; `own` is of this process."""

    total: int
    idle: int
    steal: int
    own: int


@contextlib.contextmanager
def watch_conditions(threads: int, root: Path = ROOT) -> Iterator[list[Conditions]]:
    """Conditions of the block, appended to the list it gives.

    threads: those that are timed. root: the folder that holds proc/ and sys/.
    """
    found: list[Conditions] = []
    load, ticks, throttled = load_average(), _ticks(root), _throttled(root)
    yield found
    steal, busy = _shares(ticks, _ticks(root))
    found.append(
        Conditions(
            load=load,
            governor=_governor(root),
            steal=steal,
            busy=busy,
            throttled=_risen(throttled, _throttled(root)),
            pinned=can_pin(threads),
        )
    )


def causes(conditions: Conditions) -> list[Cause]:
    """What speaks against a quiet machine, the gravest first."""
    found = []
    if conditions.steal is not None and conditions.steal >= STEAL_SHARE:
        fact = f"{conditions.steal:.0%} of the working time went to other machines (steal)"
        found.append(Cause(fact, "wait until the host is quiet"))
    if conditions.busy is not None and conditions.busy >= BUSY_SHARE:
        found.append(
            Cause(f"other processes took {conditions.busy:.0%} of the cores", "stop other programs")
        )
    if conditions.throttled:
        times = "once" if conditions.throttled == 1 else f"{conditions.throttled} times"
        found.append(Cause(f"the cores were throttled {times}", "let the machine cool"))
    if conditions.governor not in (None, "performance"):
        fact = f"the frequency governor is {conditions.governor}"
        found.append(Cause(fact, "set it to performance"))
    return found


def judged(latency: Latency, conditions: Conditions) -> Latency:
    """`latency` with the verdict of the conditions it was measured under.

    Where others took more than its threads left them, the threads had to wait, mostly for longer
    than a measurement: rounds then agree with each other, and not with the next measurement.
    """
    cores = os.cpu_count() or 1
    left = 1 - CROWDED_SHARE * min(latency.threads / cores, 1.0)
    if latency.noise or conditions.busy is None or conditions.busy <= left:
        return latency
    return replace(latency, noise=f"its threads had to wait: {explain(conditions)}")


def explain(conditions: Conditions) -> str:
    """'other processes took 40% of the cores; stop other programs and measure again'."""
    found = causes(conditions)
    if not found:
        return "the system names no cause; stop other programs and measure again"
    remedies = ", ".join(cause.remedy for cause in found)
    return f"{', '.join(cause.fact for cause in found)}; {remedies} and measure again"


def _shares(before: _Ticks | None, after: _Ticks | None) -> tuple[float | None, float | None]:
    """What a hypervisor stole of the working time, and what others took of all cores."""
    if before is None or after is None:
        return None, None
    total = after.total - before.total
    working = total - (after.idle - before.idle)
    stolen = after.steal - before.steal
    if min(working, total) <= 0:  # shorter than a tick, or a system that does not count
        return None, None
    others = working - stolen - (after.own - before.own)
    return _share(stolen, working), _share(others, total)


def _share(part: int, whole: int) -> float:
    # The counters are not read at one moment.
    return min(max(part / whole, 0.0), 1.0)


def _ticks(root: Path) -> _Ticks | None:
    text, own = _text(root / "proc/stat"), _text(root / "proc/self/stat")
    try:
        # The last two columns, time of guests, are part of user and nice.
        user, nice, system, idle, waiting, irq, soft_irq, steal = map(int, text.split()[1:9])
        # The name of the process, in brackets, may hold spaces and brackets.
        fields = own.rpartition(")")[2].split()
        own_ticks = sum(map(int, fields[11:15]))  # user and system, and of children waited for
    except ValueError:
        return None
    return _Ticks(
        total=user + nice + system + idle + waiting + irq + soft_irq + steal,
        idle=idle + waiting,
        steal=steal,
        own=own_ticks,
    )


def _throttled(root: Path) -> dict[Path, int]:
    """Events of thermal throttling by counter; cores of one package count the package's alike."""
    files = root.glob(f"{CORES}/thermal_throttle/*_throttle_count")
    return {file: int(text) for file in files if (text := _text(file).strip()).isdecimal()}


def _risen(before: dict[Path, int], after: dict[Path, int]) -> int | None:
    """Events of the counter that rose most."""
    rises = [after[file] - before[file] for file in before.keys() & after.keys()]
    return max(rises) if rises else None


def _governor(root: Path) -> str | None:
    files = root.glob(f"{CORES}/cpufreq/scaling_governor")
    names = {name for file in files if (name := _text(file).strip())}
    return ", ".join(sorted(names)) or None


def _text(path: Path) -> str:
    """Empty where the file is not there, or closed to us."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
