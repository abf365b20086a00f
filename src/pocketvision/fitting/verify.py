"""Numbers from image files: the float network, the exported file and the shipped file side by side.

`verify` is the release gate: it repeats them on this machine and holds them against the record.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pocketvision.budget import format_latency, format_size, parse_latency
from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.errors import DataError
from pocketvision.fitting.artefact import MODEL, Artefact, read_pixels
from pocketvision.fitting.plan import noise
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.measure.accuracy import compare
from pocketvision.measure.device import machine
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.models.arch import Network
from pocketvision.record import Comparison, Latency, Machine
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session

LATENCY_TOLERANCE = 1.15  # beyond both intervals, on the same machine
AGREEMENT_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRun:
    """Logits of several predictors on the same image files.

    logits: name -> (n, K) float32. labels: (n,) int64. decode_ms: median per image file.
    """

    logits: dict[str, np.ndarray]
    labels: np.ndarray
    decode_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the table of `verify`; `passed` is None where it only informs."""

    name: str
    passed: bool | None
    recorded: str
    found: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` found."""

    checks: tuple[Check, ...]
    same_machine: bool

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)


def network_logits(
    network: Network, pixels: np.ndarray, preprocessing: Preprocessing
) -> np.ndarray:
    """(n, H, W, 3) uint8 -> (n, K) float32 of the float network, in PyTorch."""
    with torch.inference_mode():
        images = normalise(torch.from_numpy(pixels), preprocessing)
        logits: np.ndarray = network.eval()(images).numpy()
    return logits


def run_on_files(
    files: list[Path],
    labels: np.ndarray,
    preprocessing: Preprocessing,
    network: Network,
    sessions: dict[str, Session],
    reporter: Reporter,
) -> FileRun:
    """Decode each file once and hand its pixels to the float network ("float") and all sessions.

    Raises: DataError: a file cannot be read.
    """
    rows: dict[str, list[np.ndarray]] = {"float": [], **{name: [] for name in sessions}}
    decoding: list[float] = []
    with reporter.progress("Verifying from image files") as advance:
        for number, file in enumerate(files):
            start = time.perf_counter()
            pixels = read_pixels(file, preprocessing)[None]
            decoding.append(time.perf_counter() - start)
            rows["float"].append(network_logits(network, pixels, preprocessing)[0])
            for name, session in sessions.items():
                rows[name].append(session.run(pixels)[0])
            advance(number + 1, len(files), "")
    return FileRun(
        logits={name: np.stack(values) for name, values in rows.items()},
        labels=labels,
        decode_ms=float(np.median(decoding)) * 1e3,
    )


def verify(
    folder: str | Path,
    data: str | Path,
    *,
    latency: str | None = None,
    reporter: Reporter | None = None,
) -> Verification:
    """Re-check an artefact on this machine: files, size, accuracy, agreement, latency.

    The images are those of the recorded split, found in `data` by content; others are left alone.
    On another machine than the recorded one latency only informs, unless `latency` gives a limit.

    Raises: ArtefactError: no artefact. DataError: recorded images are missing from `data`.
    MissingExtraError: its runtime is not installed.
    """
    limit_ms = parse_latency(latency) if latency is not None else None
    reporter = reporter or Silent()
    artefact = Artefact(folder)
    altered = artefact.altered_files()
    checks = [files_check(len(artefact.shipped.files), altered)]
    same = on_recorded_machine(artefact.record.machine)
    runtime = get_runtime(artefact.shipped.runtime)
    if {file.name for file in runtime.files(artefact.model_file)} & set(altered):
        # A model that is not the recorded one is not run: nothing is known about it.
        return Verification(checks=tuple(checks), same_machine=same)
    checks.append(size_check(artefact.folder / MODEL, artefact.shipped.size_bytes))
    files, labels = recorded_images(artefact, Path(data))
    session = artefact.session()
    run = run_on_files(
        files, labels, artefact.preprocessing, artefact.network, {"shipped": session}, reporter
    )
    found = compare(
        run.logits["shipped"],
        run.logits["float"],
        labels,
        subject="shipped",
        reference="float network",
        split=artefact.record.data.headline_split,
    )
    checks += [_accuracy_check(artefact, found), _agreement_check(artefact, found)]
    threads = artefact.shipped.threads
    timed = {"shipped": partial(session.run, noise(1, artefact.network.spec))}
    checks.append(
        _latency_check(artefact, measure_latency(timed, FINAL, threads)["shipped"], same, limit_ms)
    )
    return Verification(checks=tuple(checks), same_machine=same)


def recorded_images(artefact: Artefact, data: Path) -> tuple[list[Path], np.ndarray]:
    """Files and labels of the recorded headline split.

    Raises: DataError: some of its images are not in `data`, or bear classes of another name.
    """
    samples = scan(data, skip_bad=True)
    wanted = Counter(artefact.state.headline_hashes)
    # Copies may lie in other splits, under other classes: those of the recorded split come first.
    split = artefact.record.data.headline_split
    order = sorted(range(len(samples)), key=lambda row: samples.splits[row] != split)
    rows = []
    for row in order:
        if wanted[samples.hashes[row]] > 0:
            wanted[samples.hashes[row]] -= 1
            rows.append(row)
    missing = wanted.total()
    if missing:
        raise DataError(
            f"{missing} of the {len(rows) + missing} images that carry the recorded accuracy are "
            f"not in {data} (compared by content); give the folder the network was fitted to."
        )
    unknown = sorted({samples.classes[samples.labels[r]] for r in rows} - set(artefact.classes))
    if unknown:
        raise DataError(f"{data} has classes the network does not know: {unknown}.")
    number = {name: k for k, name in enumerate(artefact.classes)}
    labels = np.array([number[samples.classes[samples.labels[r]]] for r in rows], dtype=np.int64)
    return [samples.root / samples.paths[r] for r in rows], labels


def on_recorded_machine(recorded: Machine) -> bool:
    """True where processor, cores and instruction sets are those of the record."""
    here = machine()
    return (here.cpu, here.cores, here.features) == (
        recorded.cpu,
        recorded.cores,
        recorded.features,
    )


def files_check(recorded: int, altered: list[str]) -> Check:
    """The line on hashes: `recorded` files, and the names of those that are not as they were."""
    return Check(
        name="files",
        passed=not altered,
        recorded=f"{recorded} files",
        found="unchanged" if not altered else f"altered, missing or added: {', '.join(altered)}",
    )


def size_check(model: Path, recorded: int) -> Check:
    """The line on the bytes of everything in model/."""
    found = sum(path.stat().st_size for path in model.iterdir())
    return Check(
        name="size",
        passed=found == recorded,
        recorded=format_size(recorded),
        found=format_size(found),
    )


def _accuracy_check(artefact: Artefact, found: Comparison) -> Check:
    recorded = artefact.record.headline
    return Check(
        name="accuracy",
        passed=found.accuracy.top1 >= recorded.low,
        recorded=f"{recorded.top1:.2%} ({recorded.low:.2%} to {recorded.high:.2%})",
        found=f"{found.accuracy.top1:.2%} (n = {found.accuracy.n})",
        note="fails below the recorded interval",
    )


def _agreement_check(artefact: Artefact, found: Comparison) -> Check:
    recorded = next(c for c in artefact.record.verification if c.subject == "shipped")
    return Check(
        name="agreement",
        passed=found.agreement >= recorded.agreement - AGREEMENT_TOLERANCE,
        recorded=f"{recorded.agreement:.2%}",
        found=f"{found.agreement:.2%}",
        note="with the float network, image by image",
    )


def _latency_check(
    artefact: Artefact, found: Latency, same_machine: bool, limit_ms: float | None
) -> Check:
    recorded = artefact.record.latency
    if limit_ms is not None:
        passed, note = found.high_ms <= limit_ms, f"limit {format_latency(limit_ms)}"
    elif same_machine:
        passed = found.low_ms <= LATENCY_TOLERANCE * recorded.high_ms
        note = "fails at more than 15 % beyond both intervals"
    else:
        passed, note = None, "another machine: informs only; give --latency to set a limit"
    return Check(
        name="latency",
        passed=passed,
        recorded=interval(recorded),
        found=interval(found),
        note=f"{note}; {found.noise}" if found.noise else note,
    )


def interval(latency: Latency) -> str:
    """'5.1 ms (5.0 to 5.2)'."""
    return f"{latency.median_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g})"
