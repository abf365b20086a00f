"""Histograms of tensors and the ranges made of them: laws that hold for any values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from pocketvision.errors import ConfigError
from pocketvision.runtimes.int8.choose import scale_of
from pocketvision.runtimes.int8.ranges import (
    LEVELS,
    METHODS,
    STEPS,
    Method,
    Range,
    expected_error,
    range_of,
)
from pocketvision.runtimes.int8.statistics import (
    BINS,
    Observed,
    channel_peaks,
    few,
    observe,
)

MakeModel = Callable[..., onnx.ModelProto]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]


def observed(values: Array) -> Observed:
    """What `observe` says of a tensor that holds these values, by numpy's histogram."""
    low, high = float(values.min()), float(values.max())
    others = values[values != 0].astype(np.float64)
    counts = np.zeros(BINS, np.int64)
    if high > low:
        counts = np.histogram(others, BINS, (low, high))[0]
    else:
        counts[0] = len(others)
    return Observed(low=low, high=high, counts=counts, zeros=int((values == 0).sum()))


@st.composite
def samples(draw: st.DrawFn) -> Array:
    """Few values of any kind, or many of a distribution, with zeros and outliers among them."""
    floats = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
    few_values = npst.arrays(np.float32, st.integers(1, 40), elements=floats)
    if draw(st.booleans()):
        return draw(few_values)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    values = generator.standard_normal(draw(st.integers(100, 3000)))
    values = draw(st.sampled_from([values, np.abs(values), -np.abs(values), np.exp(values)]))
    values = values * 10.0 ** draw(st.integers(-6, 6)) + draw(st.sampled_from([0.0, 0.0, 3.0]))
    values[: int(draw(st.floats(0, 1)) * len(values))] = 0
    values[-1] *= draw(st.sampled_from([1, 1, 10, 1000]))
    return values.astype(np.float32)


methods = st.sampled_from(METHODS)
percentiles = st.sampled_from([90.0, 99.0, 99.9, 99.99, 100.0])


def seen_range(seen: Observed) -> Range:
    return min(seen.low, 0.0), max(seen.high, 0.0)


@settings(max_examples=150)
@given(values=samples(), method=methods, percentile=percentiles)
def test_ranges_hold_zero_and_nothing_that_was_not_seen(
    values: Array, method: Method, percentile: float
) -> None:
    seen = observed(values)
    low, high = range_of(seen, method, percentile)
    lowest, highest = seen_range(seen)
    assert lowest <= low <= 0 <= high <= highest
    if np.any(values != 0):
        assert high > low  # something is left of what was seen
    if seen.low >= 0:
        assert low == 0
    if seen.high <= 0:
        assert high == 0


@settings(max_examples=60)
@given(values=samples())
def test_minmax_is_what_was_seen(values: Array) -> None:
    seen = observed(values)
    assert range_of(seen, "minmax") == seen_range(seen)


@settings(max_examples=100)
@given(values=samples(), percentile=percentiles)
def test_percentile_leaves_its_share_outside_up_to_one_bin(
    values: Array, percentile: float
) -> None:
    seen = observed(values)
    low, high = range_of(seen, "percentile", percentile)
    bin_width = (seen.high - seen.low) / BINS * (1 + 1e-6)
    outside = (values < low - bin_width) | (values > high + bin_width)
    assert outside.sum() <= len(values) * (100 - percentile) / 100
    # And no more than that is kept: half a share lies beyond the next bin on either side.
    beyond = len(values) * (100 - percentile) / 200
    if high > 0:
        assert (values >= high - 2 * bin_width).sum() >= beyond
    if low < 0:
        assert (values <= low + 2 * bin_width).sum() >= beyond


@settings(max_examples=60)
@given(values=samples())
def test_percentile_100_is_what_was_seen(values: Array) -> None:
    seen = observed(values)
    low, high = range_of(seen, "percentile", 100.0)
    lowest, highest = seen_range(seen)
    bin_width = (seen.high - seen.low) / BINS * (1 + 1e-6)
    assert low - bin_width <= lowest
    assert high + bin_width >= highest


def coarser(seen: Observed, found: Range) -> Range:
    """A range, widened to the next of the ends that "mse" tries."""
    lowest, highest = seen_range(seen)

    def up(end: float, farthest: float) -> float:
        steps = np.ceil(end / farthest * STEPS - 1e-9) if farthest else 0.0
        return float(max(steps, 1.0) / STEPS * farthest)

    return up(found[0], lowest), up(found[1], highest)


@settings(max_examples=150)
@given(
    values=samples(),
    percentile=percentiles,
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_no_range_has_less_expected_error_than_mse(
    values: Array, percentile: float, shares: tuple[float, float]
) -> None:
    """Of those it tries, a 64th of what was seen apart; any other is the next wider at best."""
    seen = observed(values)
    least = expected_error(seen, range_of(seen, "mse"))
    lowest, highest = seen_range(seen)
    others = [range_of(seen, method, percentile) for method in METHODS]
    others.append((lowest * shares[0], highest * shares[1]))
    assert least <= expected_error(seen, (lowest, highest)) * (1 + 1e-9)
    for other in others:
        wider = coarser(seen, other)
        slack = 1e-9 * max(lowest**2, highest**2)  # sums of squares differ in their last digits
        assert least <= expected_error(seen, wider) * (1 + 1e-9) + slack
        step = (wider[1] - wider[0]) / (LEVELS - 1)
        assert least <= expected_error(seen, other) + step**2 / 12 + slack


@pytest.mark.parametrize("outlier", [1.0, 5.0, 30.0])
@pytest.mark.parametrize("method", METHODS)
def test_expected_error_is_that_of_rounding(method: Method, outlier: float) -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values[:1000] = 0
    values[-20:] *= outlier
    seen = observed(values)
    found = range_of(seen, method, 99.9)
    error = scale_of(found).round(values.copy()) - values
    measured = float(np.square(error, dtype=np.float64).mean())
    assert expected_error(seen, found) == pytest.approx(measured, rel=0.1)
    assert not error[:1000].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.25])
def test_constant_tensors_are_represented_exactly(method: Method, value: float) -> None:
    values = np.full(100, value, np.float32)
    found = range_of(observed(values), method)
    assert found == (min(value, 0.0), max(value, 0.0))
    rounded = scale_of(found).round(values.copy())
    np.testing.assert_allclose(rounded, values, rtol=1e-6)


def test_all_but_minmax_clip_a_far_outlier() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[0] = 1000
    seen = observed(values)
    highs = {method: range_of(seen, method, 99.9)[1] for method in METHODS}
    assert highs["percentile"] < 5
    assert highs["entropy"] < 500
    assert highs["mse"] < highs["minmax"] == 1000


def identity(make_model: MakeModel, *shape: int) -> onnx.ModelProto:
    lines: list[Line] = [("Identity", "input", "x", {}), ("Relu", "x", "logits", {})]
    return make_model(lines, {}, shape)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30])
def test_observed_counts_tell_of_every_value(scale: float, make_model: MakeModel) -> None:
    generator = np.random.default_rng(0)
    values = (generator.standard_normal((6, 3, 40)) * scale).astype(np.float32)
    values[:, 1] = 0
    seen = observe(identity(make_model, 3, 40), ["x", "logits"], [values[:4], values[4:]])
    for name, expected in (("x", values), ("logits", np.maximum(values, 0))):
        found = seen[name]
        assert (found.low, found.high) == (expected.min(), expected.max())
        assert found.zeros == (expected == 0).sum()
        assert found.counts.sum() + found.zeros == values.size
        assert found.counts[0] > 0 or found.low == 0
        if scale < 1e-35:
            continue  # bins have no width there
        assert found.counts[-1] > 0
        reference = observed(expected).counts
        # A value on the border of two bins may fall to either side in single precision.
        assert np.abs(np.cumsum(found.counts) - np.cumsum(reference)).max() <= 2


def test_observing_does_not_depend_on_batches(make_model: MakeModel) -> None:
    values = np.random.default_rng(0).standard_normal((7, 3, 40)).astype(np.float32)
    model = identity(make_model, 3, 40)
    splits = [[values], [values[:5], values[5:]], [values[n : n + 1] for n in range(7)]]
    whole, *others = [observe(model, ["x"], batches)["x"] for batches in splits]
    for other in others:
        assert (other.low, other.high, other.zeros) == (whole.low, whole.high, whole.zeros)
        np.testing.assert_array_equal(other.counts, whole.counts)
    for batches in splits:
        np.testing.assert_array_equal(
            channel_peaks(model, ["x"], batches)["x"], np.abs(values).max((0, 2))
        )


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
def test_constant_tensors_are_observed(value: float, make_model: MakeModel) -> None:
    values = np.full((3, 2, 5), value, np.float32)
    found = observe(identity(make_model, 2, 5), ["x"], [values])["x"]
    assert (found.low, found.high) == (value, value)
    assert found.counts.sum() + found.zeros == 30
    assert found.zeros == (30 if value == 0 else 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_numbers_are_refused(value: float, make_model: MakeModel) -> None:
    values = np.zeros((3, 2, 5), np.float32)
    values[2, 1, 4] = value
    with pytest.raises(ConfigError, match=r"gives values that are not numbers \(tensor 'x'\)"):
        observe(identity(make_model, 2, 5), ["x"], [values[:2], values[2:]])


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), images=st.integers(1, 40))
def test_few_takes_whole_batches_until_there_are_enough(sizes: list[int], images: int) -> None:
    batches = [np.zeros((size, 1), np.float32) for size in sizes]
    taken = few(batches, images)
    assert list(map(id, taken)) == list(map(id, batches[: len(taken)]))
    assert sum(map(len, taken[:-1])) < images
    assert len(taken) == len(batches) or sum(map(len, taken)) >= images


@pytest.mark.parametrize(("side", "expected"), [(96, 32), (224, 32), (320, 15), (1024, 8)])
def test_of_large_images_fewer_are_enough(side: int, expected: int) -> None:
    large = np.broadcast_to(np.uint8(0), (1, side, side, 3))
    assert len(few([large] * 40, 32)) == expected
