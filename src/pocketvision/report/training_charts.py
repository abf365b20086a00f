"""Learning curves, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.intervals import wilson
from pocketvision.record.run import Epoch
from pocketvision.record.scores import Calibration, ReliabilityBin
from pocketvision.record.words import Metric
from pocketvision.report.chart import Chart, Key, Plane, Scale, around, both, segment, svg
from pocketvision.report.text import metric_name, percent

DOTTED = 40  # epochs up to which every one is a dot
LARGEST = 13.0  # pixels, radius of the tenth with most images


def loss_chart(epochs: Sequence[Epoch]) -> Chart | None:
    """Losses by epoch; None without epochs."""
    if not epochs:
        return None
    train = [(float(e.epoch), e.train_loss) for e in epochs]
    val = [(float(e.epoch), e.val_loss) for e in epochs]

    def draw(width: int, height: int) -> Markup:
        losses = [loss for _, loss in train + val]
        plane = _by_epoch(epochs, width, height, around([0.0, *losses]), "mean loss of the epoch")
        return svg(
            width,
            height,
            plane.axes(),
            _curve(plane, val, "second", "val loss {:.3g}"),
            _curve(plane, train, "first", "train loss {:.3g}"),
        )

    wide, narrow = both(draw, half=True)
    return Chart(
        id="curves-loss",
        title="Loss",
        how_to_read=(
            "Lower is better; a val line that rises while the train line falls means that the "
            "network learns the training images by heart."
        ),
        alt=f"Line plot of the losses over {len(epochs)} epochs. The val loss goes from "
        f"{epochs[0].val_loss:.3g} to {epochs[-1].val_loss:.3g}.",
        wide=wide,
        narrow=narrow,
        keys=(
            Key(shape="line", style="first", words="train, augmented"),
            Key(shape="line", style="second", words="val"),
        ),
        half=True,
    )


def score_chart(epochs: Sequence[Epoch], metric: Metric) -> Chart | None:
    """The score on val by epoch, its highest point ringed; None without epochs."""
    if not epochs:
        return None
    best = max(epochs, key=lambda e: e.val_score)
    points = [(float(e.epoch), 100 * e.val_score) for e in epochs]

    def draw(width: int, height: int) -> Markup:
        title = f"{metric} on val, %"
        plane = _by_epoch(epochs, width, height, around([y for _, y in points]), title)
        ring = plane.mark("circle", best.epoch, 100 * best.val_score, 8, "ring")
        curve = _curve(plane, points, "first", f"{metric} on val {{:.1f}} %")
        return svg(width, height, plane.axes(), curve, ring)

    wide, narrow = both(draw, half=True)
    return Chart(
        id="curves-score",
        title=f"{metric_name(metric)} on val",
        how_to_read=(
            "Higher is better; the ring marks the highest epoch, and choosing by val makes val "
            "look better than new images will."
        ),
        alt=f"Line plot of {metric} on val over {len(epochs)} epochs; the highest is "
        f"{percent(best.val_score)} in epoch {best.epoch}.",
        wide=wide,
        narrow=narrow,
        keys=(
            Key(shape="line", style="first", words="val"),
            Key(shape="ring", style="ring", words="highest"),
        ),
        half=True,
    )


def reliability_chart(calibration: Calibration | None) -> Chart | None:
    """Accuracy against confidence, by tenths; None where it was not measured."""
    if calibration is None or not calibration.bins:
        return None
    bins = calibration.bins

    def draw(width: int, height: int) -> Markup:
        plane = Plane(
            width=width,
            height=height,
            x=Scale(low=0, high=100),
            y=Scale(low=0, high=100),
            x_title="how sure: the highest probability, %",
            y_title="how often right, %",
        )
        marks = [part for one in bins for part in _tenth(plane, one, max(b.n for b in bins))]
        even = plane.line([(0, 0), (100, 100)], "even")
        return svg(width, height, plane.axes(), even, *marks)

    wide, narrow = both(draw, half=True)
    return Chart(
        id="reliability",
        title="How sure, and how often right",
        how_to_read=(
            "Each mark is a tenth of the probabilities, a larger one has more images, and the thin "
            "bar is its 95 % interval; on the dashed line probabilities mean what they say, below "
            "it the network is too sure of itself."
        ),
        alt=f"Reliability diagram of {len(bins)} groups of images: expected calibration error "
        f"{percent(calibration.ece)}.",
        wide=wide,
        narrow=narrow,
        half=True,
    )


def _tenth(plane: Plane, one: ReliabilityBin, most: int) -> list[Markup]:
    x = 100 * one.confidence
    low, high = wilson(round(one.top1 * one.n), one.n)
    radius = 3 + (LARGEST - 3) * (one.n / most) ** 0.5
    tip = (
        f"{percent(one.confidence)} sure on average\n{percent(one.top1)} right "
        f"({100 * low:.1f} to {100 * high:.1f} %)\nn = {one.n:,}"
    )
    return [
        segment(plane.px(x), plane.py(100 * low), plane.px(x), plane.py(100 * high), "interval"),
        plane.mark("circle", x, 100 * one.top1, radius, "fits", tip),
    ]


def _by_epoch(epochs: Sequence[Epoch], width: int, height: int, y: Scale, y_title: str) -> Plane:
    last = max(epochs[-1].epoch, epochs[0].epoch + 1)
    x = Scale(low=epochs[0].epoch - 0.5, high=last + 0.5)
    return Plane(width=width, height=height, x=x, y=y, x_title="epoch", y_title=y_title)


def _curve(plane: Plane, points: Sequence[tuple[float, float]], style: str, tip: str) -> Markup:
    line = plane.line(points, style)
    shown = len(points) <= DOTTED
    dots = [
        plane.mark("circle", x, y, 2.5 if shown else 4, style if shown else "unseen", words)
        for x, y in points
        if y == y and abs(y) != float("inf")
        for words in [f"epoch {x:.0f}\n{tip.format(y)}"]
    ]
    return line + Markup("").join(dots)
