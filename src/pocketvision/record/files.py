"""The files that were tried, made and shipped, and how they came to integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketvision.record.scores import Comparison
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision


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
