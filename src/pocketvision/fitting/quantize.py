"""`pocketvision quantize`: integers for a network that is there, judged, timed and explained."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pocketvision.budget import format_time
from pocketvision.compress.explain import explain
from pocketvision.compress.ladder import Climbed, Subject, climb
from pocketvision.cpu import cpu
from pocketvision.data.stream import open_pixels
from pocketvision.errors import ArtefactError, GateError, choice, in_range
from pocketvision.fitting.artefact import MODEL
from pocketvision.fitting.choice import position_of_fastest
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.quantize_files import (
    QuantizedFile,
    ladder_files,
    measured_files,
    other_files,
    ship_file,
)
from pocketvision.fitting.quantize_forecast import forecast_s
from pocketvision.fitting.quantize_images import Images, read_images
from pocketvision.fitting.quantize_source import Source, open_source
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.measure.accuracy import LabelJudge, compare
from pocketvision.measure.device import machine
from pocketvision.measure.profile import profile_layers
from pocketvision.record.files import Quantization, Shipped
from pocketvision.record.run import SCHEMA_VERSION, QuantizationRecord
from pocketvision.record.scores import Comparison
from pocketvision.report.quantized_page import render_quantized
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.registry import RUNTIMES, file_answers, get_runtime
from pocketvision.runtimes.runtime import MAX_THREADS
from pocketvision.storage import to_json, write_atomic
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
    StorageError: a disk that is full, or a folder that vanished.
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
    """As `quantize`; the folder appears whole, or not at all.

    Raises: as `quantize`; ArtefactError: `out` was made by something else meanwhile, and the result
    lies beside it.
    """
    began, reporter = time.monotonic(), reporter or Silent()
    with working_in(out, reporter.say):
        if out.exists():
            raise ArtefactError(f"{out} exists already; give another --out, or remove it.")
        return _quantize(config, out, reporter, command, began)


def _quantize(
    config: QuantizeConfig, out: Path, reporter: Reporter, command: str, began: float
) -> QuantizationRecord:
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
        left_s = forecast_s(
            source,
            found,
            threads=config.threads,
            explain=config.explain,
            runtimes=config.runtimes,
        )
        reporter.say(f"Quantizing {source.card.name}, about {format_time(left_s)}; {found.note}")
        record = _Work(config, source, found, folder, reporter).record(command, began)
        _write(record, folder, out)
    return record


def _write(record: QuantizationRecord, folder: Path, out: Path) -> None:
    """Raises: ArtefactError: `out` was made by something else; the result lies beside it."""
    finished = folder / "finished"
    finished.mkdir()
    (folder / MODEL).rename(finished / MODEL)
    write_atomic(finished / QUANTIZATION, to_json(record))
    write_atomic(finished / REPORT, render_quantized(record))
    place = _free(out)
    finished.rename(place)
    if place != out:
        raise ArtefactError(
            f"{out} was made by something else meanwhile, and is left as it is. The result is in "
            f"{place}; rename it to what you like."
        )


def _free(out: Path) -> Path:
    """`out`, or the first of out-2, out-3, ... that is not there."""
    if not out.exists():
        return out
    others = (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))
    return next(path for path in others if not path.exists())


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
            judge=None if images.labels is None else LabelJudge(labels=images.labels),
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
            progress=self.reporter.progress,
        )
        source, threads = self.source, config.threads
        files = ladder_files(climbed) + other_files(
            source,
            images,
            config.runtimes,
            self.folder,
            threads=threads,
            max_drop_points=config.max_drop_points,
            reporter=self.reporter,
        )
        pixels = images.judged[:1]
        variants, conditions = measured_files(files, source.card, pixels, threads, self.reporter)
        climbed = climbed.timed({f.path: v.latency for f, v in zip(files, variants, strict=True)})
        best = position_of_fastest(variants)
        if best is None:
            raise GateError("No file passes its gate, the float file included.")
        variants[best] = replace(variants[best], shipped=True)
        file = files[best]
        shipped = ship_file(file, source.card, self.folder, threads)
        int8 = next((f.path for f in files if _is_ours(f) and f.passed), None)
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
            headline=self._headline(file),
            explanation="" if int8 is None else self._explain(int8),
            layers=profile_layers(
                get_runtime(file.runtime), file.path, file.precision, threads, pixels
            ),
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
                    epochs=self.config.epochs, weight_bits=cpu().weight_bits, seed=self.config.seed
                ),
                folder=self.folder / "training",
                on_step=advance,
            )
        path = self.folder / "trained.onnx"
        export_onnx(trained, path, self.source.card)
        return path

    def _headline(self, file: QuantizedFile) -> Comparison | None:
        if self.images.test is None:
            return None
        pixels, labels = self.images.test()
        threads = self.config.threads
        return compare(
            file_answers(file.runtime, file.precision, file.path, threads, pixels),
            file_answers("onnxruntime", "f32", self.source.float_onnx, threads, pixels),
            labels,
            subject="shipped",
            reference="float file",
            split="test",
        )

    def _explain(self, int8: Path) -> str:
        pixels, threads = self.images.judged[:1], self.config.threads
        runtime = OnnxRuntime()
        before = runtime.profile(self.source.float_onnx, "f32", threads, pixels, PROFILED_RUNS)
        return explain(before, runtime.profile(int8, "int8", threads, pixels, PROFILED_RUNS))


def _is_ours(file: QuantizedFile) -> bool:
    return (file.runtime, file.precision) == (OnnxRuntime.name, "int8")


def _quantization(climbed: Climbed, shipped: Shipped) -> Quantization:
    """What is recorded; it says so where another runtime's file is shipped."""
    found = climbed.quantization(climbed.fastest)
    if shipped.runtime == OnnxRuntime.name and shipped.precision != "w8":
        return found
    first = f"{shipped.precision} on {shipped.runtime} is the fastest that passes, and is shipped."
    rest = found.sentence.replace("is shipped", "would be shipped")
    return replace(found, sentence=f"{first} Of the ladder's files: {rest}")
