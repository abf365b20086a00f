"""What fits into the time."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.budget import Budget, format_time
from pocketvision.errors import BudgetError
from pocketvision.fitting import forecast
from pocketvision.fitting.candidates import Candidate, list_candidates
from pocketvision.fitting.forecast import Workload
from pocketvision.runtimes.registry import get_runtime

WORK = Workload(
    stored=1200,
    undecoded=1200,
    train=1000,
    val=100,
    headline=100,
    runtimes=1,
    quantized=1,
    resolution=64,
    batch_size=50,
    fine_tuning=False,
)


@pytest.fixture(scope="module")
def ranking() -> list[Candidate]:
    """Four widths of one network, the most expensive first."""
    found = list_candidates(["mobilenet_v1"], (), (32,), 2)
    return sorted(found, key=lambda candidate: -candidate.count.macs)


@given(rate=st.floats(1e-5, 1.0), available=st.floats(-100, 1e5))
def test_planned_epochs_never_exceed_the_time(rate: float, available: float) -> None:
    epochs = forecast.affordable_epochs(WORK, rate, available)
    assert epochs >= 0
    assert epochs * WORK.epoch_s(rate) <= max(available, 0)


def test_best_candidate_is_kept_when_the_time_allows(ranking: list[Candidate]) -> None:
    found, epochs = forecast.first_trainable(ranking, WORK, lambda: 3600, lambda c: 1e-3)
    assert found == 0
    assert epochs >= WORK.min_epochs


def test_first_candidate_with_enough_epochs_is_taken(ranking: list[Candidate]) -> None:
    """The rate follows the MACs here, so the estimate is exact and two probes suffice."""
    probed: list[str] = []

    def probe(candidate: Candidate) -> float:
        probed.append(candidate.spec.label)
        return candidate.count.macs * 1e-10

    third = ranking[2].count.macs * 1e-10
    available = 1.05 * WORK.min_epochs * WORK.epoch_s(third) / forecast.TRAINING_MARGIN
    assert forecast.first_trainable(ranking, WORK, lambda: available, probe)[0] == 2
    assert probed == [ranking[0].spec.label, ranking[2].spec.label]


def test_wrong_estimate_is_probed_again(ranking: list[Candidate]) -> None:
    """Cheaper by MACs, and yet no faster: the choice moves on until a probe confirms it."""
    rates = dict(zip((c.spec.label for c in ranking), (1.0, 0.9, 0.8, 0.001), strict=True))
    available = 2 * WORK.min_epochs * WORK.epoch_s(0.3)
    found = forecast.first_trainable(
        ranking, WORK, lambda: available, lambda c: rates[c.spec.label]
    )
    assert found[0] == 3


def test_most_epochs_when_none_gets_enough(ranking: list[Candidate]) -> None:
    rate = 1e-2
    available = 3 * WORK.epoch_s(rate)
    found = forecast.first_trainable(
        ranking, WORK, lambda: available, lambda c: rate * c.count.macs / ranking[-1].count.macs
    )
    assert found[0] == 3
    assert found[1] < WORK.min_epochs


@pytest.mark.parametrize("available", [-50.0, 0.0, 5.0])
def test_no_epoch_at_all_is_a_budget_error(ranking: list[Candidate], available: float) -> None:
    message = (
        f"The time is too short: {max(available, 0):.0f} s are left for training, and one epoch"
    )
    with pytest.raises(BudgetError, match=re.escape(message)):
        forecast.first_trainable(ranking, WORK, lambda: available, lambda c: 10.0)


def test_forecast_names_time_and_disk() -> None:
    planning_s = forecast.planning_seconds(10, ["onnxruntime"])
    sentence = forecast.forecast_sentence(
        WORK, planning_s=planning_s, unknown=10, side=64, budget=Budget(time_s=600)
    )
    planning = format_time(planning_s)
    assert sentence == (
        f"Will measure 10 candidates ({planning}), train for about 9 m, then quantize, verify and "
        f"measure ({format_time(WORK.finish_s)}). Disk: up to 14.7 MB of pixel cache."
    )
    without = forecast.forecast_sentence(WORK, planning_s=0.0, unknown=0, side=64, budget=Budget())
    assert without.startswith("Will plan, train for 40 epochs unless --epochs or --time says")


def test_forecast_knows_what_is_decoded_already() -> None:
    known = replace(WORK, undecoded=0)
    assert known.decode_s == 0 < WORK.decode_s
    said = forecast.forecast_sentence(known, planning_s=0.0, unknown=0, side=64, budget=Budget())
    assert said.endswith("The images are decoded already: 14.7 MB of pixel cache.")


def test_nothing_is_quantized_where_no_int8_file_is_asked_for() -> None:
    runtimes = [get_runtime("onnxruntime")]
    assert forecast.count_quantized(runtimes, ()) == 1
    assert forecast.count_quantized(runtimes, ("f32",)) == 0
    assert replace(WORK, quantized=0).finishing_s["quantize"] == 0


def test_slow_files_take_longer_to_verify() -> None:
    slower = replace(WORK, files_s=WORK.files_s + 0.1)
    assert slower.finish_s - WORK.finish_s == pytest.approx(0.1 * (WORK.val + WORK.headline))


def test_forecast_counts_what_measuring_memory_takes() -> None:
    plain = forecast.planning_seconds(10, ["onnxruntime"])
    assert forecast.planning_seconds(10, ["onnxruntime"], memory=True) > plain


def test_forecast_counts_what_the_exporter_takes() -> None:
    plain = forecast.planning_seconds(10, ["onnxruntime"])
    assert forecast.planning_seconds(10, ["onnxruntime"], cost=4.0) == 4 * plain
