"""The gate of INT8, rung by rung: integers, fewer integers, training for integers, float.

A rung is climbed only where those before it lose too much. Whoever climbs it times what passes and
takes the fastest, float included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pocketvision.compress.layers import alone, culprits, quantized_layers
from pocketvision.compress.verdict import judgement, verdict
from pocketvision.cpu import cpu
from pocketvision.measure.accuracy import LabelJudge, loses_at_most
from pocketvision.measure.judge import Judge
from pocketvision.progress import Advance, counted
from pocketvision.record.files import Quantization, QuantizedLayer, Rung
from pocketvision.record.scores import Comparison
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.int8.static import (
    Quantized,
    static_int8,
    with_float_layers,
)
from pocketvision.runtimes.onnxfile import write_model
from pocketvision.runtimes.onnxruntime import BATCH_PIXELS, OnnxRuntime, in_batches
from pocketvision.runtimes.registry import BATCH, file_answers
from pocketvision.runtimes.runtime import Answers, Int8Config, Pixels
from pocketvision.train.alarms import Diverged

RUNTIME = OnnxRuntime()
EXPLAINING = 256  # judged images that each layer is tried on alone
# What `train.quantization_aware` rounds by; anything more would undo what was learned.
TRAINED_FOR = Int8Config(ranges="mse", equalise=False, round_weights=False, correct_biases=False)

Say = Callable[[str], None]
Progress = Callable[[str], AbstractContextManager[Advance]]
Train = Callable[[], Path]  # trains for integers; gives the new float file


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """A float ONNX file of ours, and the images it is calibrated and judged on.

    judge: of the judged images; None: the classes that the float file names stand for their labels,
    and agreement is judged. max_drop_points: of the judge's score, or of agreement.
    """

    float_onnx: Path
    calibration: Pixels
    judged: Pixels
    judge: Judge | None
    max_drop_points: float
    threads: int = 1
    split: str = "val"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Climbed:
    """The files of ONNX Runtime that were tried, by path, the float file first.

    first: the network as the first rung quantized it. layers: what its integers cost.
    """

    subject: Subject
    rungs: dict[Path, Rung]
    first: Quantized
    layers: tuple[QuantizedLayer, ...]

    @property
    def passing(self) -> Path:
        """The last file in integers if it passes, else the float file."""
        path = list(self.rungs)[-1]
        return path if self.rungs[path].passed else self.subject.float_onnx

    @property
    def fastest(self) -> Path:
        """Of the files that pass; after `timed`."""
        timed = {p: r.latency.median_ms for p, r in self.rungs.items() if r.passed and r.latency}
        return min(timed, key=lambda path: timed[path])

    def timed(self, latencies: Mapping[Path, Latency]) -> Climbed:
        """The same with what each file takes."""
        rungs = {p: replace(r, latency=latencies[p]) for p, r in self.rungs.items()}
        return replace(self, rungs=rungs)

    def quantization(self, chosen: Path) -> Quantization:
        """What is recorded, if `chosen` is what became of it."""
        subject, first, rungs = self.subject, self.first, list(self.rungs.values())
        in_float = set(self.rungs[chosen].float_layers)
        tell = verdict if self.rungs[subject.float_onnx].latency else judgement
        labelled = subject.judge is not None
        return Quantization(
            runtime=RUNTIME.name,
            sentence=tell(
                rungs,
                self.rungs[chosen],
                lost="agreement" if subject.judge is None else subject.judge.metric,
                max_drop_points=subject.max_drop_points,
            ),
            judged_by="labels" if labelled else "agreement",
            max_drop_points=subject.max_drop_points,
            images=len(subject.calibration),
            weight_bits=cpu().weight_bits,
            ranges=first.methods,
            equalised_pairs=first.pairs,
            filled_widths=first.widths,
            corrected_biases=first.corrected,
            guarded_channels=first.guarded,
            layers=tuple(
                replace(layer, in_integers=layer.in_integers and layer.name not in in_float)
                for layer in self.layers
            ),
            rungs=tuple(rungs),
        )


@contextmanager
def _unseen(title: str) -> Iterator[Advance]:
    yield lambda done, total, note: None


def climb(
    subject: Subject,
    folder: Path,
    *,
    config: Int8Config | None = None,
    train: Train | None = None,
    explain: bool = True,
    say: Say = lambda sentence: None,
    progress: Progress = _unseen,
) -> Climbed:
    """Quantize and judge until a file passes; the float file is the last rung. Nothing is timed.

    folder: takes the files. train: the rung of training; None leaves it out. explain: measure what
    each layer costs alone, in noise of the logits and in answers, also where the first rung passes;
    else the noise is measured where that rung fails. progress: shows long work under a title.
    Raises: GateError: logits that are not numbers.
    """
    folder.mkdir(exist_ok=True)
    ladder = _Ladder(subject, folder, config or Int8Config(), say)
    ladder.float_rung()
    first = ladder.quantize(subject.float_onnx, "post-training")
    ladder.layers = quantized_layers(first, ladder.batches)
    if explain or not ladder.passed:
        with progress("Measuring what each layer costs alone") as advance:
            ladder.blame_layers(first, judge=explain, advance=advance)
    if not ladder.passed:
        ladder.leave_layers_in_float(first)
    if train is not None and not ladder.passed:
        say("Training for integers.")
        ladder.quantize_trained(train)
    return Climbed(subject=subject, rungs=ladder.rungs, first=first, layers=ladder.layers)


class _Ladder:
    """What is known while it is climbed."""

    def __init__(self, subject: Subject, folder: Path, config: Int8Config, say: Say) -> None:
        self.subject, self.folder, self.config, self.say = subject, folder, config, say
        area = subject.calibration.shape[1] * subject.calibration.shape[2]
        self.batches = in_batches(subject.calibration, BATCH_PIXELS // area)
        self.rungs: dict[Path, Rung] = {}
        self.layers: tuple[QuantizedLayer, ...] = ()
        self.reference = self._answers(subject.float_onnx, "f32")
        self.judge = subject.judge or LabelJudge(labels=self.reference.argmax(1))

    @property
    def passed(self) -> bool:
        """True if a file in integers passes."""
        return any(rung.passed and rung.kind != "float" for rung in self.rungs.values())

    def float_rung(self) -> None:
        size = self.subject.float_onnx.stat().st_size
        self.rungs[self.subject.float_onnx] = Rung(
            kind="float", comparison=None, latency=None, size_bytes=size, passed=True, seconds=0.0
        )

    def quantize(self, source: Path, kind: str, config: Int8Config | None = None) -> Quantized:
        began = time.monotonic()
        found = static_int8(source, self.folder, self.batches, config or self.config)
        self._judge(found, kind, (), began)
        return found

    def blame_layers(self, first: Quantized, *, judge: bool, advance: Advance) -> None:
        """What each layer costs alone; judge: in answers too, on some of the judged images."""
        judged, count = self.subject.judged, len(self.subject.judged)
        rows = np.linspace(0, count - 1, min(EXPLAINING, count)).astype(int)
        some = in_batches(judged[rows], BATCH), self.judge.take(rows)
        self.layers = alone(
            first,
            self.layers,
            self.batches,
            some if judge else None,
            counted(advance),
            split=self.subject.split,
        )

    def quantize_trained(self, train: Train) -> None:
        try:
            trained = train()
        except Diverged as error:  # the float file is still there
            self.say(f"{error} The rung of training is left out.")
            return
        self.quantize(trained, "after training", TRAINED_FOR)
        if not self.passed:
            self.quantize(trained, "after training")

    def leave_layers_in_float(self, first: Quantized) -> None:
        """Double the number of layers in float, worst first, until the file passes."""
        order = [layer.name for layer in culprits(self.layers)]
        count = 1
        while count <= len(order) // 2 and not self.passed:
            began = time.monotonic()
            names = tuple(order[:count])
            config = replace(self.config, float_layers=names)
            found = with_float_layers(first, config, self.batches)
            self._judge(found, "layers in float", names, began)
            count *= 2

    def _judge(
        self, found: Quantized, kind: str, float_layers: tuple[str, ...], began: float
    ) -> None:
        path = self.folder / f"int8-{len(self.rungs)}.onnx"
        write_model(found.file, path)
        compared = self._compare(path)
        passed = loses_at_most(compared, self.subject.max_drop_points)
        self.rungs[path] = Rung(
            kind=kind,
            comparison=compared,
            latency=None,
            size_bytes=path.stat().st_size,
            passed=passed,
            seconds=round(time.monotonic() - began, 3),
            float_layers=float_layers,
        )
        lost = "agreement" if self.subject.judge is None else self.judge.metric
        self.say(
            f"{kind}: loses {100 * compared.drop:.2f} points of {lost} "
            f"({100 * compared.drop_low:+.2f} to {100 * compared.drop_high:+.2f}), "
            f"limit {self.subject.max_drop_points:g}: {'passes' if passed else 'fails'}."
        )

    def _compare(self, path: Path) -> Comparison:
        return self.judge.compare(
            self._answers(path, "int8"),
            self.reference,
            subject="int8 on onnxruntime",
            reference_name="float file",
            split=self.subject.split,
        )

    def _answers(self, path: Path, precision: Precision) -> Answers:
        threads, pixels = self.subject.threads, self.subject.judged
        return file_answers(RUNTIME.name, precision, path, threads, pixels)
