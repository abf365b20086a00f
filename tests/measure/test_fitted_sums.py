"""Sums over a table, set right by what whole networks take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.measure.fitted_sums import Fit, Whole, best_fit, fit_sums, one_factor


def wholes(truth: Fit, number: int, seed: int, noise: float = 0.0) -> list[Whole]:
    """Networks of 9 to 17 blocks that take what a fit says, but for noise."""
    generator = np.random.default_rng(seed)
    drawn = zip(generator.uniform(0.2, 0.5, number), generator.integers(9, 18, number), strict=True)
    return [
        Whole(
            sum_ms=float(ms),
            blocks=int(blocks),
            latency_ms=truth.latency_ms(ms, int(blocks)) * (1 + noise * generator.normal()),
        )
        for ms, blocks in drawn
    ]


def worst(fit: Fit, among: list[Whole]) -> float:
    errors = [abs(fit.latency_ms(w.sum_ms, w.blocks) / w.latency_ms - 1) for w in among]
    return max(errors)


@given(
    per_sum=st.floats(0.6, 1.6),
    per_block_ms=st.floats(0, 0.01),
    constant_ms=st.floats(0, 0.1),
    seed=st.integers(0, 1000),
)
def test_a_table_that_errs_in_all_three_is_set_right(
    per_sum: float, per_block_ms: float, constant_ms: float, seed: int
) -> None:
    truth = Fit(per_sum=per_sum, per_block_ms=per_block_ms, constant_ms=constant_ms)
    fit = fit_sums(wholes(truth, 12, seed))
    others = wholes(truth, 50, seed + 1)
    assert worst(fit, others) < 0.15  # of sums that are up to a half off


def test_where_nothing_or_only_what_was_expected_is_known_sums_stay() -> None:
    assert fit_sums([]) == Fit()
    fit = fit_sums(wholes(Fit(), 6, seed=0))
    assert (fit.per_sum, fit.per_block_ms, fit.constant_ms) == pytest.approx((1, 0, 0))


def test_one_network_moves_all_by_about_as_much() -> None:
    """A single one does not tell which part errs."""
    fit = fit_sums([Whole(sum_ms=0.3, blocks=11, latency_ms=0.36)])
    assert fit.latency_ms(0.3, 11) == pytest.approx(0.36, rel=0.01)
    assert 0.45 < fit.latency_ms(0.4, 13) < 0.5


def test_noise_of_a_few_measurements_is_not_followed() -> None:
    truth = Fit(per_sum=1.1)
    fit = fit_sums(wholes(truth, 5, seed=3, noise=0.03))
    assert worst(fit, wholes(truth, 50, seed=4)) < 0.06


def test_one_factor_foretells_better_what_lies_beyond_those_that_were_timed() -> None:
    """Which is why it stays where it is enough: sums were 0.2 to 0.5 ms."""
    truth, errors = Fit(per_sum=1.3), {one_factor: list[float](), fit_sums: list[float]()}
    for seed in range(100):
        known = wholes(truth, 20, seed, noise=0.03)
        for way, found in errors.items():
            found.append(abs(way(known).latency_ms(0.1, 11) / 0.13 - 1))
    assert 3 * np.median(errors[one_factor]) < np.median(errors[fit_sums])


def test_one_factor_is_kept_where_it_is_enough() -> None:
    truth = Fit(per_sum=1.3)
    for number in (1, 7, 20):
        known = wholes(truth, number, seed=5, noise=0.02)
        assert best_fit(known) == one_factor(known)
    assert best_fit([]) == Fit()


def test_more_than_a_factor_needs_many_networks_that_ask_for_it() -> None:
    truth = Fit(per_sum=1.0, per_block_ms=0.015, constant_ms=0.05)
    known = wholes(truth, 20, seed=5, noise=0.02)
    assert worst(best_fit(known), wholes(truth, 50, seed=6)) < 0.05
    assert worst(one_factor(known), wholes(truth, 50, seed=6)) > 0.15
    assert best_fit(known[:7]) == one_factor(known[:7])
