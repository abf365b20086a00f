"""A whole run of `fit`, or of `quantize`: record.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from pocketvision.record.files import Quantization, Shipped, Tried, Variant
from pocketvision.record.scores import (
    Calibration,
    Comparison,
    DetectionFigures,
    Mistake,
    Score,
    SegmentationFigures,
)
from pocketvision.record.searched import Narrowing, Search
from pocketvision.record.timing import Conditions, Latency, LayerTime, Machine, OnTarget, Throughput
from pocketvision.record.words import Finding, TaskName

SCHEMA_VERSION = 3  # 2 added what has a default in `Record`, 3 new names; both are still read


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One line of the learning curves; losses are means over the epoch."""

    epoch: int  # counted from 1
    steps: int  # optimizer steps done so far
    seconds: float  # since training began
    learning_rate: float
    train_loss: float
    val_loss: float
    val_score: Annotated[float, Field(validation_alias=AliasChoices("val_score", "val_top1"))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one step of the main job cost and gained; None where it does not apply.

    forecast_s: what was planned with, where the time is limited.
    """

    name: str  # "plan", "train", "export", "quantize", "gate", "measure", "verify"
    seconds: float
    # On val, so that steps can be compared.
    score: Annotated[float | None, Field(validation_alias=AliasChoices("score", "top1"))] = None
    latency_ms: float | None = None
    size_bytes: int | None = None
    note: str = ""
    forecast_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSummary:
    """One split, by class in the order of `DataSummary.classes`.

    counts: images of each class; of masks, the images in which it occurs; of boxes, the objects.
    images: of the split; None in records of before, which are of images with one class each.
    """

    name: str
    origin: Literal["given", "set aside"]
    counts: tuple[int, ...]
    images: int | None = None

    @property
    def total(self) -> int:
        """Images of the split."""
        return sum(self.counts) if self.images is None else self.images


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSummary:
    """The labelled images; `fingerprint` depends on their content, labels and splits alone."""

    fingerprint: str
    classes: tuple[str, ...]
    splits: tuple[SplitSummary, ...]
    headline_split: Literal[
        "test", "val"
    ]  # "val": used for selection too, and said beside the figure
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSummary:
    """The chosen network, counted from its specification."""

    name: str
    label: str
    width: float
    resolution: int
    parameters: int
    macs: int
    peak_activation_bytes: int
    start: str  # "from scratch", or the weights file fine-tuned


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetSummary:
    """The budget as asked; None: no limit."""

    latency_ms: float | None
    size_bytes: int | None
    time_s: float | None
    threads: int
    max_drop_points: float
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The first thing a reader sees. `met` is None when no budget was given."""

    met: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Everything measured in one run of the main job."""

    schema_version: int
    created: str  # ISO 8601, UTC
    command: str
    seed: int
    verdict: Verdict
    budget: BudgetSummary
    data: DataSummary
    network: NetworkSummary
    shipped: Shipped
    headline: Score  # the shipped file, from image files, on data.headline_split
    latency: Latency  # the shipped file, on this machine
    decode_ms: float  # median of reading, decoding and resizing one image file; not in the latency
    variants: tuple[Variant, ...]
    verification: tuple[Comparison, ...]  # from image files, on data.headline_split
    confusion: tuple[tuple[int, ...], ...]  # images, or pixels: rows: true class, columns: named
    tried: tuple[Tried, ...]
    epochs: tuple[Epoch, ...]
    steps: tuple[Step, ...]
    machine: Machine
    spent_s: float  # wall clock of the whole command, interrupted parts included
    peak_bytes: int | None = None  # the shipped file's, as in `Variant`
    throughput: Throughput | None = None  # the shipped file's
    conditions: Conditions | None = None  # of the final measurement
    findings: tuple[Finding, ...] = ()  # of the data
    alarms: tuple[Finding, ...] = ()  # of the training
    # The float network on training images, for the gap to val.
    train_score: Annotated[
        Score | None, Field(validation_alias=AliasChoices("train_score", "train_top1"))
    ] = None
    val_score: Annotated[
        Score | None, Field(validation_alias=AliasChoices("val_score", "val_top1"))
    ] = None
    calibration: Calibration | None = None  # of the shipped file
    mistakes: tuple[Mistake, ...] = ()  # the surest first
    layers: tuple[LayerTime, ...] = ()  # of the shipped file, in its order
    quantization: Quantization | None = None  # of the INT8 file of ONNX Runtime
    narrowing: Narrowing | None = None  # where NetAdapt made the network
    search: Search | None = None  # where a search found it, or was made beside it
    target: OnTarget | None = None  # the shipped file, where the budget is of another device
    task: TaskName = "classify"
    segmentation: SegmentationFigures | None = None
    detection: DetectionFigures | None = None

    @property
    def budgeted(self) -> Latency:
        """The latency that the budget is held against."""
        return self.latency if self.target is None else self.target.latency


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationRecord:
    """quantization.json: what `quantize` found about one network, and what lies in its model/.

    variants: every file that was compared, on `split`. headline: the shipped file against the float
    network on test, which nothing was chosen by; None: there is none. explanation: where the time
    of INT8 goes, operator by operator. layers: of the shipped file.
    """

    schema_version: int
    created: str  # ISO 8601, UTC
    command: str
    source: str
    network: str
    resolution: int
    classes: tuple[str, ...]
    data: str
    split: str
    quantization: Quantization
    variants: tuple[Variant, ...]
    shipped: Shipped
    headline: Comparison | None
    explanation: str
    layers: tuple[LayerTime, ...]
    machine: Machine
    conditions: Conditions | None
    spent_s: float
