"""How figures are written: one form for each quantity, shared by the report and the model card."""

from __future__ import annotations

import html
import math
import re

from markupsafe import Markup

from pocketvision.budget import count_of
from pocketvision.record.run import DataSummary, Record
from pocketvision.record.scores import Score
from pocketvision.record.timing import Latency
from pocketvision.record.words import Metric, TaskName

NOT_FINITE = "not finite"
MINUS = "\N{MINUS SIGN}"

# Emphasis, code, links, tables, mathematics; addresses that would become links by themselves.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$]|(?<=www)\.|:(?=//))")
_MARKDOWN_START = re.compile(r"^\d+(?=[.)])|^(?=[-+=#])")


def percent(fraction: float) -> str:
    """0.8734 -> '87.3 %'."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else NOT_FINITE


def percent_range(low: float, high: float) -> str:
    """(0.841, 0.9) -> '84.1 to 90.0 %'."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def points(fraction: float) -> str:
    """A difference of two accuracies in percentage points, signed: -0.004 -> '−0.4'."""
    rounded = round(100 * fraction, 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def points_range(low: float, high: float) -> str:
    """(-0.011, 0.004) -> '−1.1 to +0.4'."""
    return f"{points(low)} to {points(high)}"


def significant(value: float) -> str:
    """Three significant digits, never with an exponent: 0.0123 -> '0.0123', 1234.5 -> '1,234'."""
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    whole_digits = math.floor(math.log10(abs(value))) + 1
    decimals = min(max(3 - whole_digits, 0), 9)
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """As `percent`; a dash where there is no such figure."""
    return "–" if value is None else percent(value)


def tiny(value: float | None) -> str:
    """Two significant digits of a figure that may be very small: 3.14e-6 -> '3.1e-06'."""
    if value is None:
        return "–"
    return f"{value:.2g}" if math.isfinite(value) else NOT_FINITE


def milliseconds(value_ms: float) -> str:
    """3.2 -> '3.20 ms'."""
    return f"{significant(value_ms)} ms"


def milliseconds_range(low_ms: float, high_ms: float) -> str:
    """(3.1, 3.32) -> '3.10 to 3.32 ms'."""
    return f"{significant(low_ms)} to {significant(high_ms)} ms"


def megabytes(size_bytes: float) -> str:
    """1234567 -> '1.23 MB'; 1 MB = 10^6 bytes."""
    return f"{significant(size_bytes / 1e6)} MB"


def decibels(value_db: float) -> str:
    """31.25 -> '31.2 dB'."""
    if not math.isfinite(value_db):
        return NOT_FINITE
    return f"{round(value_db, 1) or 0.0:.1f} dB".replace("-", MINUS)


def millions(count: float) -> str:
    """2540000 -> '2.54 M'."""
    return f"{significant(count / 1e6)} M"


def ratio(value: float, before: float) -> str:
    """How a figure changed, as a factor: (2.0, 4.0) -> '×0.50'."""
    return f"×{value / before:.2f}" if before else ""


def clipped(text: str, length: int = 24) -> str:
    """`text`, its middle replaced by an ellipsis where it is longer than `length`."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}…{text[-tail:]}"


def class_counts(data: DataSummary) -> list[tuple[str, tuple[int, ...]]]:
    """Each class with its images in every split."""
    columns = zip(*(split.counts for split in data.splits), strict=True)
    return list(zip(data.classes, columns, strict=True))


def metric_name(metric: Metric) -> str:
    """A score in words."""
    return {
        "top-1": "Accuracy",
        "mIoU": "Mean intersection over union",
        "mAP": "Mean average precision",
    }[metric]


def metric_word(metric: Metric) -> str:
    """A score in one word, to head a column."""
    return "Accuracy" if metric == "top-1" else metric


def agreed_share(metric: Metric) -> str:
    """What `Comparison.agreement` is, where networks are compared by this score."""
    return {
        "top-1": "the share of images on which both name the same class",
        "mIoU": "the share of pixels that both name alike",
        "mAP": "the share of boxes that both find",
    }[metric]


def metric_definition(metric: Metric) -> str:
    """What a score is, and its interval."""
    return {
        "top-1": "share of images whose true class has the highest score (top-1), with Wilson’s "
        "95 % interval.",
        "mIoU": "of each class, the pixels that are of it and named so, over those that are "
        "either, counted over all images at the size of their masks; the mean over the classes "
        "that occur, with a 95 % bootstrap interval over images. Void pixels do not count.",
        "mAP": "COCO’s average precision, the mean over classes and the IoU thresholds 0.50 to "
        "0.95, with a 95 % bootstrap interval over images.",
    }[metric]


def task_noun(task: TaskName) -> str:
    """What a network of a task is."""
    return {
        "classify": "An image classifier",
        "segment": "A network that names the class of every pixel,",
        "detect": "A network that finds objects,",
    }[task]


def counted_per_class(task: TaskName) -> str:
    """What `SplitSummary.counts` count."""
    return {"classify": "Images", "segment": "Images", "detect": "Objects"}[task]


def accuracy_split(record: Record) -> str:
    """The split of the headline figure, with the warning that a reused split needs."""
    return {"test": "test", "val": "val, used for selection"}[record.data.headline_split]


def accuracy_line(score: Score) -> str:
    """'87.3 % (95 % interval 84.1 to 90.0 %, n = 540)'."""
    interval = percent_range(score.low, score.high)
    return f"{percent(score.value)} (95 % interval {interval}, n = {score.n:,})"


def latency_line(latency: Latency) -> str:
    """'3.20 ms median (95 % interval ..., p95 ..., 1 thread, batch 1, 200 runs)', or by a table."""
    interval = milliseconds_range(latency.low_ms, latency.high_ms)
    if latency.is_by_table:
        return (
            f"{milliseconds(latency.median_ms)} by the table of a device (its interval {interval}, "
            f"{threads(latency.threads)}, batch {latency.batch})"
        )
    return (
        f"{milliseconds(latency.median_ms)} median (95 % interval {interval}, "
        f"p95 {milliseconds(latency.p95_ms)}, {threads(latency.threads)}, batch {latency.batch}, "
        f"{latency.runs:,} runs)"
    )


def threads(count: int) -> str:
    """1 -> '1 thread', 4 -> '4 threads'."""
    return count_of(count, "thread")


def verdict_word(met: bool | None) -> str:
    """The verdict in two or three words."""
    return {True: "Budget met", False: "Budget missed", None: "No budget given"}[met]


def plotly_text(text: str) -> str:
    """Text that a plotly figure shows as it is: plotly reads tags and entities in its labels."""
    return html.escape(" ".join(text.split()), quote=False)


def markdown(text: str) -> Markup:
    """Text that Markdown shows as it is, in one line; it cannot end a table cell or open a tag."""
    line = " ".join(str(text).split())
    line = html.escape(line, quote=False)
    line = _MARKDOWN_START.sub(r"\g<0>\\", _MARKDOWN.sub(r"\\\1", line))
    return Markup(line)


def markdown_fence(text: str) -> Markup:
    """A fenced code block that its content cannot close."""
    fence = "`" * max(3, _longest_run_of_backticks(text) + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def _longest_run_of_backticks(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
