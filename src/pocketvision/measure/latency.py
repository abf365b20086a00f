"""The timing protocol: interleaved, repeated, with an interval and a verdict.

Candidates are timed in turns, in another order each round, so that a machine that slows down slows
all of them. Its speed wanders within seconds, so the rounds are spread over more than that, and the
interval comes from whole stretches of rounds: rounds near in time are alike. A figure that cannot
be trusted says so, with the reason as far as the system gives one.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import in_range
from pocketvision.measure.conditions import explain, watch_conditions
from pocketvision.measure.device import pinned
from pocketvision.record.timing import Conditions, Latency

Run = Callable[[], object]  # one run of a session, the input being in memory
Clock = Callable[[], int]  # nanoseconds
Progress = Callable[[int, int], None]  # rounds done, rounds in all

NOISY_SHARE = 0.2  # of the median: a wider interval is not to be trusted
DRIFT_SHARE = 0.1  # of the first half of the rounds: a greater change is not either
DRIFT_ROUNDS = 6  # with fewer, chance looks like drift
STRETCHES = 10  # of neighbouring rounds; the interval resamples them
RESAMPLES = 400
ANCHOR = "the anchor"
NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProtocol:
    """How long to look.

    warmup_runs: before anything counts; they also tell how many runs fill a round. rounds: turns of
    each session. min_runs, max_runs: per round. seconds: of counted runs per session, as far as
    min_runs and max_runs allow. span_s: from the first round to the last, at least; the machine
    rests between them. retries: how often noisy sessions are timed again.
    Raises: ConfigError: a value out of range.
    """

    warmup_runs: int = 5
    rounds: int
    min_runs: int
    max_runs: int = 2000
    seconds: float
    span_s: float = 0.0
    retries: int = 1

    def __post_init__(self) -> None:
        in_range("warmup_runs", self.warmup_runs, 1, 10_000)
        in_range("rounds", self.rounds, 2, 10_000)
        in_range("max_runs", self.max_runs, 1, 1_000_000)
        in_range("min_runs", self.min_runs, 1, self.max_runs)
        in_range("seconds", self.seconds, 0, 3600)
        in_range("span_s", self.span_s, 0, 3600)
        in_range("retries", self.retries, 0, 100)


PLANNING = LatencyProtocol(rounds=10, min_runs=2, seconds=0.5)
FINAL = LatencyProtocol(rounds=30, min_runs=2, seconds=3.0, span_s=10.0, retries=2)


def measure_latency(
    sessions: Mapping[str, Run],
    protocol: LatencyProtocol,
    threads: int,
    *,
    batch: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time single runs of all sessions against each other, in milliseconds.

    sessions: name -> a call that runs once, for example partial(session.run, pixels); what it
    raises is passed on. threads: those of the sessions; the process is kept to as many cores.
    batch: images per run, for the record. A session whose interval is wider than a fifth of its
    median, or that became slower or faster by a tenth meanwhile, is timed again, protocol.retries
    times at most; the narrowest without such noise counts, or else the narrowest.
    """
    with _undisturbed(threads):
        best = _measure(sessions, protocol, threads, batch, seed, progress, clock)
        for attempt in range(1, protocol.retries + 1):
            noisy = {name: sessions[name] for name in sessions if best[name].noise}
            if not noisy:
                break
            again = _measure(noisy, protocol, threads, batch, seed + attempt, progress, clock)
            for name, latency in again.items():
                best[name] = min(best[name], latency, key=_doubt)
    return best


def measure_beside(
    anchor: Run,
    sessions: Mapping[str, Run],
    protocol: LatencyProtocol,
    threads: int,
    *,
    anchor_ms: float,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Latency]:
    """As `measure_latency`, told for a machine that is as fast as when `anchor` takes `anchor_ms`.

    The anchor is timed in every round, and what the others take there is told in multiples of it. A
    machine that shares its cores with others has slow seconds and slow minutes, which are longer
    than a round: figures that are compared but were not taken in turns have to be without them.
    """
    best: dict[str, Latency] = {}
    with _undisturbed(threads):
        wanted = dict(sessions)
        for attempt in range(protocol.retries + 1):
            both = {ANCHOR: anchor, **wanted}
            times_ms, conditions = _times_ms(both, protocol, threads, seed + attempt, None, clock)
            shares = anchor_ms / np.median(times_ms.pop(ANCHOR), axis=1)
            for name, taken_ms in times_ms.items():
                found = summarise(
                    taken_ms * shares[:, None], threads=threads, conditions=conditions, seed=seed
                )
                best[name] = min(best.get(name, found), found, key=_doubt)
            wanted = {name: run for name, run in wanted.items() if best[name].noise}
            if not wanted:
                break
    return best


def middle_of_few(
    timed: Callable[[], Latency], is_odd: Callable[[Latency], bool], attempts: int = 3
) -> Latency:
    """What `timed` gives; where that is noisy, or the first is odd, the median of a few."""
    found = [timed()]
    while len(found) < attempts and (found[-1].noise or is_odd(found[0])):
        found.append(timed())
    return sorted(found, key=lambda latency: latency.median_ms)[(len(found) - 1) // 2]


def _doubt(latency: Latency) -> tuple[bool, float]:
    return bool(latency.noise), relative_width(latency)


def relative_width(latency: Latency) -> float:
    """Width of the interval as a share of the median."""
    return (latency.high_ms - latency.low_ms) / max(latency.median_ms, 1e-9)


def summarise(
    times_ms: NDArray[np.float64],
    *,
    threads: int,
    conditions: Conditions,
    batch: int = 1,
    seed: int = 0,
) -> Latency:
    """The figures of one session: pooled median, 95th percentile, bootstrap interval by stretches.

    times_ms: float (rounds, runs). conditions: while they were taken; they explain noise.
    """
    generator = np.random.default_rng(seed)
    stretches = np.array_split(times_ms, min(STRETCHES, len(times_ms)))
    drawn = generator.integers(0, len(stretches), (RESAMPLES, len(stretches)))
    medians = [np.median(np.concatenate([stretches[k] for k in draw])) for draw in drawn]
    median = float(np.median(times_ms))
    low, high = np.percentile(medians, (2.5, 97.5))
    return Latency(
        median_ms=median,
        p95_ms=float(np.percentile(times_ms, 95)),
        # With few rounds, resampled medians can all lie on one side of the median.
        low_ms=min(float(low), median),
        high_ms=max(float(high), median),
        runs=times_ms.size,
        threads=threads,
        batch=batch,
        noise=_noise((high - low) / max(median, 1e-9), _drift(times_ms, generator), conditions),
    )


def _drift(times_ms: NDArray[np.float64], generator: np.random.Generator) -> float:
    """Change of the median from the first half of the rounds to the second, as a share.

    times_ms: float (rounds, runs). 0 where chance explains it: where the 95 % bootstrap intervals
    of the halves, by rounds, meet.
    """
    if len(times_ms) < DRIFT_ROUNDS:
        return 0.0
    halves = np.array_split(np.median(times_ms, axis=1), 2)
    (low, high), (next_low, next_high) = (_interval(half, generator) for half in halves)
    if next_low <= high and low <= next_high:
        return 0.0
    first, second = (float(np.median(half)) for half in halves)
    return second / max(first, 1e-9) - 1


def _interval(
    rounds_ms: NDArray[np.float64], generator: np.random.Generator
) -> tuple[float, float]:
    count = len(rounds_ms)
    resampled = rounds_ms[generator.integers(0, count, (RESAMPLES, count))]
    low, high = np.percentile(np.median(resampled, axis=1), (2.5, 97.5))
    return float(low), float(high)


def _noise(width: float, change: float, conditions: Conditions) -> str:
    """Why the figure cannot be trusted; empty where it can."""
    facts = []
    if width > NOISY_SHARE:
        facts.append(
            f"the 95 % interval spans {width:.0%} of the median (at most {NOISY_SHARE:.0%} can be "
            "trusted)"
        )
    if abs(change) > DRIFT_SHARE:
        direction = "longer" if change > 0 else "less"
        facts.append(
            f"the second half of the rounds took {abs(change):.0%} {direction} than the first (at "
            f"most {DRIFT_SHARE:.0%} can be trusted)"
        )
    return f"{' and '.join(facts)}: {explain(conditions)}" if facts else ""


def _measure(
    sessions: Mapping[str, Run],
    protocol: LatencyProtocol,
    threads: int,
    batch: int,
    seed: int,
    progress: Progress | None,
    clock: Clock,
) -> dict[str, Latency]:
    times_ms, conditions = _times_ms(sessions, protocol, threads, seed, progress, clock)
    return {
        name: summarise(taken_ms, threads=threads, conditions=conditions, batch=batch, seed=seed)
        for name, taken_ms in times_ms.items()
    }


def _times_ms(
    sessions: Mapping[str, Run],
    protocol: LatencyProtocol,
    threads: int,
    seed: int,
    progress: Progress | None,
    clock: Clock,
) -> tuple[dict[str, NDArray[np.float64]], Conditions]:
    """(rounds, runs) of each session, and the conditions meanwhile."""
    generator = np.random.default_rng(seed)
    names = list(sessions)
    runs = {name: _runs_per_round(sessions[name], protocol, clock) for name in names}
    times: dict[str, list[list[int]]] = {name: [] for name in names}
    with watch_conditions(threads) as seen:
        begin_s = time.monotonic()
        for done in range(protocol.rounds):
            _rest_until(begin_s + protocol.span_s * done / (protocol.rounds - 1))
            for index in generator.permutation(len(names)):
                name = names[index]
                sessions[name]()  # after another session, caches are cold
                times[name].append(_times(sessions[name], runs[name], clock))
            if progress is not None:
                progress(done + 1, protocol.rounds)
    found = {name: np.array(times[name]) / NANOSECONDS_PER_MS for name in names}
    return found, seen[0]


def _rest_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))


def _runs_per_round(run: Run, protocol: LatencyProtocol, clock: Clock) -> int:
    typical_ns = float(np.median(_times(run, protocol.warmup_runs, clock)))
    wanted = protocol.seconds * 1e9 / protocol.rounds / max(typical_ns, 1.0)
    return min(max(math.ceil(wanted), protocol.min_runs), protocol.max_runs)


def _times(run: Run, count: int, clock: Clock) -> list[int]:
    times = []
    for _ in range(count):
        start = clock()
        run()
        times.append(clock() - start)
    return times


@contextlib.contextmanager
def _undisturbed(threads: int) -> Iterator[None]:
    """No garbage collection, and no wandering between cores."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with pinned(threads):
            yield
    finally:
        if was_enabled:
            gc.enable()
