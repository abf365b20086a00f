"""Swish and sigmoid against the hard forms of MobileNetV3: how far apart, and how fast.

python recipes/hard_activations.py [--out recipes]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot
from numpy.typing import NDArray
from plotting import (
    ACCENT,
    SECOND,
    SOFT,
    THIRD,
    head,
    machine_line,
    out_folder,
    save,
    style,
    table,
    tidy,
)
from timing import PROTOCOL, THREADS, Graph, cell, how_measured, measure_graphs, optimised_operators
from torch import Tensor

from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.record.timing import Latency

MAP = (1, 240, 28, 28)  # the first h-swish map inside a block of MobileNetV3-Large at 224
X = np.arange(-8 * 1024, 8 * 1024 + 1) / 1024

Array = NDArray[np.float64]


class Activation(NamedTuple):
    """One function: in numpy, in eager PyTorch, and as ONNX operators after each other."""

    name: str
    function: Callable[[Array], Array]
    eager: Callable[[Tensor], Tensor]
    graph: Callable[[], Graph]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(x, 0, 6)


def hard_sigmoid(x: Array) -> Array:
    """ReLU6(x + 3) / 6. Source: Howard et al., Searching for MobileNetV3, section 5.2."""
    return relu6(x + 3) / 6


def swish(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def hard_swish(x: Array) -> Array:
    """x ReLU6(x + 3) / 6. Source: Howard et al., Searching for MobileNetV3, section 5.2."""
    return x * hard_sigmoid(x)


def largest_error(exact: Callable[[Array], Array], hard: Callable[[Array], Array]) -> Error:
    """Where, for x >= 0, the hard form is farthest from the exact one, on the grid X."""
    x = X[X >= 0]  # both errors are the same at -x
    errors = np.abs(hard(x) - exact(x))
    return Error(float(errors.max()), float(x[errors.argmax()]))


class Error(NamedTuple):
    """The largest absolute error and the x >= 0 where it is."""

    value: float
    x: float


def _graph(kind: str) -> Graph:
    made = Graph(MAP)
    made.op(kind, "x")
    return made


def hard_sigmoid_graph() -> Graph:
    """HardSigmoid with the slope of MobileNetV3; ONNX has 0.2 by default."""
    made = Graph(MAP)
    made.op("HardSigmoid", "x", attributes={"alpha": 1 / 6, "beta": 0.5})
    return made


def swish_graph() -> Graph:
    """x * Sigmoid(x); ONNX has an operator of its own only since opset 24."""
    made = Graph(MAP)
    made.op("Mul", "x", made.op("Sigmoid", "x"))
    return made


def relu6_graph() -> Graph:
    """Clip between 0 and 6."""
    made = Graph(MAP)
    made.op("Clip", "x", *(made.constant(np.array(end, np.float32)) for end in (0, 6)))
    return made


ACTIVATIONS = (
    Activation("copy", np.copy, torch.clone, partial(_graph, "Identity")),
    Activation("ReLU6", relu6, F.relu6, relu6_graph),
    Activation("sigmoid", sigmoid, torch.sigmoid, partial(_graph, "Sigmoid")),
    Activation("h-sigmoid", hard_sigmoid, F.hardsigmoid, hard_sigmoid_graph),
    Activation("swish", swish, F.silu, swish_graph),
    Activation("h-swish", hard_swish, F.hardswish, partial(_graph, "HardSwish")),
)


def main() -> None:
    """Time the functions, write the picture and print the page."""
    out = out_folder(__doc__)
    draw(out / "images" / "hard_activations.svg")
    by_runtime = measure_graphs({one.name: one.graph() for one in ACTIVATIONS})
    print("\n".join(lines(by_runtime, measure_eager())))


def measure_eager(protocol: LatencyProtocol = PROTOCOL) -> dict[str, Latency]:
    """Time all functions on MAP in eager PyTorch, one thread."""
    x = torch.randn(MAP, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.inference_mode():
            runs = {one.name: partial(one.eager, x) for one in ACTIVATIONS}
            return measure_latency(runs, protocol, THREADS)
    finally:
        torch.set_num_threads(before)


def lines(by_runtime: Mapping[str, Latency], eager: Mapping[str, Latency]) -> list[str]:
    """The page, line by line."""
    errors = {
        "h-sigmoid": ("sigmoid", largest_error(sigmoid, hard_sigmoid)),
        "h-swish": ("swish", largest_error(swish, hard_swish)),
    }
    return [
        *head(
            "hard_activations",
            "The hard activations of MobileNetV3",
            "Swish is x sigmoid(x), and a sigmoid needs an exponential. MobileNetV3 replaces the "
            "sigmoid by ReLU6(x + 3) / 6, which gives h-sigmoid and h-swish (Howard et al., "
            "section 5.2): here is how far they are from the originals, and what they take.",
        ),
        *table(
            ("hard form of", "largest absolute error", "at", "smallest value", "of the hard form"),
            [
                (
                    exact,
                    f"{error.value:.4f}",
                    f"x = ±{error.x:.3f}",
                    _minimum(exact),
                    _minimum(hard),
                )
                for hard, (exact, error) in errors.items()
            ],
        ),
        f"Time on one map of {'x'.join(map(str, MAP))} floats, each function alone:",
        "",
        *table(
            ("function", "ONNX Runtime, ms", "operators it runs", "eager PyTorch, ms"),
            [
                (
                    one.name,
                    cell(by_runtime[one.name]),
                    ", ".join(optimised_operators(one.graph())),
                    cell(eager[one.name]),
                )
                for one in ACTIVATIONS
            ],
        ),
        how_measured([*by_runtime.values(), *eager.values()])
        + " One thread; PyTorch's were taken after ONNX Runtime's. A network's runtime may fuse an "
        "activation into the layer before it, which a single operator does not show. Copy is what "
        "a call that computes nothing takes.",
        "",
        *_seen("ONNX Runtime", by_runtime),
        *_seen("eager PyTorch", eager),
        "",
        machine_line(("numpy", "torch", "onnxruntime")),
    ]


def _minimum(name: str) -> str:
    values = next(one.function for one in ACTIVATIONS if one.name == name)(X)
    return f"{values.min():.3f} at x = {X[values.argmin()]:.3f}" if values.min() < 0 else "0"


def _seen(where: str, latencies: Mapping[str, Latency]) -> list[str]:
    ratios = {
        hard: latencies[hard].median_ms / latencies[exact].median_ms
        for hard, exact in (("h-sigmoid", "sigmoid"), ("h-swish", "swish"))
    }
    parts = [f"{hard} takes {ratio:.2f} times the original" for hard, ratio in ratios.items()]
    return [f"In {where}, {' and '.join(parts)}."]


def draw(picture: Path) -> None:
    """The functions in pairs, and below them the difference."""
    x = X[::128]
    pairs = (("sigmoid", sigmoid, hard_sigmoid), ("swish", swish, hard_swish))
    with style():
        figure, grid = pyplot.subplots(
            2, 3, figsize=(9, 4), sharex=True, height_ratios=(3, 1), layout="constrained"
        )
        for column, (name, exact, hard) in enumerate(pairs):
            top, below = grid[0, column], grid[1, column]
            top.plot(x, exact(x), color=SOFT, label=name)
            top.plot(x, hard(x), color=ACCENT, label=f"h-{name}")
            below.plot(x, hard(x) - exact(x), color=SECOND)
            below.set_xlabel("x")
        grid[0, 2].plot(x, np.maximum(x, 0), color=SOFT, label="ReLU")
        grid[0, 2].plot(x, relu6(x), color=THIRD, label="ReLU6")
        grid[1, 2].plot(x, relu6(x) - np.maximum(x, 0), color=SECOND)
        grid[1, 2].set_xlabel("x")
        grid[1, 0].set_ylabel("difference")
        for axes in grid.flat:
            tidy(axes)
        for axes in grid[0]:
            axes.legend(frameon=False)
        save(figure, picture)


if __name__ == "__main__":
    main()
