"""What the main job on a scene is asked to do, and the state it saves to go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from pocketvision.budget import Budget
from pocketvision.errors import ConfigError, at_least, choice, in_range, is_text
from pocketvision.models.patch import PatchSpec, check_window
from pocketvision.record.run import Step
from pocketvision.runtimes.runtime import MAX_THREADS
from pocketvision.scene_record import Curve, MethodRun
from pocketvision.train.config import Accelerator
from pocketvision.train.scene_config import SceneTrainConfig, Training

SplitKind = Literal["blocks", "random", "given"]
Guard = Literal["centre", "full"]
Bands = Literal["pca", "standardise", "select"]
AttentionName = Literal["se", "cbam"]

NETWORKS = ("hybridsn", "mobile_patch")
METHODS = (*NETWORKS, "svm")
PRECISIONS = ("f32", "int8")
COMPONENTS = 30  # of PCA, where the scene has as many bands


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneConfig:
    """One run of the main job on a scene.

    methods: what is trained and compared; the first network of them that the budget allows is
    shipped; empty: all that the scene has bands and pixels enough for. window: pixels, None: 25, or
    that of `weights`. components: bands after reduction; None: 30, or that of `weights`.
    train_share, or train_per_class: of the labelled pixels; neither for a given split, whose `mask`
    names a file of 1 train, 2 test, 0 neither. repeats: splits and trainings, with seeds seed, seed
    + 1, ... steps: of each training; None: what the time allows. narrowed: a folder with a narrower
    form of the network of `weights`, to train in its place; that one is its teacher. target: the
    latency table of a device, which the budget is held against, in its precision and threads.

    Raises: ConfigError: a field outside its range.
    """

    data: str
    labels: str | None = None
    no_data: float | None = None
    budget: Budget = field(default_factory=Budget)
    methods: tuple[str, ...] = ()
    attention: AttentionName | None = None
    window: int | None = None
    bands: Bands = "pca"
    whiten: bool = True
    components: int | None = None
    split: SplitKind = "blocks"
    guard: Guard = "centre"
    train_share: float = 0.3
    train_per_class: int | None = None
    mask: str | None = None
    repeats: int = 1
    training: Training = "dense"
    steps: int | None = None
    learning_rate: float | None = None
    weights: str | None = None  # a folder that `fit` wrote for another scene
    narrowed: str | None = None
    precisions: tuple[str, ...] = PRECISIONS
    threads: int = 1
    target: str | None = None
    max_drop_points: float = 1.0  # of OA on training pixels, float network to exported file
    accelerator: Accelerator = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("data", "labels", "mask", "weights", "narrowed", "target"):
            is_text(name, getattr(self, name))
        self.budget.check_target(self.target)
        for method in self.methods:
            choice("model", method, METHODS)
        if len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"models={list(self.methods)} names one twice; name each once.")
        if not self.networks:
            raise ConfigError(
                f"models={list(self.methods)} holds no network to ship; add one of "
                f"{list(NETWORKS)}."
            )
        if self.attention is not None:
            choice("attention", self.attention, get_args(AttentionName))
        if self.window is not None:
            check_window(self.window)
        choice("bands", self.bands, get_args(Bands))
        if not self.whiten and self.bands != "pca":
            raise ConfigError(f"--no-whiten goes with --bands pca; got --bands {self.bands}.")
        if self.components is not None:
            at_least("components", self.components, 1)
        choice("split", self.split, get_args(SplitKind))
        choice("guard", self.guard, get_args(Guard))
        if self.guard == "full" and self.split != "blocks":
            raise ConfigError(f"--guard goes with --split blocks; got --split {self.split}.")
        in_range("train-share", self.train_share, 0.001, 0.99)
        if self.train_per_class is not None:
            at_least("train-per-class", self.train_per_class, 1)
            if self.split != "random":
                raise ConfigError(
                    f"train-per-class goes with --split random; got --split {self.split}."
                )
        if (self.mask is None) == (self.split == "given"):
            raise ConfigError(
                "--split given and --mask FILE go together: a file of the labels' shape with 1 "
                "for training pixels, 2 for test pixels, 0 for neither."
            )
        in_range("repeats", self.repeats, 1, 1000)
        if self.split == "given" and self.repeats > 1:
            raise ConfigError("a given split is one split; leave --repeats away.")
        choice("training", self.training, get_args(Training))
        if self.steps is not None:
            in_range("steps", self.steps, 1, 10_000_000)
        if self.learning_rate is not None:
            in_range("learning-rate", self.learning_rate, 1e-8, 10.0)
        if not self.precisions:
            raise ConfigError("precisions is empty; expected f32, int8 or both.")
        for precision in self.precisions:
            choice("precision", precision, PRECISIONS)
        in_range("threads", self.threads, 1, MAX_THREADS)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        in_range("seed", self.seed, 0, 2**31 - 1)
        if self.budget.memory_bytes is not None:
            raise ConfigError(
                "--memory is not kept for scenes: maps run tile by tile, so memory follows the "
                "tile and not the network; use --size and --latency."
            )

    @property
    def networks(self) -> tuple[str, ...]:
        """The methods that are networks, in the order asked."""
        return tuple(method for method in self.methods or METHODS if method in NETWORKS)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each split and its trainings."""
        return tuple(self.seed + repeat for repeat in range(self.repeats))


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What a run should take, in seconds, as planned.

    train_s: by method, one training; of networks alone. map_s: by method, one map of the whole
    scene; with the training where it has none in train_s. finish_s: files, gates, timing and the
    map by the shipped file.
    """

    train_s: dict[str, float]
    map_s: dict[str, float]
    finish_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneState:
    """run.json: the frozen plan, and how far the run has come.

    split_sha256: of all training and test pixels. seen: the SHA-256 of every cube that the weights
    have learned from, and that of the split. spec: of the network to ship. train: by method, the
    training frozen before the first step. costs: what the run should take.
    """

    task: Literal["hyperspectral"]
    status: Literal["unfinished", "done", "failed"]
    config: SceneConfig
    command: str
    created: str  # ISO 8601, UTC
    versions: dict[str, str]
    fingerprint: str
    split_sha256: str
    cube_sha256: str
    seen: dict[str, str]
    spec: PatchSpec
    train: dict[str, SceneTrainConfig]
    costs: Costs
    start: str
    runs: tuple[MethodRun, ...] = ()
    curves: tuple[Curve, ...] = ()  # of the network to ship
    steps: tuple[Step, ...] = ()
    spent_s: float = 0.0
    seal: dict[str, str] = field(default_factory=dict)  # name -> SHA-256, when the run was done
    target_sha256: str = ""  # of the content of config.target
