"""The timing protocol, on a clock that only fake sessions move."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.errors import ConfigError
from pocketvision.measure import latency as module
from pocketvision.measure.latency import (
    FINAL,
    PLANNING,
    LatencyProtocol,
    measure_beside,
    measure_latency,
    relative_width,
    summarise,
)
from pocketvision.record.timing import Conditions

PROTOCOL = LatencyProtocol(warmup_runs=3, rounds=8, min_runs=4, max_runs=50, seconds=0.1, retries=0)
MS = 1_000_000
QUIET = Conditions(load=0.1, governor=None, steal=0.0, busy=0.0, throttled=0, pinned=True)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    under(QUIET, monkeypatch)


def under(conditions: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as if these had been the conditions."""

    @contextlib.contextmanager
    def watch(threads: int) -> Iterator[list[Conditions]]:
        yield [conditions]

    monkeypatch.setattr(module, "watch_conditions", watch)


class Bench:
    """A clock in nanoseconds, and sessions that take time on it."""

    def __init__(self) -> None:
        self.now = 0
        self.log: list[str] = []

    def clock(self) -> int:
        return self.now

    def session(self, name: str, time_ns: Callable[[int], float]) -> Callable[[], object]:
        """time_ns: number of the run, from 0 -> nanoseconds it takes."""
        counter = itertools.count()

        def run() -> object:
            self.log.append(name)
            self.now += round(time_ns(next(counter)))
            return None

        return run


def test_constant_times_are_reported_exactly() -> None:
    bench = Bench()
    sessions = {
        "a": bench.session("a", lambda _: 2 * MS),
        "b": bench.session("b", lambda _: 5 * MS),
    }
    found = measure_latency(sessions, PROTOCOL, 1, batch=4, clock=bench.clock)
    assert list(found) == ["a", "b"]
    for name, expected in (("a", 2.0), ("b", 5.0)):
        latency = found[name]
        figures = (latency.median_ms, latency.p95_ms, latency.low_ms, latency.high_ms)
        assert figures == (expected,) * 4
        assert (latency.threads, latency.batch, latency.noise) == (1, 4, "")
    # 0.1 s / 8 rounds: 6.25 runs of 2 ms, 2.5 runs of 5 ms (at least 4)
    assert found["a"].runs == 8 * 7
    assert found["b"].runs == 8 * 4


def test_fast_sessions_are_capped() -> None:
    bench = Bench()
    found = measure_latency({"a": bench.session("a", lambda _: 0)}, PROTOCOL, 1, clock=bench.clock)
    assert found["a"].runs == 8 * 50


def test_sessions_take_turns_in_changing_order() -> None:
    bench = Bench()
    names = ("a", "b", "c")
    sessions = {name: bench.session(name, lambda _: 100 * MS) for name in names}
    measure_latency(sessions, PROTOCOL, 1, clock=bench.clock)
    turns = [name for name, _ in itertools.groupby(bench.log[3 * 3 :])]
    # A block is an uncounted run and four counted ones; equal neighbours of two rounds merge.
    blocks = bench.log[9::5]
    assert len(bench.log) == 9 + 8 * 3 * 5
    assert len(turns) > 16
    rounds = [tuple(blocks[i : i + 3]) for i in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 1


def test_equal_seeds_give_equal_orders() -> None:
    logs = []
    for seed in (0, 0, 1):
        bench = Bench()
        sessions = {name: bench.session(name, lambda _: 100 * MS) for name in "abcd"}
        measure_latency(sessions, PROTOCOL, 1, seed=seed, clock=bench.clock)
        logs.append(bench.log)
    assert logs[0] == logs[1] != logs[2]


def test_a_machine_that_slows_down_slows_all_sessions_alike() -> None:
    bench = Bench()
    slowing = [lambda _: 2 * MS * (1 + bench.now / 1e10), lambda _: 4 * MS * (1 + bench.now / 1e10)]
    sessions = {str(i): bench.session(str(i), time) for i, time in enumerate(slowing)}
    found = measure_latency(sessions, PROTOCOL, 1, clock=bench.clock)
    assert found["1"].median_ms / found["0"].median_ms == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("slow_s", [0.5, 1000.0])
def test_beside_an_anchor_slow_seconds_and_slow_minutes_are_no_slower_networks(
    slow_s: float,
) -> None:
    bench = Bench()

    def taking(ms: float) -> Callable[[], object]:
        """More than half as long again in every second stretch of `slow_s`."""
        return bench.session("", lambda _: ms * MS * (1 + 0.6 * (bench.now // (slow_s * 1e9) % 2)))

    anchor, sessions = taking(2.0), {"a": taking(1.0), "b": taking(30.0)}
    found = []
    for begin_s in (0.0, slow_s):
        bench.now = round(begin_s * 1e9)
        found.append(
            measure_beside(anchor, sessions, PROTOCOL, 1, anchor_ms=2.0, clock=bench.clock)
        )
    for one in found:
        assert (one["a"].median_ms, one["b"].median_ms) == pytest.approx((1.0, 30.0), rel=0.02)
        assert not one["a"].noise


def test_what_is_noisy_beside_an_anchor_is_timed_again() -> None:
    bench = Bench()
    noisy = bench.session("a", lambda run: (2 if run < 40 and run % 8 < 4 else 1) * MS)
    anchor = bench.session("", lambda _: 2 * MS)
    once, again = (
        measure_beside(
            anchor, {"a": noisy}, replace(PROTOCOL, retries=n), 1, anchor_ms=2.0, clock=bench.clock
        )["a"]
        for n in (0, 1)
    )
    assert again.median_ms == 1.0
    assert relative_width(again) <= relative_width(once)


def test_first_slow_runs_do_not_count() -> None:
    bench = Bench()
    session = bench.session("a", lambda run: 2 * MS if run >= PROTOCOL.warmup_runs else 500 * MS)
    found = measure_latency({"a": session}, PROTOCOL, 1, clock=bench.clock)
    assert found["a"].p95_ms == 2.0


def test_noisy_sessions_are_timed_again_and_the_narrowest_counts() -> None:
    bench = Bench()
    generator = np.random.default_rng(0)
    noisy_until = 3 + 8 * 5

    def time_ns(run: int) -> float:
        # One factor per round of five runs: noise that more runs in the round cannot average out.
        factor = generator.uniform(1, 3) if run < noisy_until and run % 5 == 3 else None
        if factor is not None:
            time_ns.factor = factor  # type: ignore[attr-defined]
        return 100 * MS * (time_ns.factor if run < noisy_until else 1)  # type: ignore[attr-defined]

    time_ns.factor = 1.0  # type: ignore[attr-defined]
    sessions = {
        "noisy": bench.session("noisy", time_ns),
        "b": bench.session("b", lambda _: 100 * MS),
    }
    once = measure_latency(sessions, PROTOCOL, 1, clock=bench.clock)
    assert "of the median" in once["noisy"].noise
    assert relative_width(once["noisy"]) > 0.2
    assert once["b"].noise == ""

    bench = Bench()
    sessions = {
        "noisy": bench.session("noisy", time_ns),
        "b": bench.session("b", lambda _: 100 * MS),
    }
    retrying = LatencyProtocol(warmup_runs=3, rounds=8, min_runs=4, seconds=0.1, retries=2)
    again = measure_latency(sessions, retrying, 1, clock=bench.clock)
    assert again["noisy"].noise == ""
    assert again["noisy"].median_ms == 100.0
    assert bench.log.count("b") == 3 + 8 * 5  # not noisy, not timed again
    assert bench.log.count("noisy") == 2 * (3 + 8 * 5)


def test_what_stays_noisy_says_so() -> None:
    bench = Bench()
    generator = np.random.default_rng(0)
    session = bench.session("a", lambda _: 100 * MS * generator.uniform(1, 20))
    protocol = LatencyProtocol(warmup_runs=1, rounds=4, min_runs=2, seconds=0.1, retries=2)
    found = measure_latency({"a": session}, protocol, 1, clock=bench.clock)
    assert "stop other programs and measure again" in found["a"].noise
    assert bench.log.count("a") == 3 * (1 + 4 * 3)


def test_outlier_moves_neither_the_median_nor_the_verdict() -> None:
    bench = Bench()
    session = bench.session("a", lambda run: 5000 * MS if run == 20 else 2 * MS)
    found = measure_latency({"a": session}, PROTOCOL, 1, clock=bench.clock)["a"]
    assert (found.low_ms, found.median_ms, found.high_ms) == (2.0, 2.0, 2.0)
    assert found.noise == ""


def test_noise_names_what_the_machine_did_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    under(replace(QUIET, throttled=3, busy=0.4), monkeypatch)
    bench = Bench()
    generator = np.random.default_rng(0)
    sessions = {
        "wide": bench.session("wide", lambda _: 100 * MS * generator.uniform(1, 20)),
        "calm": bench.session("calm", lambda _: 100 * MS),
    }
    found = measure_latency(sessions, PROTOCOL, 1, clock=bench.clock)
    assert found["wide"].noise.endswith(
        "of the median (at most 20% can be trusted): other processes took 40% of the cores, the "
        "cores were throttled 3 times; stop other programs, let the machine cool and measure again"
    )
    assert found["calm"].noise == "", "a busy machine alone spoils nothing"


def drifting(before_ms: float, after_ms: float, rounds: int = 8) -> np.ndarray:
    """Rounds of five runs with 2 % of noise, the second half at another level."""
    generator = np.random.default_rng(0)
    levels = np.repeat([before_ms, after_ms], [rounds // 2, rounds - rounds // 2])
    return np.asarray(levels[:, None] * generator.normal(1, 0.02, (rounds, 5)))


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "sentence"),
    [(10, 11.5, "1[3-7]% longer than the first"), (10, 8.5, "1[3-7]% less than the first")],
)
def test_drift_is_named(before_ms: float, after_ms: float, sentence: str) -> None:
    throttled = replace(QUIET, throttled=1)
    found = summarise(drifting(before_ms, after_ms), threads=1, conditions=throttled)
    assert re.search(
        rf"^the second half of the rounds took {sentence} \(at most 10% can be trusted\): "
        r"the cores were throttled once; let",
        found.noise,
    )
    assert relative_width(found) < 0.2


def test_small_or_accidental_changes_are_no_drift() -> None:
    assert summarise(drifting(10, 10.8), threads=1, conditions=QUIET).noise == ""
    assert summarise(drifting(10, 11.5, rounds=4), threads=1, conditions=QUIET).noise == ""
    generator = np.random.default_rng(0)
    found = [
        summarise(generator.normal(10, 0.8, (20, 1)), threads=1, conditions=QUIET).noise
        for _ in range(200)
    ]
    assert sum("second half" in noise for noise in found) <= 2


def test_drift_is_timed_again_and_the_steady_time_counts() -> None:
    """The machine slows down for good in the first attempt: narrow, and yet not to be trusted."""
    bench = Bench()
    slow_from = 3 + 4 * 5
    session = bench.session("a", lambda run: 115 * MS if run >= slow_from else 100 * MS)
    retrying = replace(PROTOCOL, retries=1)
    found = measure_latency({"a": session}, retrying, 1, clock=bench.clock)["a"]
    assert (found.median_ms, found.noise) == (115.0, "")
    assert bench.log.count("a") == 2 * (3 + 8 * 5)


def test_errors_pass_and_collection_is_restored() -> None:
    bench = Bench()

    def broken() -> object:
        assert not gc.isenabled()
        raise ZeroDivisionError("broken session")

    sessions = {"a": bench.session("a", lambda _: MS), "b": broken}
    with pytest.raises(ZeroDivisionError, match="broken session"):
        measure_latency(sessions, PROTOCOL, 1, clock=bench.clock)
    assert gc.isenabled()


def test_progress_counts_rounds_and_nothing_needs_no_time() -> None:
    bench, seen = Bench(), []
    measure_latency(
        {"a": bench.session("a", lambda _: MS)},
        PROTOCOL,
        1,
        progress=lambda done, total: seen.append((done, total)),
        clock=bench.clock,
    )
    assert seen == [(done, 8) for done in range(1, 9)]
    assert measure_latency({}, PROTOCOL, 1) == {}


@given(
    times=st.integers(2, 6).flatmap(
        lambda runs: st.lists(
            st.lists(st.floats(0.01, 100), min_size=runs, max_size=runs), min_size=2, max_size=6
        )
    )
)
def test_figures_are_ordered_and_scale(times: list[list[float]]) -> None:
    table = np.array(times)
    found = summarise(table, threads=1, conditions=QUIET)
    slack = 1e-9 * table.max()
    assert table.min() - slack <= found.low_ms <= found.median_ms <= found.high_ms
    assert found.high_ms <= table.max() + slack
    assert found.median_ms <= found.p95_ms + slack
    assert found.runs == table.size
    doubled = summarise(2 * table, threads=1, conditions=QUIET)
    np.testing.assert_allclose(
        (doubled.low_ms, doubled.median_ms, doubled.high_ms),
        (2 * found.low_ms, 2 * found.median_ms, 2 * found.high_ms),
    )


def test_interval_covers_the_true_median_when_rounds_differ() -> None:
    """Noise shared by a whole round must widen the interval: 95 % +- chance over 300 trials."""
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        rounds = generator.normal(10, 1, (20, 1)) + generator.normal(0, 0.1, (20, 25))
        found = summarise(rounds, threads=1, conditions=QUIET, seed=trial)
        hits += found.low_ms <= 10 <= found.high_ms
    assert 0.88 < hits / 300 < 0.99


def test_interval_widens_when_the_speed_wanders() -> None:
    """Rounds like their neighbours say less than as many that differ on their own."""
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        level, rounds = generator.normal(), []
        for _ in range(30):
            level = 0.5 * level + math.sqrt(1 - 0.5**2) * generator.normal()
            rounds.append(10 + level + generator.normal(0, 0.1, 5))
        found = summarise(np.array(rounds), threads=1, conditions=QUIET, seed=trial)
        hits += found.low_ms <= 10 <= found.high_ms
    assert 0.82 < hits / 200 < 0.99  # resampling single rounds covers 73 %


def test_rounds_are_spread_over_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, begins = Bench(), []
    rests: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(rests))
    monkeypatch.setattr(time, "sleep", lambda seconds: rests.append(seconds))
    run = bench.session("a", lambda _: MS)
    measure_latency(
        {"a": run},
        replace(PROTOCOL, span_s=14.0),
        threads=1,
        clock=bench.clock,
        progress=lambda *_: begins.append(round(sum(rests), 6)),
    )
    assert begins == [0, 2, 4, 6, 8, 10, 12, 14]


def test_protocols_are_checked() -> None:
    assert PLANNING.seconds < FINAL.seconds
    with pytest.raises(ConfigError, match=r"rounds=1 is out of range; expected 2 to"):
        LatencyProtocol(rounds=1, min_runs=1, seconds=1)
    with pytest.raises(ConfigError, match=r"min_runs=9 is out of range; expected 1 to 5"):
        LatencyProtocol(rounds=2, min_runs=9, max_runs=5, seconds=1)
    with pytest.raises(ConfigError, match=r"seconds=nan is out of range"):
        LatencyProtocol(rounds=2, min_runs=1, seconds=float("nan"))
    with pytest.raises(ConfigError, match=r"span_s=-1 is out of range"):
        LatencyProtocol(rounds=2, min_runs=1, seconds=1, span_s=-1)
