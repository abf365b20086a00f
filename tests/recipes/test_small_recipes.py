"""The papers' small experiments: their arithmetic, their graphs, and what their pages say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scripts import ROOT, load
from torch import nn

from pocketvision.measure.count import count
from pocketvision.measure.latency import LatencyProtocol
from pocketvision.models import registry
from pocketvision.nn.conv import ConvSpec
from pocketvision.record.timing import Latency

RECIPES = ROOT / "recipes"
QUICK = LatencyProtocol(warmup_runs=1, rounds=2, min_runs=1, max_runs=1, seconds=0, retries=0)

relu = load("relu_information")
separable = load("separable_arithmetic")
dense = load("dense_counts")
hard = load("hard_activations")
stacks = load("shufflenet_stacks")
guidelines = load("shufflenet_guidelines")
flops = load("flops_are_not_latency")
timing = load("timing")
plotting = load("plotting")

VARIANTS = [one for guideline in stacks.GUIDELINES for one in guideline.wide + guideline.narrow]


def latency(median_ms: float) -> Latency:
    return Latency(
        median_ms=median_ms,
        p95_ms=1.1 * median_ms,
        low_ms=0.99 * median_ms,
        high_ms=1.01 * median_ms,
        runs=60,
        threads=1,
    )


def all_equal() -> dict[str, Latency]:
    return {one.name: latency(10) for one in VARIANTS}


def rows(page: list[str]) -> list[str]:
    return [line for line in page if line.startswith("| ")]


# relu_information


def test_relu_of_the_positive_quadrant_loses_nothing() -> None:
    x = np.abs(relu.spiral())
    t = np.eye(2)
    np.testing.assert_allclose(relu.there_and_back(x, t), x, atol=1e-12)
    assert relu.relative_errors(x, relu.there_and_back(x, t)) == pytest.approx(0, abs=1e-6)
    assert relu.lost_shares(x, t) == 0


def test_relu_with_both_signs_keeps_everything() -> None:
    """ReLU(x) and ReLU(-x) hold x: the pseudo-inverse returns half of it, at every point."""
    x = relu.spiral()
    t = np.concatenate([np.eye(2), -np.eye(2)])
    np.testing.assert_allclose(relu.there_and_back(x, t), x / 2, atol=1e-12)
    assert relu.relative_errors(x, x / 2) == pytest.approx(0, abs=1e-6)
    assert relu.lost_shares(x, t) == 0


def test_relu_that_is_nowhere_active_loses_everything() -> None:
    x = -np.abs(relu.spiral())
    assert relu.relative_errors(x, relu.there_and_back(x, np.eye(2))) == 1
    assert relu.lost_shares(x, np.eye(2)) == 1


def test_relu_error_falls_with_the_dimension() -> None:
    x = relu.spiral()
    medians = [
        np.median(relu.relative_errors(x, relu.there_and_back(x, relu.embeddings(n, 200))))
        for n in relu.DIMENSIONS
    ]
    assert medians == sorted(medians, reverse=True)
    assert medians[-1] < 0.5 * medians[0]


@pytest.mark.parametrize("n", [2, 3, 5, 15])
def test_points_lost_are_binomial(n: int) -> None:
    shares = relu.lost_shares(relu.spiral(), relu.embeddings(n, 2000))
    error = shares.std() / math.sqrt(len(shares))
    assert abs(shares.mean() - relu.expected_lost_share(n)) < 4 * error


def test_relu_page_has_a_row_for_each_dimension() -> None:
    assert len(rows(relu.lines(20))) == 1 + len(relu.DIMENSIONS)


# separable_arithmetic


def test_separable_rows_have_the_exact_counts() -> None:
    assert [(separable.macs(row), separable.weights(row)) for row in separable.V1_TABLE_3] == [
        (462_422_016, 2_359_296),
        (52_283_392, 266_752),
        (29_578_752, 150_912),
        (15_091_200, 150_912),
    ]


def test_separable_counts_round_to_the_paper() -> None:
    for row in separable.V1_TABLE_3:
        assert separable.macs(row) / 1e6 == pytest.approx(row.mult_adds, rel=2e-3)
        assert separable.weights(row) / 1e6 == pytest.approx(row.parameters, abs=5e-3)


def test_separable_saving_is_the_papers_formula() -> None:
    full, one, *_ = separable.V1_TABLE_3
    assert separable.macs(one) / separable.macs(full) == pytest.approx(1 / 512 + 1 / 9)


def test_separable_graphs_hold_the_counted_weights() -> None:
    for row in separable.V1_TABLE_3:
        kernels = [c for c in separable.graph(row).constants.values() if c.ndim == 4]
        assert sum(kernel.size for kernel in kernels) == separable.weights(row)


def test_separable_page_compares_time_with_count() -> None:
    times = (40.0, 8.0, 4.0, 2.0)
    measured = {row.name: latency(ms) for row, ms in zip(separable.V1_TABLE_3, times, strict=True)}
    page = "\n".join(separable.lines(measured))
    assert "8.8 times fewer MACs and is 5.0 times faster" in page
    assert "57% of what the count promises" in page


# dense_counts


def test_dense_counts_are_torchvision_s_where_the_networks_are() -> None:
    for row in (dense.TV_SEGMENTER, dense.TV_DETECTOR):
        assert f"{count(row.spec).parameters:,}" == row.parameters
        assert row.macs / 1e9 == pytest.approx(row.mult_adds, rel=5e-3)


def test_dense_counts_round_to_the_paper_with_half_the_expansion() -> None:
    for row in (*dense.FULL, *dense.HALF_EXPANDED):
        assert f"{count(row.spec).parameters / 1e6:.2f} M" == row.parameters
    for row in (*dense.FULL, *dense.HALF_TAIL, *dense.HALF_EXPANDED):
        assert row.macs / 1e9 == pytest.approx(row.mult_adds, rel=0.1)


def test_dense_counts_of_detectors_are_near_the_papers() -> None:
    for row in dense.DETECTORS:
        millions = float(row.parameters.removesuffix(" M"))
        assert count(row.spec).parameters / 1e6 == pytest.approx(millions, rel=0.05)


def test_dense_counts_of_a_wide_image_are_those_of_its_squares() -> None:
    """But for what follows the pool of the gate, which is too little to be seen in the table."""
    row = dense.HALF_TAIL[1]
    spec = row.spec
    low, high = (128, 256), (64, 128)
    square = spec.head.layers((128, 128), (64, 64))
    wide = sum(layer.macs for layer in spec.head.layers(low, high))
    assert 2 * sum(layer.macs for layer in square) == pytest.approx(wide, rel=1e-3)


def test_dense_counts_page_is_what_the_script_prints() -> None:
    page = (RECIPES / "dense_counts.md").read_text(encoding="utf-8")
    assert page == "\n".join(dense.lines()) + "\n"


# hard_activations


def test_hard_sigmoid_is_farthest_where_both_slopes_agree() -> None:
    error = hard.largest_error(hard.sigmoid, hard.hard_sigmoid)
    x = math.log(2 + math.sqrt(3))  # sigmoid'(x) = 1/6
    assert error.x == pytest.approx(x, abs=1 / 1024)
    assert error.value == pytest.approx(1 / (1 + math.exp(-x)) - (x + 3) / 6, abs=1e-6)


def test_hard_swish_is_farthest_where_it_bends() -> None:
    error = hard.largest_error(hard.swish, hard.hard_swish)
    assert error == (pytest.approx(3 / (1 + math.exp(3))), 3)


def test_hard_swish_is_smallest_at_minus_one_and_a_half() -> None:
    values = hard.hard_swish(hard.X)
    assert (values.min(), hard.X[values.argmin()]) == (-0.375, -1.5)


@pytest.mark.parametrize("one", hard.ACTIVATIONS, ids=lambda one: one.name)
def test_activation_is_the_same_in_numpy_torch_and_onnx(one: Any) -> None:
    x = torch.linspace(-8, 8, math.prod(hard.MAP)).reshape(hard.MAP)
    expected = one.function(x.double().numpy())
    np.testing.assert_allclose(one.eager(x).numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(run(one.graph(), x.numpy()), expected, atol=2e-6)


def test_hard_activations_page_says_which_is_faster() -> None:
    names = [one.name for one in hard.ACTIVATIONS]
    by_runtime = {name: latency(1) for name in names}
    page = "\n".join(hard.lines(by_runtime, by_runtime | {"h-swish": latency(0.5)}))
    assert "In ONNX Runtime, h-sigmoid takes 1.00 times" in page
    assert (
        "In eager PyTorch, h-sigmoid takes 1.00 times the original and h-swish takes 0.50" in page
    )
    assert "| 0.0692 | x = ±1.317 |" in page


# shufflenet_guidelines


@pytest.mark.parametrize("guideline", stacks.GUIDELINES, ids=lambda one: one.name)
def test_stacks_of_a_guideline_have_equal_macs(guideline: Any) -> None:
    for variants in (guideline.wide, guideline.narrow):
        counts = [stacks.macs(one) for one in variants]
        assert all(abs(count / counts[0] - 1) < 0.01 for count in counts)


@pytest.mark.parametrize("guideline", stacks.GUIDELINES, ids=lambda one: one.name)
def test_stacks_fill_the_blocks_of_the_runtime(guideline: Any) -> None:
    for one in guideline.wide + guideline.narrow:
        for convolution in one.convolutions:
            assert convolution.c_in // convolution.groups % 16 == 0
            assert convolution.c_out // convolution.groups % 16 == 0


def test_names_of_stacks_are_unique() -> None:
    assert len({one.name for one in VARIANTS}) == len(VARIANTS)


def test_memory_access_is_the_papers_formula() -> None:
    (one,) = [v for v in VARIANTS if v.name == "1:12, (112, 1312)"]
    hw, c1, c2 = 28 * 28, 112, 1312
    assert stacks.memory_access(one) == 10 * 2 * (hw * (c1 + c2) + c1 * c2)
    (one,) = [v for v in VARIANTS if v.name == "g = 8, c = 1536"]
    c, g = 1536, 8
    b = hw * c * c // g
    assert stacks.memory_access(one) == 10 * (hw * c + b * g // c + b // hw)


@pytest.mark.parametrize("name", ["G1", "G2"])
def test_memory_access_grows_as_the_guideline_says(name: str) -> None:
    (guideline,) = [one for one in stacks.GUIDELINES if one.name == name]
    for variants in (guideline.wide, guideline.narrow):
        access = [stacks.memory_access(one) for one in variants]
        assert access == sorted(access)


def test_paper_agrees_with_itself() -> None:
    """Every guideline's first row is the paper's fastest, G4's (with everything) its slowest."""
    for guideline in stacks.GUIDELINES:
        first, *others = [one.speeds for one in guideline.wide]
        for other in others:
            assert (other.gpu > first.gpu, other.arm > first.arm) == (guideline.name == "G4",) * 2


@pytest.mark.parametrize(("low", "high", "said"), [
    (1.04, 1.2, "slower"), (0.8, 0.96, "faster"), (0.98, 1.02, "the same"),
    (1.02, 1.3, "undecided"), (0.9, 1.1, "undecided"), (0.9, 1.0, "undecided"),
])  # fmt: skip
def test_direction_needs_the_whole_interval(low: float, high: float, said: str) -> None:
    assert guidelines.direction(low, high) == said


def test_relative_time_spans_both_intervals() -> None:
    ratio, low, high = guidelines.relative_time(latency(20), latency(10))
    assert (ratio, low, high) == (2, pytest.approx(2 * 0.99 / 1.01), pytest.approx(2 * 1.01 / 0.99))


def test_guidelines_page_counts_what_agrees() -> None:
    # All equal: of the 13, only G4's "no ReLU, shortcut" is within 3 % on the paper's ARM.
    page = guidelines.lines(all_equal())
    assert any("Of the paper's 13 comparisons, 1 go here" in line for line in page)
    assert any("and 0 are undecided" in line for line in page)
    assert "As on the paper's ARM: no ReLU, shortcut (the same)." in page
    slow = {"g = 8, c = 1536": latency(15), "neither": latency(8)}
    page = guidelines.lines(all_equal() | slow)
    assert any("13 comparisons, 3 go here" in line for line in page)
    page = guidelines.lines(all_equal() | {"2 in series, c = 272": latency(10.3)})
    assert "Undecided here: 2 in series, c = 272." in page
    page = guidelines.lines(all_equal() | slow)
    assert "As on the paper's ARM: g = 8, c = 1536 (slower)." in page
    assert len([row for row in rows(page) if row.startswith("| narrow")]) == 13


def test_fragments_in_parallel_are_added() -> None:
    (one,) = [v for v in VARIANTS if v.name == "narrow, 4 in parallel, c = 32"]
    kinds = [node.op_type for node in stacks.graph(one).nodes]
    assert (kinds.count("Conv"), kinds.count("Add")) == (1 + 10 * 4, 10 * 3)


def test_shortcut_and_relu_are_in_the_graph() -> None:
    counted = {}
    for one in stacks.GUIDELINES[3].narrow:
        kinds = [node.op_type for node in stacks.graph(one).nodes]
        counted[one.name.removeprefix("narrow, ")] = (kinds.count("Add"), kinds.count("Relu"))
    assert counted == {
        "both, c = 64": (10, 30),
        "ReLU, no shortcut": (0, 30),
        "no ReLU, shortcut": (10, 0),
        "neither": (0, 0),
    }


# flops_are_not_latency


@pytest.mark.parametrize(("x", "y", "expected"), [
    ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),
    ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
    ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
    ([1, 1, 2], [1, 2, 3], math.sqrt(3) / 2),  # ties share their mean rank
])  # fmt: skip
def test_spearman_is_pearson_of_ranks(x: list[float], y: list[float], expected: float) -> None:
    assert flops.spearman(x, y) == pytest.approx(expected)


def points(times_ms: Mapping[str, tuple[int, float]]) -> list[Any]:
    return [flops.Point(name, macs, latency(ms)) for name, (macs, ms) in times_ms.items()]


def test_inversions_need_intervals_apart() -> None:
    found = flops.inversions(
        points({"a": (100, 5.0), "b": (200, 3.0), "c": (300, 5.05), "d": (300, 1.0)})
    )
    assert [(fewer.name, more.name) for fewer, more in found] == [
        ("a", "b"),
        ("a", "d"),
        ("b", "d"),
    ]


def test_flops_page_names_the_farthest_inversion() -> None:
    page = flops.lines(points({"a": (10**8, 5.0), "b": (2 * 10**8, 3.0), "c": (3 * 10**8, 20.0)}))
    text = "\n".join(page)
    assert "In 1 of 3 pairs" in text
    assert "farthest apart are a and b, which has 2.0 times the MACs and takes 0.60 times" in text
    assert "correlation of MACs and time over 3 networks is 0.50" in text
    assert len(rows(page)) == 1 + 3


def test_flops_page_without_inversions_ends_there() -> None:
    page = flops.lines(points({"a": (10**8, 1.0), "b": (2 * 10**8, 3.0)}))
    assert any(line.endswith("In 0 of 1 pairs the network with fewer MACs is the slower.")
               for line in page)  # fmt: skip


def test_networks_of_the_registry_are_all_there() -> None:
    names = [spec.name for spec in flops.networks()]
    assert {"mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large"} <= set(names)
    assert set(names) <= set(registry.list_models())


def test_networks_are_exported_and_timed() -> None:
    specs = [registry.spec("mobilenet_v1", width=0.25, resolution=32)]
    (point,) = flops.measure(specs, QUICK)
    assert point.name == "mobilenet_v1"
    assert point.latency.runs == 2
    assert point.ms_per_100_mmacs == pytest.approx(point.latency.median_ms * 1e8 / point.macs)


# timing and plotting


def run(graph: Any, x: np.ndarray[Any, Any]) -> Any:
    session = onnxruntime.InferenceSession(
        graph.model().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(c_in=4, c_out=6, kernel=3, stride=2, act="relu"),
        ConvSpec(c_in=4, c_out=4, groups=4, kernel=5, act="hswish"),
        ConvSpec(c_in=4, c_out=8, groups=2, kernel=1, act="none"),
    ],
)
def test_graph_convolves_as_the_module_does(spec: ConvSpec) -> None:
    graph = timing.Graph((1, 4, 9, 9))
    graph.conv("x", spec)
    module = spec.build().eval()
    convolution = module.get_submodule("conv")
    assert isinstance(convolution, nn.Conv2d)
    convolution.weight = nn.Parameter(torch.from_numpy(graph.constants["c0"]))
    x = torch.randn(1, 4, 9, 9)
    with torch.no_grad():  # a new norm only divides by sqrt(1 + eps)
        expected = module(x).numpy()
    np.testing.assert_allclose(run(graph, x.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_optimised_operators_are_those_that_run() -> None:
    assert timing.optimised_operators(hard.swish_graph()) == ["QuickGelu"]


def test_graphs_are_timed_by_name() -> None:
    graphs = {one.name: one.graph() for one in hard.ACTIVATIONS[:2]}
    measured = timing.measure_graphs(graphs, QUICK)
    assert {name: found.runs for name, found in measured.items()} == {"copy": 2, "ReLU6": 2}


def test_noise_is_told_beside_the_table() -> None:
    quiet, noisy = latency(1), dataclasses.replace(latency(1), noise="too wide")
    assert "fifth" not in timing.how_measured([quiet, quiet])
    assert "1 of 2 intervals are wider than a fifth" in timing.how_measured([quiet, noisy])


def test_pictures_are_small_and_the_same_for_the_same_figures(tmp_path: Path) -> None:
    measured = {row.name: latency(1) for row in separable.V1_TABLE_3}
    for folder in ("a", "b"):
        relu.draw(tmp_path / folder / "relu.svg")
        hard.draw(tmp_path / folder / "hard.svg")
        separable.draw(measured, tmp_path / folder / "separable.svg")
        guidelines.draw(all_equal(), tmp_path / folder / "guidelines.svg")
        flops.draw(points({"a": (10**8, 1.0), "b": (10**9, 3.0)}), tmp_path / folder / "flops.svg")
    for first in (tmp_path / "a").iterdir():
        assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()
        assert first.stat().st_size < 300_000


@pytest.mark.parametrize("name", [
    "relu_information", "separable_arithmetic", "hard_activations", "shufflenet_guidelines",
    "flops_are_not_latency",
])  # fmt: skip
def test_page_is_committed_with_its_picture(name: str) -> None:
    page = (RECIPES / f"{name}.md").read_text()
    assert page.startswith("# ")
    assert f"python recipes/{name}.py > recipes/{name}.md" in page
    assert f"(images/{name}.svg)" in page
    assert (RECIPES / "images" / f"{name}.svg").stat().st_size < 300_000
