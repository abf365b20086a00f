"""The schema of every measured figure: what the report, the model card and `verify` read.

Fractions are 0..1 (accuracy, agreement); names carry their unit otherwise. A record holds figures
only; how they were obtained is the business of the floors above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

# w8: weights in 8 bits, arithmetic in float.
Precision = Literal["f32", "bf16", "int8", "w8"]
SCHEMA_VERSION = 3  # 2 added what has a default in `Record`, 3 new names; both are still read

TaskName = Literal["classify", "segment", "detect"]
Metric = Literal["top-1", "mIoU", "mAP"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing to know about data or a training; the sentence holds the figures and what to do."""

    severity: Severity
    code: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Time of one run of a session, the input being in memory.

    low_ms..high_ms is the 95 % bootstrap interval of the median. `noise` says why the figure cannot
    be trusted (empty: it can). No runs: nothing was measured, it is by the table of a device: a sum
    over its blocks, with low_ms..high_ms as far around it as such sums were off, and p95_ms as
    high_ms; or, of a segmenter or detector, what the untrained file took there.
    """

    median_ms: float
    p95_ms: float
    low_ms: float
    high_ms: float
    runs: int
    threads: int
    batch: int = 1
    noise: str = ""

    @property
    def is_by_table(self) -> bool:
        """True for what the table of a device says, and nothing measured."""
        return self.runs == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class OnTarget:
    """What a file takes on a device that is not here, by a table of it.

    table: what it is of, such as "onnxruntime int8, 1 thread, on Cortex-A76".
    """

    table: str
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """Images a second with `latency.batch` of them in one run; low..high from its interval."""

    images_per_s: float
    low: float
    high: float
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """How quiet the machine was while it measured; None: the system does not say.

    load: 1-minute average when it began. governor: of the cores' frequency, such as "performance".
    steal: share of the cores' working time that a hypervisor gave to others. busy: share of all
    time of the cores that other processes took. throttled: events of thermal throttling. pinned:
    kept to as many cores as threads.
    """

    load: float | None
    governor: str | None
    steal: float | None
    busy: float | None
    throttled: int | None
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How good a network is on n images, 0..1; low..high is a 95 % interval.

    top-1: the share of images it names rightly, `correct` of them, with Wilson's interval. mIoU:
    the mean over the classes of intersection over union, in pixels. mAP: COCO's mean average
    precision. These two with the bootstrap's interval, over images.
    """

    value: Annotated[float, Field(validation_alias=AliasChoices("value", "top1"))]
    low: float
    high: float
    correct: int | None = None
    n: int
    metric: Metric = "top-1"

    def reached(self, images: str) -> str:
        """'gets 87.3% of 540 test images right', or the like; images: what they are called."""
        if self.metric == "top-1":
            return f"gets {self.value:.1%} of {self.n} {images} right"
        return f"reaches {self.metric} {self.value:.1%} on {self.n} {images}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One network against its reference on the same images, in pairs.

    drop = reference score minus subject score, with the 95 % interval of the paired difference.
    agreement = share of what both name alike: of the images, of their pixels, or of the boxes.
    largest_difference = max |logit difference|; None: the answers are not logits.
    """

    subject: str
    reference: str
    split: str
    accuracy: Score
    reference_accuracy: Score
    drop: float
    drop_low: float
    drop_high: float
    agreement: float
    largest_difference: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where the figures were measured. `features` are the instruction sets that matter here."""

    cpu: str
    architecture: str
    cores: int
    features: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]
    load: float  # 1-minute load average when the record was made; -1 where unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Accuracy on ImageNet to expect from a network, from the papers' figures."""

    top1: float
    source: Literal["published", "interpolated", "extrapolated"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One network x runtime x precision, exported untrained and measured.

    latency: on this machine, or by the table of a target (`Latency.is_by_table`).
    """

    network: str  # label, e.g. "mobilenet_v3_small x0.75 @96"
    name: str
    width: float
    resolution: int
    runtime: str
    precision: Precision
    macs: int
    parameters: int
    size_bytes: int
    latency: Latency
    prior: Prior
    fits: bool
    chosen: bool = False  # the one that was trained and shipped
    peak_bytes: int | None = None  # as in `Variant`; None: not measured


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
class Variant:
    """The trained network in one runtime x precision, after its gate.

    latency: on this machine. peak_bytes: the most resident memory that a process took to load the
    file as shipped and run it, beyond an empty session of the runtime; the highest of several
    processes; None: not measured. target: where a table of another device was given, the latency
    that the budget is held against.
    """

    runtime: str
    precision: Precision
    size_bytes: int
    latency: Latency
    comparison: (
        Comparison | None
    )  # with the float network on val; None for the float network itself
    within_budget: bool
    passed_gate: bool
    shipped: bool = False
    peak_bytes: int | None = None
    target: Latency | None = None

    @property
    def budgeted(self) -> Latency:
        """The latency that the budget is held against."""
        return self.latency if self.target is None else self.target


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerWork:
    """Convolutions and matrix products of a file that run in integers, as the runtime executes it.

    layers: how many do, `of` how many. share: of their multiply-accumulates, 0..1.
    """

    layers: int
    of: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """What lies in model/.

    files: name -> SHA-256. options: those the session was opened with, as the runtime states them.
    """

    runtime: str
    precision: Precision
    threads: int
    options: dict[str, str]
    files: dict[str, str]
    size_bytes: int
    integers: IntegerWork | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizedLayer:
    """A convolution or matrix product of an INT8 file, and what its integers cost.

    name: as in the network's state dict, such as "blocks.3.expand.conv". operator: "conv 1x1",
    "depthwise 3x3", "linear". low..high: of its input, with `ranges`, the method that set it.
    weight_spread: the largest scale of its channels over the smallest. sqnr_db: signal over
    quantization noise of its output inside the INT8 network. alone: when nothing else is in
    integers: the same of the logits, and what it loses on labelled images; None: not asked for.
    """

    name: str
    operator: str
    macs_share: float  # of the network's products, 0..1
    low: float
    high: float
    ranges: str
    weight_spread: float
    in_integers: bool
    sqnr_db: float
    alone_sqnr_db: float | None = None
    alone: Comparison | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One file that the gate of INT8 looked at: what was done, what it lost, and what it takes.

    kind: "post-training", "layers in float", "after training", "float". latency None: it failed its
    gate before it was timed. float_layers: names of those left in float.
    """

    kind: str
    comparison: Comparison | None
    latency: Latency | None
    size_bytes: int
    passed: bool
    seconds: float
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """How a network became INT8 on one runtime, layer by layer, and how its gate was passed.

    judged_by: "labels": the loss of top-1; "agreement": images without labels, the share of them on
    which both name the same class. ranges: tensors by the method that set their range.
    """

    runtime: str
    sentence: str  # what was shipped and why
    judged_by: Literal["labels", "agreement"]
    max_drop_points: float
    images: int  # calibrated on
    weight_bits: int
    ranges: dict[str, int]
    equalised_pairs: int
    filled_widths: int
    corrected_biases: int
    guarded_channels: int
    layers: tuple[QuantizedLayer, ...]
    rungs: tuple[Rung, ...]


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
class LayerTime:
    """What one operator of the shipped file takes, by the runtime's own profile."""

    name: str
    operator: str
    median_ms: float
    share: float  # of all operators


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """Images whose highest probability lies in one tenth of 0..1."""

    confidence: float  # mean of the highest probability
    top1: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Whether probabilities mean what they say, on `split`; the temperature is fitted on val.

    ece: expected calibration error, 0..1; ece_scaled: with logits divided by the temperature.
    """

    split: str
    temperature: float
    ece: float
    ece_scaled: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One image of the headline split that the shipped file names wrongly.

    probability: of the class it names. thumbnail: a small JPEG, base64.
    """

    path: str
    true: str
    named: str
    probability: float
    thumbnail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedImage:
    """One image of the headline split and what the shipped file says of its pixels.

    picture: the image, its mask and the answer side by side, a JPEG, base64.
    """

    path: str
    miou: float
    picture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationFigures:
    """What the shipped file says of pixels, on the headline split; `Record.confusion` counts them.

    class_ious: 0..1; None of a class that occurs neither in masks nor in answers. images: the worst
    first.
    """

    pixel_accuracy: float
    class_ious: tuple[float | None, ...]
    images: tuple[SegmentedImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedImage:
    """One image of the headline split and what the shipped file finds in it.

    objects: to be found; found: boxes with a score of 0.3 or more. picture: the image with the
    objects in white and what was found in colours, a JPEG, base64.
    """

    path: str
    objects: int
    found: int
    picture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionFigures:
    """COCO's figures of the shipped file on the headline split; None where there is no such object.

    class_aps, class_ap50s: of each class. recall: of at most 100 boxes a class and image.
    precisions: of each class at IoU 0.5, at the recalls 0, 0.01 .. 1; empty without objects.
    images: those with most boxes too many or too few first.
    """

    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    class_aps: tuple[float | None, ...]
    class_ap50s: tuple[float | None, ...]
    recall: float | None
    precisions: tuple[tuple[float, ...], ...]
    images: tuple[DetectedImage, ...]


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
class NarrowingProposal:
    """One width made narrower. latency_ms: of the whole network then, by a table of its blocks.

    accuracy: expected, 0..1, of training images that were held out, after a short fine-tuning.
    """

    group: str
    width: int
    latency_ms: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowingStep:
    """One step of NetAdapt. chosen: the group that was narrowed; empty for the seed itself.

    latency_ms: of an untrained file of the whole network, measured behind the step.
    """

    chosen: str
    latency_ms: float
    accuracy: float
    proposals: tuple[NarrowingProposal, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Narrowing:
    """How NetAdapt made a network as fast as asked; the first of the steps is the seed.

    target: the device whose table all latencies are by, as `OnTarget.table`; empty: this machine.
    metric: what is expected of the steps and proposals: accuracy, mIoU or mAP.
    """

    seed: str
    runtime: str
    precision: Precision
    threads: int
    target_ms: float
    steps: tuple[NarrowingStep, ...]
    target: str = ""
    metric: Metric = "top-1"


Sampling = Literal["evolution", "random", "rl"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedNetwork:
    """A member of a search space, scored with the weights that all members share.

    described: its choices in words. latency_ms: by a table of its blocks. accuracy: expected, 0..1,
    of training images that were held out.
    """

    origin: Sampling
    described: str
    resolution: int
    latency_ms: float
    size_bytes: int  # of its weights in float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to a network, given the same time and data as the others, to the file it would ship.

    name: "search", "multipliers", "published". accuracy: of the file on val, by which the best is
    chosen; None with latency and size: it came to nothing, and `note` says why.
    """

    name: str
    network: str
    latency: Latency | None
    size_bytes: int | None
    accuracy: Score | None
    seconds: float
    shipped: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How an architecture was searched for, and what the same time gave otherwise.

    members: of the space. limit_ms: hard, of the networks that were scored. sentence: whether the
    search was worth its time.
    """

    space: str
    members: int
    method: Sampling
    runtime: str
    precision: Precision
    threads: int
    limit_ms: float
    supernet_steps: int
    held_out: int
    scored: tuple[SearchedNetwork, ...]
    arms: tuple[Arm, ...]
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
