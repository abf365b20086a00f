"""The schema of every figure measured on a hyperspectral scene: what its report and maps read.

Fractions are 0..1; names carry their unit otherwise.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pocketvision.errors import ConfigError
from pocketvision.record.run import BudgetSummary, Step, Verdict
from pocketvision.record.searched import Narrowing
from pocketvision.record.timing import Latency, Machine, OnTarget
from pocketvision.record.words import Precision

SCENE_SCHEMA_VERSION = 3  # each added what has a default; all are read

Form = Literal["dense", "patch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Overall accuracy (OA), average accuracy over classes (AA) and Cohen's kappa on n pixels.

    per_class: recall of each class; None where it has no pixel among the n.
    """

    overall: float
    average: float
    kappa: float
    per_class: tuple[float | None, ...]
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over n runs; no deviation of a single one."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def over(cls, values: Sequence[float]) -> Spread:
        """Of one value for each run. Raises: ConfigError: no values."""
        if not values:
            raise ConfigError("values holds no run; expected at least one.")
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(mean=statistics.fmean(values), std=deviation, n=len(values))


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """What test windows see of training: both are shares of the test pixels.

    centre: windows that hold the centre of a training window, a pixel whose label was learned.
    window: windows that share at least one pixel with a training window.
    """

    centre: float
    window: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFigures:
    """One split of the labelled pixels; counts are by class. dropped: labelled, but in neither."""

    kind: Literal["blocks", "random", "given"]
    guard: Literal["none", "centre", "full"]
    window: int
    seed: int
    train: tuple[int, ...]
    test: tuple[int, ...]
    dropped: tuple[int, ...]
    leakage: Leakage
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRun:
    """One method trained on one split and scored on its test pixels.

    method: "hybridsn", "mobile_patch" or "svm". training: how. parameters, macs: of a network, for
    one pixel patch by patch; None for others. map_seconds: the whole scene. steps: of its training,
    and steps_asked: those it would have had with time enough; None for others. learned_from:
    training pixels.
    """

    method: str
    training: Literal["dense", "patches", "svm"]
    seed: int
    scores: Scores
    train_seconds: float
    map_seconds: float
    parameters: int | None = None
    macs: int | None = None
    steps: int | None = None
    steps_asked: int | None = None
    learned_from: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFigures:
    """One exported file of the trained network.

    form: "patch" takes windows, "dense" any part of a scene. latency: of one run, `pixels` pixels:
    a tile as maps use it, or a window. pixel_latency: of one pixel from its window.
    agreement, drop, largest_difference: against the float network in PyTorch; agreement over
    `compared` pixels that are not test pixels, drop in OA on the training pixels.
    unlabelled_agreement: on those of them without a label; tile_agreement: on a whole tile, of the
    dense form; None where there is none. target: of one pixel by the table of a device, of which
    the budget is then.
    """

    form: Form
    precision: Precision
    size_bytes: int
    latency: Latency
    pixels: int
    pixel_latency: Latency
    agreement: float
    unlabelled_agreement: float | None
    tile_agreement: float | None
    compared: int
    drop: float
    largest_difference: float
    passed_gate: bool
    within_budget: bool
    shipped: bool = False
    target: Latency | None = None

    @property
    def budgeted(self) -> Latency:
        """What a budget of latency is held against."""
        return self.target or self.pixel_latency


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSummary:
    """The scene as it was read; counts are labelled pixels by class."""

    name: str
    height: int
    width: int
    bands: int
    dtype: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    counts: tuple[int, ...]
    missing: int  # pixels without a measurement
    wavelengths_nm: tuple[float, ...]
    georeferenced: bool
    fingerprint: str
    cube_sha256: str  # of the spectra alone


@dataclass(frozen=True, kw_only=True, slots=True)
class ReductionSummary:
    """How bands were reduced; explained: share of the training pixels' variance, PCA alone."""

    method: Literal["pca", "standardise", "select"]
    whiten: bool
    bands: int
    components: int
    explained: float | None = None
    fitted_on: int = 0  # training pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchNetworkSummary:
    """The shipped network; macs for one pixel, patch by patch and as part of a whole scene."""

    method: str
    label: str
    window: int
    parameters: int
    macs: int
    dense_macs: int
    start: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One point of a learning curve: means over the steps since the point before."""

    step: int
    seconds: float
    learning_rate: float
    loss: float
    accuracy: float  # on the training pixels drawn, while dropout is on


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedScene:
    """What lies in model/. files: name -> SHA-256."""

    form: Form
    precision: Precision
    threads: int
    files: dict[str, str]
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRecord:
    """Everything measured in one run on a scene. `runs` belong to `splits` by their seed."""

    schema_version: int
    task: Literal["hyperspectral"]
    created: str  # ISO 8601, UTC
    command: str
    seed: int
    verdict: Verdict
    budget: BudgetSummary
    scene: SceneSummary
    reduction: ReductionSummary
    network: PatchNetworkSummary
    splits: tuple[SplitFigures, ...]
    runs: tuple[MethodRun, ...]
    headline: Scores  # the shipped file on the test pixels of the first split
    confusion: tuple[tuple[int, ...], ...]  # rows: true class, columns: predicted
    files: tuple[FileFigures, ...]
    shipped: ShippedScene
    map_seconds: float  # the whole scene through the shipped file, reading included
    curves: tuple[Curve, ...]
    steps: tuple[Step, ...]
    machine: Machine
    spent_s: float
    narrowing: Narrowing | None = None  # where NetAdapt made the network
    target: OnTarget | None = None  # one pixel, on the device whose table the budget is for
