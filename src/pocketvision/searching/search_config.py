"""What `search` is asked for, and what it saves to go on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from pocketvision.budget import Budget
from pocketvision.compress.evolution import Objective
from pocketvision.compress.sampling import REWARD_EXPONENT
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ConfigError, choice, in_range, is_text
from pocketvision.fitting.training import FINE_TUNING_RATE
from pocketvision.models.arch import ArchSpec
from pocketvision.models.space import Member, SearchSpace
from pocketvision.record.searched import Arm
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision, Sampling
from pocketvision.runtimes.registry import RUNTIMES
from pocketvision.runtimes.runtime import MAX_THREADS
from pocketvision.train.config import Accelerator, TrainConfig
from pocketvision.workers.pool import Workers

Method = Literal["evolution", "rl", "work"]
Baselines = Literal["all", "multipliers", "none"]

# The arms of a search, in their order.
SEARCH, RANDOM, MULTIPLIERS, PUBLISHED = "search", "random", "multipliers", "published"
SHARING = (SEARCH, RANDOM)  # one supernet and its scores, which each counts as its own time
OF_SHARED_WEIGHTS = ("supernet_steps", "evaluations", "workers")  # options
LEAST_EPOCHS = 2  # of the supernet; below, its members tell nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """One search and what comes after it.

    budget: with a latency. space: a name, or a TOML file; None: that of the network which ranks
    first among those with plain multipliers, at its multiplier and resolution. resolutions: None
    for those of a space that was given. runtime, precision: what the latency is of; None: the
    fastest. target: latency table of a device, whose runtime, precision and threads these are then.
    members: that learn in a step of the supernet, the largest and smallest included. method: what
    members are scored next; "rl" is run beside evolution; "work": none is scored, and no supernet
    trained: what does most multiply-accumulates within the latency is found. supernet_steps,
    evaluations (of each way to search), epochs (of each fine-tuning): None: what the time allows.
    least_epochs: of the supernet; a time that holds fewer is too short. It is no part of what a
    search is: one that was begun goes on with another.
    multiple: of all channels, what the device likes; None: as the space has it.
    workers: local processes that score, or "ray"; None: this process. weights: of a network that is
    a member, or a published name, to begin with. accelerator, devices, nodes: of trainings, as of
    `FitConfig`; the supernet is on one device of node 0, and scores are made on the CPU there.

    Raises: ConfigError: a field outside its range, a budget without a latency, what is for shared
    weights and their scores where there are none.
    """

    data: str
    budget: Budget
    space: str | None = None
    resolutions: tuple[int, ...] = ()
    runtime: str | None = None
    precision: Precision | None = None
    threads: int = 1
    target: str | None = None
    method: Method = "evolution"
    objective: Objective = "accuracy"
    exponent: float = REWARD_EXPONENT
    members: int = 3
    supernet_steps: int | None = None
    least_epochs: int = field(default=LEAST_EPOCHS, compare=False)
    evaluations: int | None = None
    generation: int = 16
    netadapt: bool = True
    multiple: int | None = None
    baselines: Baselines = "all"
    weights: str | None = None
    epochs: int | None = None
    batch_size: int = 64
    augmentation: Augmentation = field(default_factory=Augmentation)
    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    max_drop_points: float = 1.0
    workers: Workers = None
    skip_bad: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("data", "weights", "space", "target"):
            is_text(name, getattr(self, name))
        if self.budget.latency_ms is None:
            raise ConfigError("A search needs a budget of latency; give --latency, such as 3ms.")
        if self.runtime is not None:
            choice("runtime", self.runtime, RUNTIMES)
        if self.precision is not None:
            choice("precision", self.precision, get_args(Precision))
        choice("method", self.method, get_args(Method))
        choice("objective", self.objective, get_args(Objective))
        choice("baselines", self.baselines, get_args(Baselines))
        in_range("threads", self.threads, 1, MAX_THREADS)
        in_range("exponent", self.exponent, -1.0, 0.0)
        in_range("members", self.members, 2, 64)
        in_range("generation", self.generation, 2, 10_000)
        for name in ("supernet_steps", "evaluations", "epochs"):
            if getattr(self, name) is not None:
                in_range(name.replace("_", "-"), getattr(self, name), 1, 10_000_000)
        if self.multiple is not None:
            in_range("multiple", self.multiple, 1, 256)
        for resolution in self.resolutions:
            in_range("resolution", resolution, 32, 1024)
        in_range("batch-size", self.batch_size, 2, 65_536)
        choice("accelerator", self.accelerator, get_args(Accelerator))
        in_range("devices", self.devices, 1, 1024)
        in_range("nodes", self.nodes, 1, 4096)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        if isinstance(self.workers, int):
            in_range("workers", self.workers, 1, 1024)
        in_range("seed", self.seed, 0, 2**31 - 1)
        if self.by_work:
            self._refuse_shared_weights()

    def _refuse_shared_weights(self) -> None:
        """Raises: ConfigError: an option of a supernet, or of what is scored with it."""
        asked = [name for name in OF_SHARED_WEIGHTS if getattr(self, name) is not None]
        asked += ["objective"] if self.objective != "accuracy" else []
        if asked:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise ConfigError(
                f"--method work trains no supernet and scores nothing; leave {names} away, or "
                "search by evolution."
            )

    @property
    def by_work(self) -> bool:
        """Whether nothing is trained before the network is found."""
        return self.method == "work"

    @property
    def learning_rate(self) -> float:
        """Of the shared weights, and of what is found, which begins with them."""
        return TrainConfig().learning_rate if self.weights is None else FINE_TUNING_RATE

    @property
    def latency_ms(self) -> float:
        """The latency asked for."""
        assert self.budget.latency_ms is not None
        return self.budget.latency_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPlan:
    """What the time is spent on, decided when the search begins, and kept.

    before_s: of the search's arm, spent before it. supernet_s, scoring_s: that both will take.
    judging_s: of one score, with all workers at work.
    evaluations: of each way to search. arm_s: for each arm, made even when what was found is known;
    None: without a limit.
    """

    before_s: float
    supernet_steps: int
    supernet_s: float
    scoring_s: float
    evaluations: int
    generation: int
    netadapt: bool
    arm_s: float | None
    judging_s: float = 0.0

    @property
    def generations(self) -> int:
        """Of each way to search."""
        return -(-self.evaluations // self.generation)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedScore:
    """One line of scored.jsonl."""

    origin: Sampling
    generation: int
    member: Member
    latency_ms: float
    size_bytes: int
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """A member that was timed whole. accuracy: expected, 0..1; 0: nothing was scored.

    origin: the way to search that asked for it. timed_in: the generation behind which it was timed;
    those timed behind all of them have the number of generations. size_bytes, peak_bytes: of its
    file, where the budget limits them.
    """

    member: Member
    latency: Latency
    accuracy: float
    origin: Sampling = "evolution"
    timed_in: int = 0
    size_bytes: int | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchState:
    """search.json: how far the search has come.

    runtime, precision: what the latency is of. scale: of the table. limit_ms: of members by the
    table. threads, accelerator: of training and scoring, on which the bits of the weights depend.
    multiplied: the network with a plain multiplier to compare with; None: there is none. published:
    that of the arm of that name; None: there is none, or it is that of the multipliers. drawn:
    what random search found, with an arm of its own; None: not known yet, or it has none.
    """

    config: SearchConfig
    fingerprint: str
    space: SearchSpace
    runtime: str
    precision: Precision
    scale: float
    limit_ms: float
    threads: int
    plan: SearchPlan
    accelerator: Accelerator = "cpu"
    multiplied: ArchSpec | None = None
    published: ArchSpec | None = None
    steps_made: int = 0  # of the supernet; 0: it is not trained yet
    lowered: bool = False  # the learning rate of the supernet, which diverged once
    lost_s: float = 0.0  # to that
    search_s: float = 0.0  # spent on the arm of the search before its fine-tuning
    finalists: tuple[Finalist, ...] = ()
    found: Finalist | None = None
    drawn: Finalist | None = None
    arms: tuple[Arm, ...] = ()
    arm_begun_s: float = 0.0  # what was spent when the arm under way began
    spent_s: float = 0.0
    target_sha256: str = ""  # of the content of config.target

    @property
    def arm_names(self) -> tuple[str, ...]:
        """The arms there are, as far as is known, in their order."""
        there = {
            SEARCH: True,
            RANDOM: self.drawn is not None,
            MULTIPLIERS: self.config.baselines != "none" and self.multiplied is not None,
            PUBLISHED: self.published is not None,
        }
        return tuple(name for name, is_there in there.items() if is_there)
