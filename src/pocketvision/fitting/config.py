"""What the main job is asked to do, and the state it saves to go on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pocketvision.budget import Budget
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ConfigError, choice, in_range, is_text
from pocketvision.models.networks import AnySpec
from pocketvision.models.registry import find_models
from pocketvision.record.files import Quantization, Tried
from pocketvision.record.run import Step
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.timing import Conditions, Latency
from pocketvision.record.words import Finding, Precision, TaskName
from pocketvision.runtimes.registry import RUNTIMES
from pocketvision.runtimes.runtime import MAX_THREADS
from pocketvision.train.config import Accelerator, TrainConfig

HeadName = Literal["lr_aspp", "r_aspp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """One run of the main job. Empty tuples mean: the planner chooses.

    Raises: ConfigError: a field outside its range.
    """

    data: str
    task: TaskName = "classify"
    budget: Budget = field(default_factory=Budget)
    models: tuple[str, ...] = ()  # name patterns
    widths: tuple[float, ...] = ()
    resolutions: tuple[int, ...] = ()  # pixels
    runtimes: tuple[str, ...] = ()  # names; default: every runtime that is installed
    precisions: tuple[str, ...] = ()
    threads: int = 1
    max_drop_points: float = 1.0  # of the score on val, float network to exported file
    weights: str | None = None  # file, folder, address or published name to fine-tune from
    teacher: str | None = None  # folder of a network whose answers are half of what is learned
    timed_within: bool = False  # its network was timed whole, within the latency, before the run
    epochs: int | None = None  # None: as many as the time allows
    batch_size: int | None = None  # None: as many as the task usually takes
    learning_rate: float | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    class_weights: bool = False
    tensorboard: bool = False
    accelerator: Accelerator = "auto"
    devices: int = 1  # of each node
    nodes: int = 1
    skip_bad: bool = False
    nms: Literal["outside", "inside"] = "outside"  # of detection: where boxes are selected
    head: HeadName | None = None  # of segmentation; None: LR-ASPP, or that of the weights
    void: tuple[int, ...] = ()  # of segmentation: values of masks that are no class, beside 255
    only: str | None = None  # clean list, as `doctor --fix` writes: other images are left out
    target: str | None = None  # latency table of a device, that of the budget
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("data", "weights", "teacher", "only", "target"):
            is_text(name, getattr(self, name))
        self.budget.check_target(self.target)
        self._check_task()
        for pattern in self.models:
            find_models(pattern)
        for name in self.runtimes:
            choice("runtime", name, RUNTIMES)
        for precision in self.precisions:
            choice("precision", precision, get_args(Precision))
        in_range("threads", self.threads, 1, MAX_THREADS)
        if self.batch_size is not None:
            in_range("batch-size", self.batch_size, 2, 65_536)
        in_range("devices", self.devices, 1, 1024)
        in_range("nodes", self.nodes, 1, 4096)
        if self.epochs is not None:
            in_range("epochs", self.epochs, 1, 100_000)
        if self.learning_rate is not None:
            in_range("learning-rate", self.learning_rate, 1e-8, 100.0)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        in_range("seed", self.seed, 0, 2**31 - 1)
        for width in self.widths:
            in_range("width", width, 0.1, 4.0)
        for resolution in self.resolutions:
            in_range("resolution", resolution, 32, 1024)

    def _check_task(self) -> None:
        """Raises: ConfigError: an unknown task, or options that it has no meaning for."""
        choice("task", self.task, get_args(TaskName))
        if self.void and self.task != "segment":
            raise ConfigError(
                f"void={self.void} is of masks; leave it away with task={self.task!r}."
            )
        if self.head is not None:
            choice("head", self.head, get_args(HeadName))
            if self.task != "segment":
                raise ConfigError(
                    f"head={self.head!r} is of segmentation; leave it away with task={self.task!r}."
                )
        choice("nms", self.nms, ("outside", "inside"))
        if self.nms == "inside" and self.task != "detect":
            raise ConfigError(
                f"nms={self.nms!r} is of boxes; leave it away with task={self.task!r}."
            )
        if self.target is not None and self.nms == "inside":
            raise ConfigError(
                f"nms='inside' is not in the latencies of target={self.target!r}; leave one of "
                "both away."
            )
        if self.class_weights and self.task == "detect":
            raise ConfigError(
                "class_weights=True has no meaning with task='detect', whose loss weighs objects "
                "against background alone; leave it away."
            )
        mixed = max(self.augmentation.mixup, self.augmentation.cutmix)
        if mixed > 0 and self.task != "classify":
            raise ConfigError(
                f"Images of task={self.task!r} cannot be mixed; leave mixup and cutmix at 0."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """One file of the trained network and what is known of it so far; None: not yet measured.

    path: in candidates/, POSIX form. hashes: name -> SHA-256 of everything that ships with it.
    """

    runtime: str
    precision: Precision
    path: str
    hashes: dict[str, str]
    comparison: Comparison | None = None  # with the float network on val
    latency: Latency | None = None
    peak_bytes: int | None = None

    @property
    def named(self) -> str:
        """'int8 on onnxruntime'."""
        return f"{self.precision} on {self.runtime}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """run.json: the frozen plan, and how far the run has come."""

    status: Literal["unfinished", "done", "failed"]
    config: FitConfig
    command: str
    created: str  # ISO 8601, UTC
    versions: dict[str, str]
    fingerprint: str
    headline_hashes: tuple[str, ...]  # content of the images that carry the headline figure
    tried: tuple[Tried, ...]
    ranking: tuple[AnySpec, ...]  # within the budget, best prior first
    attempt: int = 0  # position in `ranking` of the network being trained
    train: TrainConfig | None = None  # frozen before the first step
    train_forecast_s: float | None = None  # of all its epochs; None: no limit of time
    steps: tuple[Step, ...] = ()  # finished ones
    spent_s: float = 0.0  # wall clock of earlier, interrupted parts of this run
    trained: bool = False  # network.safetensors holds the trained network
    start: str = "from scratch"
    findings: tuple[Finding, ...] = ()  # of the data
    alarms: tuple[Finding, ...] = ()  # of the training
    train_score: Score | None = None  # the trained network on training images
    val_score: Score | None = None
    files: tuple[FileState, ...] = ()  # of the trained network
    quantization: Quantization | None = None  # of the INT8 file of ONNX Runtime
    conditions: Conditions | None = None  # while the files were timed
    runtimes: tuple[str, ...] = ()  # names of those that are used, asked for or installed then
    seal: dict[str, str] = field(default_factory=dict)  # name -> SHA-256, when the run was done
    target_sha256: str = ""  # of the content of config.target
    too_slow: bool = False  # it failed by a latency alone, and the plan's was within the budget


def fit_augmentation(
    *, flip: bool, mixup: float, cutmix: float, min_scale: float | None
) -> Augmentation:
    """The default augmentation with the settings that matter most replaced.

    Raises: ConfigError: a value outside its range.
    """
    default = Augmentation()
    return replace(
        default,
        flip=default.flip if flip else 0.0,
        mixup=mixup,
        cutmix=cutmix,
        min_scale=default.min_scale if min_scale is None else min_scale,
    )
