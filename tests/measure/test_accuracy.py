"""Accuracy and its intervals against textbook values, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.errors import ConfigError, DataError, GateError
from pocketvision.intervals import Z
from pocketvision.measure.accuracy import (
    accuracy,
    compare,
    confusion,
    paired_interval,
    paired_score,
)
from pocketvision.record.scores import Comparison

LABELS = np.array([0, 1, 2, 0, 1, 2])


def one_hot(classes: list[int], num_classes: int = 3) -> NDArray[np.float32]:
    return np.eye(num_classes, dtype=np.float32)[classes]


def against(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> Comparison:
    return compare(logits, reference, LABELS, subject="int8", reference="float", split="val")


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 857-872, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_published_values(
    correct: int, n: int, low: float, high: float
) -> None:
    found = accuracy(correct, n)
    np.testing.assert_allclose((found.low, found.high), (low, high), atol=6e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    correct, n = counts
    found, mirrored = accuracy(correct, n), accuracy(n - correct, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    # The interval is where the score test of the share does not reject.
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            score = abs(found.value - bound) / (bound * (1 - bound) / n) ** 0.5
            assert score == pytest.approx(Z, rel=1e-6)


def test_accuracy_refuses_impossible_counts() -> None:
    with pytest.raises(ConfigError, match="n=0 is out of range"):
        accuracy(0, 0)
    with pytest.raises(ConfigError, match="correct=4 is out of range; expected 0 to 3"):
        accuracy(4, 3)


def test_paired_interval_of_a_large_sample_is_near_the_textbook() -> None:
    # Agresti, Categorical Data Analysis, 2nd ed., 10.1.1: approval ratings, 1600 pairs.
    low, high = paired_interval(150, 86, 1600)
    np.testing.assert_allclose((low, high), (0.021, 0.059), atol=1e-3)


counts = st.integers(1, 2000).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda first: st.tuples(st.just(first), st.integers(0, n - first), st.just(n))
    )
)


@given(counts)
def test_paired_interval_is_where_the_score_test_does_not_reject(
    pairs: tuple[int, int, int],
) -> None:
    first, second, n = pairs
    low, high = paired_interval(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1
    assert low < high
    for bound in (low, high):
        if abs(bound) < 1 - 1e-9:
            assert abs(paired_score(bound, first, second, n)) == pytest.approx(Z, rel=1e-3)
    mirrored = paired_interval(second, first, n)
    np.testing.assert_allclose(mirrored, (-high, -low), atol=1e-9)


@given(st.integers(1, 10_000))
def test_networks_that_never_differ_leave_a_width(n: int) -> None:
    low, high = paired_interval(0, 0, n)
    assert high == pytest.approx(Z**2 / (n + Z**2))
    assert low == pytest.approx(-high)


def test_paired_interval_covers_the_truth() -> None:
    """95 % +- chance over 2000 draws of 200 pairs with a true drop of 2 points."""
    generator = np.random.default_rng(0)
    draws = generator.multinomial(200, (0.04, 0.02, 0.94), size=2000)
    intervals = {
        (b, c): paired_interval(b, c, 200) for b, c in {(d[0], d[1]) for d in draws.tolist()}
    }
    inside = [intervals[b, c][0] <= 0.02 <= intervals[b, c][1] for b, c, _ in draws.tolist()]
    assert 0.93 < np.mean(inside) < 0.975


def test_comparison_counts_pairs() -> None:
    reference = one_hot([0, 1, 2, 0, 1, 0])  # 5 of 6
    logits = one_hot([0, 1, 0, 1, 1, 0])  # 3 of 6
    logits[0] *= 3
    found = against(logits, reference)
    assert (found.accuracy.correct, found.reference_accuracy.correct) == (3, 5)
    assert found.drop == pytest.approx(2 / 6)
    assert (found.drop_low, found.drop_high) == paired_interval(2, 0, 6)
    assert found.agreement == pytest.approx(4 / 6)
    assert found.largest_difference == 2.0
    assert (found.subject, found.reference, found.split) == ("int8", "float", "val")


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_comparison_laws(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    logits, reference = generator.normal(size=(2, n, 4)).astype(np.float32)
    labels = generator.integers(0, 4, n)
    names = {"subject": "a", "reference": "b", "split": "val"}
    same = compare(logits, logits, labels, **names)
    assert (same.drop, same.agreement, same.largest_difference) == (0, 1, 0)
    assert same.drop_low < 0 < same.drop_high
    there = compare(logits, reference, labels, **names)
    back = compare(reference, logits, labels, **names)
    assert there.drop == pytest.approx(-back.drop)
    assert there.drop == pytest.approx(there.reference_accuracy.value - there.accuracy.value)
    assert abs(there.drop) <= 1 - there.agreement + 1e-9
    assert there.drop_low <= there.drop <= there.drop_high
    table = np.array(confusion(logits, labels, 4))
    assert table.sum() == n
    assert np.trace(table) == there.accuracy.correct
    assert table.sum(1).tolist() == np.bincount(labels, minlength=4).tolist()


def test_confusion_has_true_classes_in_rows() -> None:
    table = confusion(one_hot([0, 1, 0, 1, 1, 0]), LABELS, 3)
    assert table == ((1, 1, 0), (0, 2, 0), (2, 0, 0))
    with pytest.raises(ConfigError, match="logits is 6x3; expected 6x4"):
        confusion(one_hot([0] * 6), LABELS, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_fail_the_gate(value: float) -> None:
    good = one_hot([0, 1, 2, 0, 1, 2])
    bad = good.copy()
    bad[2, 1] = value
    with pytest.raises(GateError, match="int8 gives logits that are not numbers on 1 of 6 images"):
        against(bad, good)
    with pytest.raises(GateError, match="float gives logits that are not numbers on 1 of 6 images"):
        against(good, bad)


def test_what_cannot_be_compared_is_refused() -> None:
    good = one_hot([0, 1, 2, 0, 1, 2])
    with pytest.raises(ConfigError, match="logits of int8 is 5x3; expected 6x3"):
        against(good[:5], good)
    with pytest.raises(DataError, match="labels go from 0 to 3, but the network has 3 classes"):
        confusion(good, LABELS + (LABELS == 2), 3)
    with pytest.raises(DataError, match="no images"):
        confusion(good[:0], LABELS[:0], 3)
    with pytest.raises(ConfigError, match=r"labels are float64 of 1 axes; expected integers"):
        confusion(good, LABELS.astype(np.float64), 3)
    with pytest.raises(ConfigError, match="logits is 6x3; expected 5x3"):
        confusion(good, LABELS[:5], 3)
