"""What a run will take: time, disk, and which candidate can be trained for how many epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pocketvision.budget import Budget, format_size, format_time
from pocketvision.data.cache import store_bytes
from pocketvision.data.images import Samples
from pocketvision.errors import BudgetError
from pocketvision.fitting.candidates import Candidate
from pocketvision.fitting.plan import (
    MEMORY_SECONDS_PER_CANDIDATE,
    SECONDS_PER_CANDIDATE,
    chosen_precisions,
)
from pocketvision.runtimes.runtime import Runtime
from pocketvision.train.batches import num_batches

DEFAULT_EPOCHS = 40
MAX_EPOCHS = 500
MIN_EPOCHS_FROM_SCRATCH = 30
MIN_EPOCHS_FINE_TUNING = 5
TRAINING_MARGIN = 0.95  # share of the remaining time that is planned; the rest absorbs noise
OVERHEAD_PER_STEP_S = 0.006  # averaging, logging and progress
OVERHEAD_PER_EPOCH_S = 0.15  # the checkpoint, and starting over
MAX_PROBES = 5
PAGES_BYTES = 10_000_000  # report, card, record, learning curves

UNTIMED_S = 0.004  # decoding an image, where none was timed
UNMEASURED_S = 0.003  # one image through all files, where none was measured
# After the training; set from the steps that runs on the recipes' machine recorded. Those with a
# scale are for few pixels, and again for every 96 x 96.
_VERIFY_S = 0.002  # per image, read and through the float network; scaled
_QUANTIZE_S = 6.0  # per runtime; scaled
_MEASURE_S = 13.0  # per runtime
_MEMORY_S = 3.0  # per runtime
_EXPORT_S = 9.0
_PAGES_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """How many images each phase sees, and whether training starts from weights.

    stored: images in the pixel cache; undecoded: of them, not there yet. streamed: why they are
    decoded anew every epoch instead; empty: they are not. decoding_s: of one image. resolution: of
    the network, or the largest there may be. runtimes: how many the files are made for. quantized:
    how many of them get an INT8 file. files_s: one image through all files. ratios: step -> what it
    takes on this machine, in seconds of the constants above; one that is not there takes those.
    """

    stored: int
    undecoded: int
    train: int
    val: int
    headline: int
    runtimes: int
    quantized: int
    resolution: int
    batch_size: int
    fine_tuning: bool
    streamed: str = ""
    decoding_s: float = UNTIMED_S
    files_s: float = UNMEASURED_S
    ratios: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fine_tuning_of(
        cls,
        samples: Samples,
        *,
        resolution: int,
        runtimes: Sequence[Runtime],
        precisions: tuple[str, ...],
        batch_size: int,
        ratios: Mapping[str, float],
    ) -> Workload:
        """Fine-tuning one network on images that fit the cache, and shipping it."""
        return cls(
            stored=len(samples),
            undecoded=len(samples),
            train=len(samples.indices("train")),
            val=len(samples.indices("val")),
            headline=len(samples.indices(samples.headline_split)),
            runtimes=len(runtimes),
            quantized=count_quantized(runtimes, precisions),
            resolution=resolution,
            batch_size=batch_size,
            fine_tuning=True,
            ratios=ratios,
        )

    @property
    def min_epochs(self) -> int:
        return MIN_EPOCHS_FINE_TUNING if self.fine_tuning else MIN_EPOCHS_FROM_SCRATCH

    @property
    def finishing_s(self) -> dict[str, float]:
        """Each step after the training, by its name."""
        return {name: self.ratios.get(name, 1.0) * s for name, s in self.constant_s.items()}

    @property
    def constant_s(self) -> dict[str, float]:
        """As `finishing_s`, on the recipes' machine."""
        scale = 1 + (self.resolution / 96) ** 2
        each_s = _VERIFY_S * scale + self.files_s
        return {
            "export": _EXPORT_S,
            "quantize": self.quantized * _QUANTIZE_S * scale,
            "gate": each_s * self.val,
            "measure": self.runtimes * (_MEASURE_S + _MEMORY_S),
            "verify": each_s * self.headline,
        }

    @property
    def finish_s(self) -> float:
        """Everything after the training."""
        return sum(self.finishing_s.values()) + _PAGES_S

    @property
    def decode_s(self) -> float:
        """Before the first epoch."""
        return 0.0 if self.streamed else self.decoding_s * self.undecoded

    def epoch_s(self, seconds_per_image: float) -> float:
        """One epoch with its validation, whose images cost about a third of a training step."""
        steps = num_batches(self.train, self.batch_size)
        overhead = OVERHEAD_PER_EPOCH_S + OVERHEAD_PER_STEP_S * steps
        decoding = self.decoding_s * (self.train + self.val) if self.streamed else 0.0
        return seconds_per_image * (self.train + self.val / 3) + decoding + overhead


def count_quantized(runtimes: Sequence[Runtime], precisions: tuple[str, ...]) -> int:
    """How many of the runtimes get an INT8 file. precisions: asked for; empty: all there are."""
    return sum("int8" in chosen_precisions(runtime, precisions) for runtime in runtimes)


def planning_seconds(
    candidates: int, runtimes: list[str], *, memory: bool = False, cost: float = 1.0
) -> float:
    """Rough time to export and measure that many candidates for the first time.

    memory: their peak memory is measured too. cost: of one, beside a classifier.
    """
    each = cost * sum(SECONDS_PER_CANDIDATE[name] for name in runtimes)
    if memory:
        each += sum(MEMORY_SECONDS_PER_CANDIDATE[name] for name in runtimes)
    return candidates * each


def out_bytes(parameters: list[int], runtimes: int) -> int:
    """What the output folder takes at its fullest, with the largest of these networks.

    The network; two checkpoints of four tensors a weight, while one replaces the other; the
    exported file; every runtime's float and INT8 file; model/; and the pages.
    """
    networks = 1 + 2 * 4 + 1 + 1.25 * runtimes + 1
    return round(PAGES_BYTES + 4 * max(parameters) * networks)


def affordable_epochs(workload: Workload, seconds_per_image: float, available_s: float) -> int:
    """Whole epochs that fit into the time with the planning margin; 0 when none does."""
    return max(0, int(TRAINING_MARGIN * available_s / workload.epoch_s(seconds_per_image)))


def first_trainable(
    ranking: list[Candidate],
    workload: Workload,
    available_s: Callable[[], float],
    probe: Callable[[Candidate], float],
) -> tuple[int, int]:
    """The best-ranked candidate that gets enough epochs in the time: its position, its epochs.

    available_s: what is left for training; it shrinks while `probe` measures the seconds per image
    of one candidate. Others are estimated by their MACs, and the choice is probed again. When none
    gets enough epochs, the one that gets most.

    Raises: BudgetError: not one epoch of any candidate fits.
    """
    rates: dict[int, float] = {0: probe(ranking[0])}

    def epochs(position: int) -> int:
        nearest = min(rates, key=lambda known: abs(known - position))
        scale = ranking[position].count.macs / ranking[nearest].count.macs
        return affordable_epochs(workload, rates[nearest] * scale, available_s())

    while len(rates) <= MAX_PROBES:
        enough = (p for p in range(len(ranking)) if epochs(p) >= workload.min_epochs)
        choice = next(enough, max(range(len(ranking)), key=epochs))
        if choice in rates:
            break
        rates[choice] = probe(ranking[choice])
    found, left = epochs(choice), available_s()
    if found == 0:
        needed = workload.epoch_s(rates[choice]) / TRAINING_MARGIN
        raise BudgetError(
            f"The time is too short: {format_time(max(left, 0))} are left for training, "
            f"and one epoch of {ranking[choice].spec.label} takes {format_time(needed)}. "
            f"Ask for {format_time(needed * workload.min_epochs - min(left, 0))} more."
        )
    return choice, found


def forecast_sentence(
    workload: Workload, *, planning_s: float, unknown: int, side: int, budget: Budget
) -> str:
    """The first line of a run: what will happen, how long it should take, and how much disk."""
    finish = workload.finish_s
    disk = format_size(store_bytes(workload.stored, side))
    cache = f"Disk: up to {disk} of pixel cache."
    if not workload.undecoded:
        cache = f"The images are decoded already: {disk} of pixel cache."
    if workload.streamed:
        reason = workload.streamed
        cache = f"{reason[0].upper()}{reason[1:]}: they are decoded anew every epoch."
    measuring = f"measure {unknown} candidates ({format_time(planning_s)})" if unknown else "plan"
    if budget.time_s is None:
        training = f"train for {DEFAULT_EPOCHS} epochs unless --epochs or --time says otherwise"
    else:
        rest = max(0.0, budget.time_s - planning_s - finish - workload.decode_s)
        training = f"train for about {format_time(rest)}"
    return (
        f"Will {measuring}, {training}, then quantize, verify and measure "
        f"({format_time(finish)}). {cache}"
    )
