"""Scores of pixels against textbook figures and scikit-learn, and their laws."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, confusion_matrix

from pocketvision.errors import ConfigError, DataError
from pocketvision.measure.scene_scores import confusion_of, score, score_confusion
from pocketvision.scene_record import Spread

Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def arrays(drawn: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true classes."""
    predicted, true = np.array(drawn, np.int64).T
    return predicted, true


def test_kappa_has_the_published_value() -> None:
    # Cohen, Weighted kappa, Psychological Bulletin 70 (1968), Table 1, N = 200: k = 0.492.
    found = score_confusion(np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]]))
    assert found.overall == 0.70
    assert found.kappa == pytest.approx(0.492, abs=5e-4)
    assert found.average == pytest.approx((88 / 120 + 40 / 60 + 12 / 20) / 3)


@given(pairs)
def test_scores_are_those_of_scikit_learn(drawn: Pairs) -> None:
    predicted, true = arrays(drawn)
    found = score(predicted, true, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted but never true
        assert found.average == pytest.approx(balanced_accuracy_score(true, predicted))
        kappa = cohen_kappa_score(true, predicted)
    assert found.kappa == pytest.approx(1.0 if math.isnan(kappa) else kappa, abs=1e-12)
    expected = confusion_matrix(true, predicted, labels=range(5))
    np.testing.assert_array_equal(confusion_of(predicted, true, 5), expected)


@given(pairs, st.permutations(range(5)))
def test_scores_do_not_depend_on_the_numbers_of_classes(drawn: Pairs, names: list[int]) -> None:
    predicted, true = arrays(drawn)
    renamed = np.array(names)
    found, other = score(predicted, true, 5), score(renamed[predicted], renamed[true], 5)
    assert other.overall == found.overall
    assert other.kappa == pytest.approx(found.kappa, abs=1e-12)
    assert other.average == pytest.approx(found.average)
    assert [other.per_class[new] for new in names] == list(found.per_class)


@given(pairs)
def test_all_right_is_one_everywhere(drawn: Pairs) -> None:
    _, true = arrays(drawn)
    found = score(true, true, 5)
    assert (found.overall, found.average, found.n) == (1.0, 1.0, len(true))
    assert found.kappa == pytest.approx(1.0)
    assert [one is None for one in found.per_class] == [k not in true for k in range(5)]


def test_a_class_without_pixels_has_no_recall_and_does_not_lower_the_average() -> None:
    found = score(np.array([0, 2, 1]), np.array([0, 2, 2]), 3)
    assert found.per_class == (1.0, None, 0.5)
    assert found.average == 0.75


def test_small_unsigned_classes_do_not_overflow() -> None:
    classes = np.full(3, 200, np.uint8)
    assert confusion_of(classes, classes, 201)[200, 200] == 3


def test_one_class_named_by_chance_has_no_kappa_above_zero() -> None:
    found = score(np.array([0, 0, 0]), np.array([0, 0, 1]), 2)
    assert found.kappa == 0.0


@pytest.mark.parametrize(
    ("predicted", "true", "error", "match"),
    [
        ([], [], DataError, "true holds no pixels; there is nothing to score"),
        ([0, 3], [0, 1], DataError, "predicted goes from 0 to 3, but there are 3 classes: 0 to 2"),
        ([0, 1], [-1, 1], DataError, "true goes from -1 to 1, .* Leave out pixels without a label"),
        ([0], [0, 1], ConfigError, "predicted is 1; expected 2"),
        ([[0]], [0], ConfigError, "predicted is int64 of 2 axes; expected integers"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    predicted: list[int], true: list[int], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        score(np.array(predicted, np.int64), np.array(true, np.int64), 3)


def test_logits_are_refused() -> None:
    with pytest.raises(ConfigError, match="predicted is float32 of 1 axes"):
        score(np.zeros(2, np.float32), np.zeros(2, np.int64), 2)
    with pytest.raises(ConfigError, match="num_classes=0 is not allowed"):
        score(np.zeros(2, np.int64), np.zeros(2, np.int64), 0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_spread_is_numpys_with_one_degree_of_freedom(values: list[float]) -> None:
    found = Spread.over(values)
    assert found.mean == pytest.approx(float(np.mean(values)), abs=1e-12)
    assert found.std == pytest.approx(float(np.std(values, ddof=1)), abs=1e-9)
    assert found.n == len(values)


def test_a_single_run_has_no_deviation() -> None:
    found = Spread.over([0.5])
    assert (found.mean, found.std, found.n) == (0.5, None, 1)
    with pytest.raises(ConfigError, match="values holds no run; expected at least one"):
        Spread.over([])
