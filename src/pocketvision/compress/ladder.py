"""The gate of INT8, rung by rung: integers, fewer integers, training for integers, float.

A rung is climbed only where those before it lose too much; what is fastest of all that passes is
chosen, float included. No file that fails is offered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketvision.compress.layers import alone, culprits, quantized_layers
from pocketvision.errors import GateError
from pocketvision.measure.accuracy import compare
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.record import (
    Comparison,
    Latency,
    Precision,
    Quantization,
    QuantizedLayer,
    Rung,
)
from pocketvision.runtimes.int8.static import (
    Quantized,
    static_int8,
    weight_bits,
    with_float_layers,
)
from pocketvision.runtimes.onnxfile import drop_unused_constants, write_model
from pocketvision.runtimes.onnxruntime import BATCH_PIXELS, OnnxRuntime, in_batches
from pocketvision.runtimes.runtime import Int8Config, Logits, Pixels
from pocketvision.train.alarms import Diverged

RUNTIME = OnnxRuntime()
BATCH = 8  # images at a time, when accuracy is measured
# What `train.quantization_aware` rounds by; anything more would undo what was learned.
TRAINED_FOR = Int8Config(ranges="mse", equalise=False, correct_biases=False)

Say = Callable[[str], None]
Train = Callable[[], Path]  # trains for integers; gives the new float file


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """A float ONNX file of ours, and the images it is calibrated and judged on.

    labels: of the judged images; None: the answers of the float file stand for them, and agreement
    is judged. max_drop_points: of top-1, or of agreement.
    """

    float_onnx: Path
    calibration: Pixels
    judged: Pixels
    labels: NDArray[np.integer] | None
    max_drop_points: float
    threads: int = 1
    split: str = "val"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Climbed:
    """The files of ONNX Runtime that were tried, by path, and what is known of each."""

    rungs: dict[Path, Rung]
    chosen: Path
    quantization: Quantization


def climb(
    subject: Subject,
    folder: Path,
    *,
    config: Int8Config | None = None,
    train: Train | None = None,
    explain: bool = True,
    timed: bool = True,
    say: Say = lambda sentence: None,
) -> Climbed:
    """Quantize, judge and time until a file passes; the float file is the last rung.

    folder: takes the files. train: the rung of training; None leaves it out. explain: measure what
    each layer costs alone, also where the first rung passes. timed: time all that pass and choose
    the fastest; else the last file in integers is chosen if it passes, and nothing is timed.
    Raises: GateError: logits that are not numbers.
    """
    folder.mkdir(exist_ok=True)
    ladder = _Ladder(subject, folder, config or Int8Config(), say)
    ladder.float_rung()
    first = ladder.quantize(subject.float_onnx, "post-training")
    ladder.layers = quantized_layers(first, ladder.batches)
    if explain or not ladder.passed:
        say("Measuring what each layer costs alone.")
        ladder.layers = alone(first, ladder.layers, ladder.batches)
    if not ladder.passed:
        ladder.leave_layers_in_float(first)
    if train is not None and not ladder.passed:
        say("Training for integers.")
        ladder.quantize_trained(train)
    if timed:
        ladder.time_files()
    chosen = ladder.fastest() if timed else ladder.last()
    return Climbed(
        rungs=ladder.rungs, chosen=chosen, quantization=ladder.quantization(first, chosen)
    )


class _Ladder:
    """What is known while it is climbed."""

    def __init__(self, subject: Subject, folder: Path, config: Int8Config, say: Say) -> None:
        self.subject, self.folder, self.config, self.say = subject, folder, config, say
        area = subject.calibration.shape[1] * subject.calibration.shape[2]
        self.batches = in_batches(subject.calibration, BATCH_PIXELS // area)
        self.rungs: dict[Path, Rung] = {}
        self.layers: tuple[QuantizedLayer, ...] = ()
        self.reference = self._logits(subject.float_onnx, "f32")
        answers = self.reference.argmax(1)
        self.labels = answers if subject.labels is None else subject.labels

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
        drop_unused_constants(found.model.graph)
        write_model(found.model, path)
        compared = self._compare(path)
        passed = round(100 * compared.drop, 9) <= self.subject.max_drop_points
        self.rungs[path] = Rung(
            kind=kind,
            comparison=compared,
            latency=None,
            size_bytes=path.stat().st_size,
            passed=passed,
            seconds=round(time.monotonic() - began, 3),
            float_layers=float_layers,
        )
        lost = "top-1" if self.subject.labels is not None else "agreement"
        self.say(
            f"{kind}: loses {100 * compared.drop:.2f} points of {lost} "
            f"({100 * compared.drop_low:+.2f} to {100 * compared.drop_high:+.2f}), "
            f"limit {self.subject.max_drop_points:g}: {'passes' if passed else 'fails'}."
        )

    def _compare(self, path: Path) -> Comparison:
        return compare(
            self._logits(path, "int8"),
            self.reference,
            self.labels,
            subject="int8 on onnxruntime",
            reference="float file",
            split=self.subject.split,
        )

    def _logits(self, path: Path, precision: Precision) -> Logits:
        session = RUNTIME.session(path, precision, self.subject.threads)
        batches = in_batches(self.subject.judged, BATCH)
        return np.concatenate([session.run(batch) for batch in batches])

    def time_files(self) -> None:
        """All files that pass, against each other."""
        sessions = {}
        for path, rung in self.rungs.items():
            if rung.passed:
                precision: Precision = "f32" if rung.kind == "float" else "int8"
                session = RUNTIME.session(path, precision, self.subject.threads)
                sessions[str(path)] = partial(session.run, self.subject.judged[:1])
        for name, latency in measure_latency(sessions, FINAL, self.subject.threads).items():
            self.rungs[Path(name)] = replace(self.rungs[Path(name)], latency=latency)

    def fastest(self) -> Path:
        timed = {path: rung.latency for path, rung in self.rungs.items() if rung.latency}
        if not timed:
            raise GateError("no file could be timed.")
        return min(timed, key=lambda path: timed[path].median_ms)

    def last(self) -> Path:
        """The last file in integers if it passes, else the float file."""
        path = list(self.rungs)[-1]
        return path if self.rungs[path].passed else self.subject.float_onnx

    def quantization(self, first: Quantized, chosen: Path) -> Quantization:
        subject = self.subject
        in_float = set(self.rungs[chosen].float_layers)
        layers = tuple(
            replace(layer, in_integers=layer.in_integers and layer.name not in in_float)
            for layer in self.layers
        )
        return Quantization(
            runtime=RUNTIME.name,
            sentence=verdict(self.rungs, chosen, subject),
            judged_by="labels" if subject.labels is not None else "agreement",
            max_drop_points=subject.max_drop_points,
            images=len(subject.calibration),
            weight_bits=weight_bits(),
            ranges=first.methods,
            equalised_pairs=first.pairs,
            filled_widths=first.widths,
            corrected_biases=first.corrected,
            guarded_channels=first.guarded,
            layers=layers,
            rungs=tuple(self.rungs.values()),
        )


def verdict(rungs: dict[Path, Rung], chosen: Path, subject: Subject) -> str:
    """What passed its gate or is shipped, and why, in words."""
    rung, reference = rungs[chosen], next(r for r in rungs.values() if r.kind == "float")
    if reference.latency is None:
        return _judgement(rungs, chosen, subject)
    tried = [r for r in rungs.values() if r.kind != "float"]
    if rung.kind == "float":
        passing = [r for r in tried if r.passed and r.latency]
        if passing:
            best = min(r.latency.median_ms for r in passing if r.latency)
            assert reference.latency is not None
            return (
                f"The float file is shipped: INT8 passes its gate, but takes {best:.3g} ms where "
                f"float takes {reference.latency.median_ms:.3g} ms."
            )
        least = min(r.comparison.drop for r in tried if r.comparison)
        return (
            f"The float file is shipped: in integers at least {100 * least:.2f} points are lost, "
            f"and {subject.max_drop_points:g} are allowed."
        )
    compared = rung.comparison
    assert compared is not None
    assert rung.latency is not None
    assert reference.latency is not None
    how = {"layers in float": f" with {len(rung.float_layers)} layers in float"}.get(rung.kind, "")
    how = " after training for integers" if rung.kind == "after training" else how
    kind = "points of top-1" if subject.labels is not None else "% of the answers change"
    lost = f"{100 * compared.drop:.2f} {kind}"
    return (
        f"INT8{how} is shipped: {lost} {'lost ' if subject.labels is not None else ''}on "
        f"{len(subject.judged):,} images ({100 * compared.drop_low:+.2f} to "
        f"{100 * compared.drop_high:+.2f}), {_times(reference.latency, rung.latency)} as fast as "
        f"float.{_caution(subject)}"
    )


def _judgement(rungs: dict[Path, Rung], chosen: Path, subject: Subject) -> str:
    """What the gate says of files that were not timed."""
    rung = rungs[chosen]
    if rung.comparison is None:
        least = min(r.comparison.drop for r in rungs.values() if r.comparison)
        return (
            f"In integers at least {100 * least:.2f} points are lost, and "
            f"{subject.max_drop_points:g} are allowed."
        )
    found = rung.comparison
    left = f" with {len(rung.float_layers)} layers in float" if rung.float_layers else ""
    trained = " after training for integers" if rung.kind == "after training" else ""
    return (
        f"INT8{left}{trained} loses {100 * found.drop:.2f} points of top-1 on "
        f"{len(subject.judged):,} images ({100 * found.drop_low:+.2f} to "
        f"{100 * found.drop_high:+.2f}).{_caution(subject)}"
    )


def _times(reference: Latency, latency: Latency) -> str:
    return f"{reference.median_ms / latency.median_ms:.2f} times"


def _caution(subject: Subject) -> str:
    """A drop of half a point can be told from none with some thousands of images only."""
    if subject.labels is None:
        return " There were no labels: agreement with float was judged."
    few_images = len(subject.judged) < 5000
    return " So few images cannot tell half a point from nothing." if few_images else ""
