"""Candidates, ranking and the law that a budget is never exceeded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import Told

from pocketvision.budget import Budget, format_size, parse_memory
from pocketvision.errors import BudgetError, ConfigError, GateError
from pocketvision.fitting import plan, ranking
from pocketvision.fitting.candidates import (
    Candidate,
    list_candidates,
    resolutions_for,
    select_names,
    thin,
)
from pocketvision.fitting.choice import Built, choose_variant, position_of_fastest
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.planning import planned_budget
from pocketvision.fitting.ranking import HEADROOM
from pocketvision.fitting.reporter import Silent
from pocketvision.measure import conditions
from pocketvision.models import registry
from pocketvision.record.files import Tried, Variant
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime


def latency(ms: float, noise: str = "") -> Latency:
    return Latency(
        median_ms=ms,
        p95_ms=1.2 * ms,
        low_ms=0.95 * ms,
        high_ms=1.05 * ms,
        runs=9,
        threads=1,
        noise=noise,
    )


@pytest.fixture(scope="module")
def everything() -> list[Candidate]:
    return list_candidates(registry.list_models(), (), (32, 96, 160, 224), 10)


@pytest.mark.parametrize("limit", [6, 12, 36])
def test_thinning_keeps_the_limit_the_cheapest_and_the_range(
    everything: list[Candidate], limit: int
) -> None:
    kept = thin(everything, Budget(), limit)
    assert len(kept) <= limit
    assert len({c.spec for c in kept}) == len(kept)
    macs = sorted(c.count.macs for c in kept)
    assert macs[0] == min(c.count.macs for c in everything)
    assert macs[-1] >= 0.3 * max(c.count.macs for c in everything)
    best = max(everything, key=lambda c: c.prior.top1)
    assert max(c.prior.top1 for c in kept) == best.prior.top1


def test_thinning_drops_what_cannot_be_small_enough(everything: list[Candidate]) -> None:
    kept = thin(everything, Budget(size_bytes=1_000_000))
    assert kept
    assert all(c.count.parameters <= 1_000_000 for c in kept)
    one = thin(everything, Budget(size_bytes=10))
    assert [c.count.parameters for c in one] == [min(c.count.parameters for c in everything)]


def test_thinning_drops_weights_that_memory_cannot_hold(everything: list[Candidate]) -> None:
    kept = thin(everything, Budget(size_bytes=10**7, memory_bytes=1_000_000))
    assert kept == thin(everything, Budget(size_bytes=1_000_000))


@pytest.mark.parametrize(
    ("side", "asked", "expected"),
    [
        (8, (), (32,)),
        (24, (), (32, 48, 64, 96)),
        (500, (), (32, 48, 64, 96, 128, 160, 192, 224)),
        (100, (64, 300, 500), (64, 300)),
        (4, (), (32,)),
    ],
)
def test_images_are_never_enlarged_beyond_4x(
    side: int, asked: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert resolutions_for(side, asked) == expected


def test_resolution_beyond_4x_is_refused() -> None:
    message = r"resolution=224 would enlarge the images \(20 px\) more than 4x; ask for 80 or less"
    with pytest.raises(ConfigError, match=message):
        resolutions_for(20, (224,))


def test_patterns_select_names_once() -> None:
    assert select_names(("mobilenet_v2", "mobilenet_v[12]")) == ["mobilenet_v2", "mobilenet_v1"]
    planned = [name for name in registry.list_models() if registry.MODELS[name].planned]
    assert select_names(()) == planned
    with pytest.raises(ConfigError, match=r"'mobilenet_v4' is unknown; .* Did you mean 'mobilenet"):
        select_names(("mobilenet_v4",))


BUDGETS = st.builds(
    Budget,
    latency_ms=st.none() | st.floats(0.01, 100),
    size_bytes=st.none() | st.integers(1, 10**8),
    memory_bytes=st.none() | st.integers(1, 10**8),
)
VARIANTS = st.lists(
    st.tuples(
        st.floats(0.01, 100),
        st.integers(1, 10**8),
        st.none() | st.integers(1, 10**8),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(budget=BUDGETS, files=VARIANTS)
def test_budget_is_never_exceeded(
    budget: Budget, files: list[tuple[float, int, int | None, bool, bool]]
) -> None:
    built = []
    for ms, size, peak, passed, noisy in files:
        measured = latency(ms, "wide" if noisy else "")
        variant = Variant(
            runtime="onnxruntime",
            precision="int8",
            size_bytes=size,
            latency=measured,
            comparison=None,
            within_budget=ranking.fits(measured, size, budget, peak_bytes=peak),
            passed_gate=passed,
            peak_bytes=peak,
        )
        built.append(Built(variant=variant, path=Path("x")))
    chosen = choose_variant(built)
    if chosen is None:
        return
    variant = chosen.variant
    assert variant.passed_gate
    assert budget.size_bytes is None or variant.size_bytes <= budget.size_bytes
    if budget.memory_bytes is not None:
        assert variant.peak_bytes is not None
        assert variant.peak_bytes <= budget.memory_bytes
    if budget.latency_ms is not None:
        assert variant.latency.high_ms <= budget.latency_ms
    rivals = [b.variant for b in built if b.variant.passed_gate and b.variant.within_budget]
    assert variant.latency.median_ms == min(v.latency.median_ms for v in rivals)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"f32": 1.0, "w8": 1.1, "int8": 2.0}, "w8"),
        ({"f32": 1.1, "w8": 1.0}, "w8"),
        ({"f32": 1.0, "w8": 1.1, "int8": 0.9}, "int8"),
        ({"f32": 1.0, "int8": 1.1}, "f32"),
    ],
)
def test_of_float_and_weights_in_bytes_the_smaller_is_chosen(
    times: dict[Precision, float], chosen: str
) -> None:
    files = [
        Variant(
            runtime="onnxruntime",
            precision=precision,
            size_bytes=1,
            latency=latency(ms),
            comparison=None,
            within_budget=True,
            passed_gate=True,
        )
        for precision, ms in times.items()
    ]
    position = position_of_fastest(files)
    assert position is not None
    assert files[position].precision == chosen
    failed = [replace(v, passed_gate=v.precision != "w8") for v in files]
    position = position_of_fastest(failed)
    assert position is not None
    assert failed[position].precision == min(times, key=lambda p: (p == "w8", times[p]))


def test_weights_in_bytes_are_made_when_asked_for() -> None:
    runtime = get_runtime("onnxruntime")
    assert plan.chosen_precisions(runtime, ()) == ("f32", "int8")
    assert plan.chosen_precisions(runtime, ("w8",)) == ("w8",)


def tried(
    candidate: Candidate, ms: float, size: int, budget: Budget, peak: int | None = None
) -> Tried:
    measured = ranking.Measured(size_bytes=size, latency=latency(ms), peak_bytes=peak)
    return plan.as_tried(candidate, "onnxruntime", "int8", measured, budget)


def test_ranking_is_by_published_accuracy_among_those_that_fit(
    everything: list[Candidate],
) -> None:
    budget = Budget(latency_ms=5.0)
    entries = tuple(
        tried(c, ms=c.count.macs / 2e7, size=c.count.parameters, budget=budget) for c in everything
    )
    ranked = ranking.rank(everything, entries, budget)
    assert [c.prior.top1 for c in ranked] == sorted((c.prior.top1 for c in ranked), reverse=True)
    fitting = {e.network for e in entries if e.fits}
    assert {c.spec.label for c in ranked} == fitting
    assert all(e.latency.high_ms * ranking.HEADROOM <= 5.0 for e in entries if e.fits)


def test_nearest_is_what_would_fit(everything: list[Candidate]) -> None:
    budget = Budget(latency_ms=0.01, size_bytes=10**9)
    entries = tuple(tried(c, ms=c.count.macs / 1e7, size=10, budget=budget) for c in everything)
    with pytest.raises(BudgetError, match=r"Ask for --latency (\S+)ms --size") as raised:
        ranking.rank(everything, entries, budget)
    text = str(raised.value)
    asked = float(text.split("--latency ")[1].split("ms")[0])
    enough = replace(budget, latency_ms=asked)
    again = tuple(tried(c, ms=c.count.macs / 1e7, size=10, budget=enough) for c in everything)
    assert any(e.fits for e in again), "asking for what the message says succeeds"


def test_nearest_names_the_memory_that_would_do(everything: list[Candidate]) -> None:
    budget = Budget(memory_bytes=1000)
    entries = tuple(tried(c, 1.0, 10, budget, peak=c.count.parameters) for c in everything)
    least = min(c.count.parameters for c in everything)
    message = rf"No network meets 1 kB of memory .*: 1 ms .*, 10 B, {format_size(least)} of memory"
    with pytest.raises(BudgetError, match=rf"{message}\. Ask for --memory (\S+)MB, or") as raised:
        ranking.rank(everything, entries, budget)
    asked = parse_memory(str(raised.value).split("--memory ")[1].split(",")[0])
    enough = Budget(memory_bytes=asked)
    again = tuple(tried(c, 1.0, 10, enough, peak=c.count.parameters) for c in everything)
    assert any(e.fits for e in again), "asking for what the message says succeeds"


def test_nearest_is_not_one_whose_memory_is_unknown(everything: list[Candidate]) -> None:
    budget, two = Budget(memory_bytes=1000), everything[:2]
    entries = tuple(
        tried(c, 1.0, 10, budget, peak=p) for c, p in zip(two, (None, 5000), strict=True)
    )
    with pytest.raises(
        BudgetError, match=rf"nearest is {re.escape(entries[1].network)} .*--memory"
    ):
        ranking.rank(two, entries, budget)


def test_budget_that_is_named_is_never_zero(everything: list[Candidate]) -> None:
    budget, one = Budget(latency_ms=0.5, memory_bytes=1000), everything[:1]
    with pytest.raises(BudgetError, match=r"Ask for --latency \S+ms --memory 1MB"):
        ranking.rank(one, (tried(one[0], 1.0, 10, budget, peak=0),), budget)


def test_memory_that_was_not_measured_is_not_within_a_budget() -> None:
    assert ranking.fits(latency(1.0), 1, Budget(), peak_bytes=None)
    assert not ranking.fits(latency(1.0), 1, Budget(memory_bytes=10**9), peak_bytes=None)


def test_noise_is_no_reason_to_say_that_nothing_fits(everything: list[Candidate]) -> None:
    budget = Budget(latency_ms=1.0)
    measured = ranking.Measured(
        size_bytes=1, latency=replace(latency(2.0, "wide"), low_ms=0.5, high_ms=90.0)
    )
    entry = plan.as_tried(everything[0], "onnxruntime", "int8", measured, budget)
    with pytest.raises(GateError, match=r"too noisy to plan: .* takes between 0\.5 ms and 90 ms"):
        ranking.rank(everything, (entry,), budget)


def test_noisy_and_unreadable_measurements_are_made_again(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    spec, runtime = everything[0].spec, get_runtime("onnxruntime")
    cache = plan.MeasuredCache(threads=1)
    for noise, held in (("", True), ("wide", False)):
        measured = ranking.Measured(size_bytes=1, latency=latency(1.0, noise))
        for precision in runtime.precisions:
            cache.put(spec, "onnxruntime", precision, measured)
        cache.save()
        assert plan.MeasuredCache(threads=1).holds(spec, runtime, (), Budget()) is held
    cache.path.write_text('{"entries": {"of": "another version"}}')
    assert plan.MeasuredCache(threads=1).entries == {}


def test_two_runs_at_once_keep_what_both_measured(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    one, other, third = (candidate.spec for candidate in everything[:3])
    first, second = plan.MeasuredCache(threads=1), plan.MeasuredCache(threads=1)
    measured = ranking.Measured(size_bytes=1, latency=latency(1.0))
    for cache, spec in ((first, one), (second, other), (first, third)):
        cache.put(spec, "onnxruntime", "f32", measured)
        cache.save()
    kept = plan.MeasuredCache(threads=1)
    assert all(kept.get(spec, "onnxruntime", "f32") for spec in (one, other, third))


def test_later_figure_of_another_run_is_not_taken_back(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that only read a noisy figure does not write it over the better one."""
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    one, other = everything[0].spec, everything[1].spec
    noisy = ranking.Measured(size_bytes=1, latency=latency(1.0, "wide"))
    before = plan.MeasuredCache(threads=1)
    before.put(one, "onnxruntime", "f32", noisy)
    before.save()
    first, second = plan.MeasuredCache(threads=1), plan.MeasuredCache(threads=1)
    first.put(one, "onnxruntime", "f32", replace(noisy, latency=latency(2.0)))
    first.save()
    second.put(other, "onnxruntime", "f32", noisy)
    second.save()
    found = plan.MeasuredCache(threads=1).get(one, "onnxruntime", "f32")
    assert found is not None
    assert found.latency == latency(2.0)


def test_figure_without_a_peak_leaves_the_peak_that_another_run_measured(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    spec, measured = everything[0].spec, ranking.Measured(size_bytes=1, latency=latency(1.0))
    caches = [plan.MeasuredCache(threads=1) for _ in range(2)]
    for cache, peak in zip(caches, (5_000_000, None), strict=True):
        cache.put(spec, "onnxruntime", "f32", replace(measured, peak_bytes=peak))
        cache.save()
    found = plan.MeasuredCache(threads=1).get(spec, "onnxruntime", "f32")
    assert found is not None
    assert found.peak_bytes == 5_000_000


def test_cache_that_cannot_be_read_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    plan.MeasuredCache(threads=1).path.mkdir(parents=True)
    assert plan.MeasuredCache(threads=1).entries == {}


def test_figures_taken_while_threads_had_to_wait_are_noisy_and_taken_again(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well its rounds agree with each other."""
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    monkeypatch.setattr(conditions, "_shares", lambda *_: (0.0, 1.0))
    monkeypatch.setattr(plan, "measure_latency", lambda runs, *_: dict.fromkeys(runs, latency(1)))
    small = min(everything, key=lambda c: c.count.macs)
    runtime, precisions = get_runtime("onnxruntime"), ("f32",)
    (entry,) = plan.measure_candidates([small], [runtime], precisions, Budget(), 1, Silent())
    assert entry.latency.noise.startswith("its threads had to wait: other processes took 100%")
    assert not plan.MeasuredCache(threads=1).holds(small.spec, runtime, precisions, Budget())


def test_what_is_known_is_neither_measured_again_nor_shown(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    monkeypatch.setattr(plan, "measure_latency", lambda runs, *_: dict.fromkeys(runs, latency(1)))
    small = min(everything, key=lambda c: c.count.macs)
    runtime, precisions = get_runtime("onnxruntime"), ("f32",)
    first, again = Told(), Told()
    for told in (first, again):
        tried = plan.measure_candidates([small], [runtime], precisions, Budget(), 1, told)
        assert [one.network for one in tried] == [small.spec.label]
    assert first.sentences == ["Measuring candidates"]
    assert again.sentences == []


def test_memory_is_measured_once_it_is_asked_for(
    everything: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path))
    spec, runtime, asked = everything[0].spec, get_runtime("onnxruntime"), Budget(memory_bytes=1)
    cache = plan.MeasuredCache(threads=1)
    for peak, held in ((None, False), (7, True)):
        measured = ranking.Measured(size_bytes=1, latency=latency(1.0), peak_bytes=peak)
        cache.put(spec, "onnxruntime", "int8", measured)
        assert cache.holds(spec, runtime, ("int8",), Budget())
        assert cache.holds(spec, runtime, ("int8",), asked) is held


def test_chosen_network_is_marked(everything: list[Candidate]) -> None:
    entries = tuple(tried(c, 1.0, 1, Budget()) for c in everything[:3])
    marked = plan.mark_chosen(entries, everything[1].spec.label, "onnxruntime", "int8")
    assert [e.chosen for e in marked] == [False, True, False]
    other = plan.mark_chosen(entries, everything[1].spec.label, "onnxruntime", "f32")
    assert not any(e.chosen for e in other)


def test_latency_of_a_network_made_for_it_is_left_to_the_gate() -> None:
    made = FitConfig(data="photos", budget=Budget(latency_ms=2.0, size_bytes=9), teacher="seed")
    timed = replace(made, timed_within=True)
    assert planned_budget(timed) == Budget(size_bytes=9)
    for one in (made, replace(timed, target="table.json")):  # a table has no slow minutes
        assert planned_budget(one) == Budget(latency_ms=2.0 * HEADROOM, size_bytes=9)
    for other in (replace(made, teacher=None), replace(made, budget=Budget(size_bytes=9))):
        assert planned_budget(other) == other.budget
