"""`pocketvision quantize`: integers for a network that is there, judged, timed and explained."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.compress.explain import explain
from pocketvision.compress.ladder import BATCH, Climbed, Subject, climb
from pocketvision.data.stream import open_pixels
from pocketvision.errors import ArtefactError, GateError, choice, in_range
from pocketvision.fitting.artefact import MODEL
from pocketvision.fitting.choice import passes
from pocketvision.fitting.folder import check_writable
from pocketvision.fitting.plan import chosen_precisions, shipped_bytes
from pocketvision.fitting.quantize_images import Images, read_images
from pocketvision.fitting.quantize_source import Source, open_source
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.standalone import standalone_script
from pocketvision.measure.accuracy import compare
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.device import machine
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.profile import profile_layers
from pocketvision.record import (
    SCHEMA_VERSION,
    Comparison,
    Conditions,
    Precision,
    Quantization,
    QuantizationRecord,
    Shipped,
    Variant,
)
from pocketvision.report.quantized_page import render_quantized
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.int8.static import weight_bits
from pocketvision.runtimes.integers import integer_work
from pocketvision.runtimes.onnxruntime import in_batches
from pocketvision.runtimes.registry import RUNTIMES, get_runtime, installed_runtimes
from pocketvision.runtimes.runtime import MAX_THREADS, Calibration, Logits
from pocketvision.storage import sha256_file, to_json, write_atomic
from pocketvision.train.batches import training_sources
from pocketvision.train.quantization_aware import QatConfig, train_for_integers

QUANTIZATION = "quantization.json"
REPORT = "report.html"
PROFILED_RUNS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """What is quantized, and how it is judged. Empty runtimes: all that are installed.

    epochs: of training for integers, where nothing else passes; 0 leaves it out.
    Raises: ConfigError: a field outside its range.
    """

    source: str
    images: str
    max_drop_points: float = 1.0
    runtimes: tuple[str, ...] = ()
    threads: int = 1
    epochs: int = 5
    explain: bool = True
    skip_bad: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.runtimes:
            choice("runtime", name, RUNTIMES)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        in_range("threads", self.threads, 1, MAX_THREADS)
        in_range("epochs", self.epochs, 0, 1000)
        in_range("seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _File:
    """One file of the network that passed or failed its gate."""

    runtime: str
    precision: Precision
    path: Path
    comparison: Comparison | None
    passed: bool


def quantize(
    source: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    max_drop: float = 1.0,
    runtimes: tuple[str, ...] = (),
    threads: int = 1,
    epochs: int = 5,
    seed: int = 0,
) -> QuantizationRecord:
    """Quantize a network on images; the Python face of `pocketvision quantize`.

    source: a fitted folder, a file of weights, or an exported ONNX file. images: class folders, or
    a folder of images without labels. max_drop: points of top-1, or of agreement where there are
    no labels, that a file may lose against the float network.

    Raises: ConfigError, DataError, ArtefactError: unusable input. GateError: no file passes.
    """
    config = QuantizeConfig(
        source=str(source),
        images=str(images),
        max_drop_points=max_drop,
        runtimes=runtimes,
        threads=threads,
        epochs=epochs,
        seed=seed,
    )
    asked = f"pocketvision.quantize({str(source)!r}, {str(images)!r}, {str(out)!r}, ...)"
    return run_quantize(config, Path(out), command=asked)


def run_quantize(
    config: QuantizeConfig, out: Path, reporter: Reporter | None = None, *, command: str = ""
) -> QuantizationRecord:
    """As `quantize`; the folder appears whole, or not at all."""
    began, reporter = time.monotonic(), reporter or Silent()
    if out.exists():
        raise ArtefactError(f"{out} exists already; give another --out, or remove it.")
    check_writable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary)
        source = open_source(config.source, folder)
        found = read_images(
            Path(config.images),
            source.card.preprocessing,
            source.card.classes,
            source.channels,
            config.seed,
            reporter,
            skip_bad=config.skip_bad,
        )
        reporter.say(f"Quantizing {source.card.name}: {found.note}")
        record = _Work(config, source, found, folder, reporter).record(command, began)
        _write(record, folder, out)
    return record


def _write(record: QuantizationRecord, folder: Path, out: Path) -> None:
    finished = folder / "finished"
    finished.mkdir()
    (folder / MODEL).rename(finished / MODEL)
    write_atomic(finished / QUANTIZATION, to_json(record))
    write_atomic(finished / REPORT, render_quantized(record))
    finished.rename(out)


class _Work:
    """One run: the ladder on ONNX Runtime, other runtimes, one measurement of all, model/."""

    def __init__(
        self,
        config: QuantizeConfig,
        source: Source,
        images: Images,
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self.config, self.source, self.images = config, source, images
        self.folder, self.reporter = folder, reporter

    def record(self, command: str, began: float) -> QuantizationRecord:
        config, images = self.config, self.images
        subject = Subject(
            float_onnx=self.source.float_onnx,
            calibration=images.calibration,
            judged=images.judged,
            labels=images.labels,
            max_drop_points=config.max_drop_points,
            threads=config.threads,
            split=images.split,
        )
        trains = config.epochs > 0 and self.source.network is not None
        climbed = climb(
            subject,
            self.folder / "rungs",
            train=self._train if trains and images.samples is not None else None,
            explain=config.explain,
            say=self.reporter.say,
        )
        files = [
            _File(
                runtime="onnxruntime",
                precision="f32" if rung.kind == "float" else "int8",
                path=path,
                comparison=rung.comparison,
                passed=rung.passed,
            )
            for path, rung in climbed.rungs.items()
        ]
        files += self._other_files()
        variants, conditions = self._measure(files)
        climbed = climbed.timed({f.path: v.latency for f, v in zip(files, variants, strict=True)})
        best = _fastest(files, variants)
        shipped = self._ship(files[best])
        variants[best] = replace(variants[best], shipped=True)
        file = files[best]
        runtime = get_runtime(file.runtime)
        pixels = images.judged[:1]
        ours = (f for f in files if (f.runtime, f.precision) == ("onnxruntime", "int8"))
        int8 = next((f for f in ours if f.passed), None)
        return QuantizationRecord(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            source=config.source,
            network=self.source.card.name,
            resolution=self.source.card.preprocessing.resolution,
            classes=self.source.card.classes,
            data=config.images,
            split=images.split,
            quantization=_quantization(climbed, shipped),
            variants=tuple(variants),
            shipped=shipped,
            headline=self._headline(files[best]),
            explanation="" if int8 is None else self._explain(int8),
            layers=profile_layers(runtime, file.path, file.precision, config.threads, pixels),
            machine=machine(),
            conditions=conditions,
            spent_s=round(time.monotonic() - began, 3),
        )

    def _train(self) -> Path:
        """A float file whose weights were trained to be rounded."""
        network, samples = self.source.network, self.images.samples
        assert network is not None
        assert samples is not None
        pre = self.source.card.preprocessing
        train, val = training_sources(samples, open_pixels(samples, pre.side))
        with self.reporter.progress("Training for integers") as advance:
            trained = train_for_integers(
                network,
                train=train,
                val=val,
                preprocessing=pre,
                config=QatConfig(
                    epochs=self.config.epochs, weight_bits=weight_bits(), seed=self.config.seed
                ),
                folder=self.folder / "training",
                on_step=advance,
            )
        path = self.folder / "trained.onnx"
        export_onnx(trained, path, self.source.card)
        return path

    def _other_files(self) -> list[_File]:
        """The network in the other runtimes' formats, gated like the rest."""
        wanted = self.config.runtimes
        runtimes = [get_runtime(name) for name in wanted] if wanted else installed_runtimes()
        files = []
        reference: Logits | None = None
        for runtime in runtimes:
            if runtime.name == "onnxruntime":
                continue
            runtime.check()
            self.reporter.say(f"Making the files of {runtime.name}.")
            for precision in chosen_precisions(runtime, ()):
                path = self.folder / runtime.name / runtime.file_name(precision)
                if precision == "int8":
                    calibration = Calibration(pixels=self.images.calibration)
                    runtime.quantize(self.source.float_onnx, path, calibration)
                else:
                    runtime.convert(self.source.float_onnx, path)
                if reference is None:
                    reference = self._logits("onnxruntime", "f32", self.source.float_onnx)
                files.append(self._gated(runtime.name, precision, path, reference))
        return files

    def _gated(self, runtime: str, precision: Precision, path: Path, reference: Logits) -> _File:
        labels = self.images.labels
        compared = compare(
            self._logits(runtime, precision, path),
            reference,
            reference.argmax(1) if labels is None else labels,
            subject=f"{precision} on {runtime}",
            reference="float file",
            split=self.images.split,
        )
        return _File(
            runtime=runtime,
            precision=precision,
            path=path,
            comparison=compared,
            passed=passes(compared, precision, self.config.max_drop_points),
        )

    def _logits(self, runtime: str, precision: Precision, path: Path) -> Logits:
        return _logits(runtime, precision, path, self.config.threads, self.images.judged)

    def _measure(self, files: list[_File]) -> tuple[list[Variant], Conditions]:
        """Every file, those that fail their gate too, against each other in one measurement."""
        threads, pixels = self.config.threads, self.images.judged[:1]
        sessions = {
            str(number): partial(
                get_runtime(file.runtime).session(file.path, file.precision, threads).run, pixels
            )
            for number, file in enumerate(files)
        }
        with (
            watch_conditions(threads) as seen,
            self.reporter.progress("Measuring") as advance,
        ):
            latencies = measure_latency(
                sessions,
                FINAL,
                threads,
                progress=lambda done, total: advance(done, total, ""),
            )
        return [
            Variant(
                runtime=file.runtime,
                precision=file.precision,
                size_bytes=self._size(file),
                latency=judged(latencies[str(number)], seen[0]),
                comparison=file.comparison,
                within_budget=True,
                passed_gate=file.passed,
            )
            for number, file in enumerate(files)
        ], seen[0]

    def _size(self, file: _File) -> int:
        runtime = get_runtime(file.runtime)
        return shipped_bytes(
            runtime, file.path, file.precision, self.config.threads, self.source.card
        )

    def _ship(self, file: _File) -> Shipped:
        """model/ of the chosen file, beside the others for now."""
        runtime, threads = get_runtime(file.runtime), self.config.threads
        folder = self.folder / MODEL
        folder.mkdir()
        target = folder / runtime.file_name("model")
        for stored in runtime.files(file.path):
            shutil.copyfile(stored, target.with_suffix(stored.suffix))
        script = standalone_script(file.runtime, file.precision, threads, self.source.card)
        write_atomic(folder / "run.py", script)
        return Shipped(
            options=runtime.session(target, file.precision, threads).describe(),
            runtime=file.runtime,
            precision=file.precision,
            threads=threads,
            files={path.name: sha256_file(path) for path in sorted(folder.iterdir())},
            size_bytes=self._size(file),
            integers=integer_work(target, file.runtime, file.precision, threads),
        )

    def _headline(self, file: _File) -> Comparison | None:
        if self.images.test is None:
            return None
        pixels, labels = self.images.test()
        threads = self.config.threads
        return compare(
            _logits(file.runtime, file.precision, file.path, threads, pixels),
            _logits("onnxruntime", "f32", self.source.float_onnx, threads, pixels),
            labels,
            subject="shipped",
            reference="float file",
            split="test",
        )

    def _explain(self, int8: _File) -> str:
        runtime, threads = get_runtime(int8.runtime), self.config.threads
        pixels = self.images.judged[:1]
        before = runtime.profile(self.source.float_onnx, "f32", threads, pixels, PROFILED_RUNS)
        return explain(before, runtime.profile(int8.path, "int8", threads, pixels, PROFILED_RUNS))


def _quantization(climbed: Climbed, shipped: Shipped) -> Quantization:
    """What is recorded; it says so where another runtime's file is shipped."""
    found = climbed.quantization(climbed.fastest)
    if shipped.runtime == "onnxruntime":
        return found
    first = f"{shipped.precision} on {shipped.runtime} is the fastest that passes, and is shipped."
    rest = found.sentence.replace("is shipped", "would be shipped")
    return replace(found, sentence=f"{first} Of ONNX Runtime's files: {rest}")


def _fastest(files: list[_File], variants: list[Variant]) -> int:
    """The position of the fastest file that passes. Raises: GateError: none does."""
    passing = [number for number, file in enumerate(files) if file.passed]
    if not passing:
        raise GateError("No file passes its gate, the float file included.")
    return min(passing, key=lambda number: variants[number].latency.median_ms)


def _logits(
    runtime: str, precision: Precision, path: Path, threads: int, pixels: np.ndarray
) -> Logits:
    session = get_runtime(runtime).session(path, precision, threads)
    return np.concatenate([session.run(batch) for batch in in_batches(pixels, BATCH)])
