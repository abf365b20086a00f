import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.errors import ConfigError, DataError, GateError
from pocketvision.measure.calibration import (
    TEMPERATURES,
    calibration,
    calibration_error,
    fit_temperature,
    reliability,
    softmax,
)


def drawn(n: int, temperature: float, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities of logits, and those logits times `temperature`."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (n, classes))
    labels = np.array([generator.choice(classes, p=row) for row in softmax(logits)])
    return temperature * logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_finds_how_much_too_sure_the_logits_are(temperature: float) -> None:
    logits, labels = drawn(20_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.3, 3))
def test_no_temperature_makes_the_labels_likelier(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (40, 4))
    labels = generator.integers(0, 4, 40)

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logits, temperature)[np.arange(40), labels]).mean())

    best = fit_temperature(logits, labels)
    other = float(np.clip(best * factor, *TEMPERATURES))
    assert loss(best) <= loss(other) + 1e-9


def test_temperature_of_perfect_and_of_hopeless_logits_is_bounded() -> None:
    labels = np.arange(3)
    assert fit_temperature(10 * np.eye(3), labels) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(-10 * np.eye(3), labels) == pytest.approx(TEMPERATURES[1])
    assert fit_temperature(np.zeros((3, 3)), labels) == 1


def test_calibration_error_of_a_worked_example() -> None:
    # 0.9 sure and right half the time; 0.6 sure and right always.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    bins = reliability(probabilities, np.array([0, 1, 0, 0]))
    assert [one.confidence for one in bins] == pytest.approx([0.6, 0.9])
    assert [(one.top1, one.n) for one in bins] == [(1.0, 2), (0.5, 2)]
    assert calibration_error(bins) == pytest.approx((0.4 + 0.4) / 2)


def test_every_image_lies_in_one_tenth() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.8, 0.2]])
    bins = reliability(probabilities, np.array([0, 0, 0]))
    assert sum(one.n for one in bins) == 3
    assert all(0 <= one.top1 <= 1 and 0.5 <= one.confidence <= 1 for one in bins)


def test_scaling_mends_what_overconfidence_breaks() -> None:
    logits, labels = drawn(8_000, 3.0)
    found = calibration(
        logits[4000:],
        labels[4000:],
        split="test",
        val_logits=logits[:4000],
        val_labels=labels[:4000],
    )
    assert found.split == "test"
    assert found.ece > 0.1
    assert found.ece_scaled < 0.03
    assert sum(one.n for one in found.bins) == 4000


def test_very_large_logits_stay_finite() -> None:
    found = softmax(np.array([[1e5, 0.0]], np.float32))
    assert found.tolist() == [[1.0, 0.0]]
    assert math.isfinite(fit_temperature(np.array([[1e30, -1e30]]), np.array([1])))


def test_unusable_input_is_refused() -> None:
    logits, labels = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(DataError, match="no images to measure calibration"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(DataError, match="labels go from 0 to 3, but there are 3 classes"):
        fit_temperature(logits, np.array([0, 3]))
    with pytest.raises(GateError, match="not numbers on 1 of 2 images"):
        fit_temperature(np.array([[0, 1], [np.nan, 1]]), labels)
    with pytest.raises(ConfigError, match="logits"):
        calibration(logits, np.array([0]), split="val", val_logits=logits, val_labels=labels)
