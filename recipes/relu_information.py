"""What a ReLU leaves of a flat spiral: Fig. 1 of MobileNetV2, with figures.

python recipes/relu_information.py [--out recipes]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from plotting import head, machine_line, out_folder, save, style, table, tidy

DIMENSIONS = (2, 3, 5, 15, 30)  # n of the paper's figure
EMBEDDINGS = 1000
POINTS = 200
SEED = 0

Array = NDArray[np.floating]


def main() -> None:
    """Write the picture and print the page."""
    out = out_folder(__doc__)
    draw(out / "images" / "relu_information.svg")
    print("\n".join(lines()))


def spiral(points: int = POINTS) -> Array:
    """(2, points): an Archimedean spiral of three turns; its mean is near 0, its radius 0.05..1."""
    t = np.linspace(0.05, 1, points)
    angle = 6 * np.pi * t
    return np.stack([t * np.cos(angle), t * np.sin(angle)])


def embeddings(n: int, count: int) -> Array:
    """(count, n, 2): random matrices T, entries unit normal, the same for the same n."""
    return np.random.default_rng([SEED, n]).standard_normal((count, n, 2))


def there_and_back(x: Array, t: Array) -> Array:
    """pinv(T) ReLU(T x): (2, points), (..., n, 2) -> (..., 2, points)."""
    back: Array = np.linalg.pinv(t) @ np.maximum(t @ x, 0)
    return back


def relative_errors(x: Array, back: Array) -> Array:
    """|s back - x| / |x| over all points, s being the best scale: (..., 2, points) -> (...).

    Without s, the halving of a symmetric signal by a ReLU would count as an error.
    """
    inner = (back * x).sum((-2, -1))
    power = (back**2).sum((-2, -1))
    explained = np.divide(inner**2, power, out=np.zeros_like(inner), where=power > 0)
    errors: Array = np.sqrt(np.maximum(1 - explained / (x**2).sum(), 0))
    return errors


def lost_shares(x: Array, t: Array) -> Array:
    """Share of points around which ReLU(T x) is not injective: (2, points), (..., n, 2) -> (...).

    A row of T is active at a point where its product is positive. With fewer than two independent
    active rows, the point can move in some direction and no activation changes.
    """
    # Two rows of a normal matrix are independent with probability 1.
    shares: Array = ((t @ x > 0).sum(-2) < 2).mean(-1)
    return shares


def expected_lost_share(n: int) -> float:
    """Of n rows, each active with probability 1/2, at most one is: (n + 1) / 2^n."""
    return (n + 1) / 2.0**n


def lines(count: int = EMBEDDINGS) -> list[str]:
    """The page, line by line."""
    x = spiral()
    rows, medians = [], []
    for n in DIMENSIONS:
        t = embeddings(n, count)
        low, median, high = np.quantile(relative_errors(x, there_and_back(x, t)), (0.05, 0.5, 0.95))
        lost = lost_shares(x, t)
        medians.append(median)
        rows.append(
            (
                str(n),
                f"{median:.1%} ({low:.1%} to {high:.1%})",
                f"{lost.mean():.2%} ({np.quantile(lost, 0.05):.1%} to "
                f"{np.quantile(lost, 0.95):.1%})",
                f"{expected_lost_share(n):.2%}",
            )
        )
    return [
        *head(
            "relu_information",
            "What a ReLU leaves of a spiral",
            "A spiral in the plane is embedded into n dimensions by a random matrix T, passed "
            "through a ReLU, and brought back by the pseudo-inverse of T. In few dimensions the "
            "spiral is destroyed, in many it survives: why MobileNetV2 keeps the narrow ends of "
            "its blocks linear (Sandler et al., section 3.2, Fig. 1).",
        ),
        f"{count} random matrices for each n ({POINTS} points, seed {SEED}); median or mean, and "
        "5th to 95th percentile over the matrices:",
        "",
        *table(
            ("n", "relative error, median", "points lost, mean", "points lost, (n + 1) / 2^n"), rows
        ),
        "The error is |s x' - x| / |x| with the scale s that fits best, as a ReLU halves a "
        "symmetric signal. A point is lost where fewer than two rows of T are active: then it can "
        "move and no activation changes, so no decoder finds it again.",
        "",
        f"From n = {DIMENSIONS[0]} to {DIMENSIONS[-1]} the median error goes from "
        f"{medians[0]:.0%} to {medians[-1]:.0%}. The pseudo-inverse keeps an error where hardly a "
        "point is lost: it is linear, and a layer that follows could do better.",
        "",
        machine_line(("numpy",)),
    ]


def draw(picture: Path) -> None:
    """The input and one embedding for each n, as in the paper's figure."""
    x = spiral()
    panels = {"input": x}
    for n in DIMENSIONS:
        panels[f"n = {n}"] = there_and_back(x, embeddings(n, 1))[0]
    with style():
        figure, grid = pyplot.subplots(1, len(panels), figsize=(10, 2), layout="constrained")
        for axes, (title, points) in zip(grid, panels.items(), strict=True):
            tidy(axes)
            axes.scatter(*points, c=np.arange(POINTS), cmap="viridis", s=6, linewidths=0)
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks([])
        save(figure, picture)


if __name__ == "__main__":
    main()
