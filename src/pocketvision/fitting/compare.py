"""Networks side by side: what the papers say of them, what they cost, and their speed here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from pocketvision.budget import count_of, format_time
from pocketvision.errors import ConfigError, DataError, choice, in_range
from pocketvision.fitting.candidates import Candidate, as_candidate
from pocketvision.fitting.plan import chosen_precisions, shipped_bytes
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.device import machine
from pocketvision.measure.latency import measure_latency
from pocketvision.measure.throughput import BATCHED, MAX_BATCH, as_throughput
from pocketvision.measure.untrained import build_files, noise, untrained_card, write_untrained
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.progress import counted
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.report.side_by_side import Side, SideBySide, TimedFile
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import MAX_THREADS, Runtime, Session
from pocketvision.storage import write_atomic

DEFAULT_RUNTIMES = ("onnxruntime",)

# Rough figures for the forecast.
_EXPORT_S = 4.0
_FILE_S = 3.0  # converting or quantizing, and opening
_MACS_PER_S = 40e9  # of one thread
_RUNS = BATCHED.warmup_runs + BATCHED.rounds * (1 + BATCHED.min_runs)  # the least of a session


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Open:
    """One file of one network, ready to be timed."""

    spec: ArchSpec
    runtime: str
    precision: Precision
    size_bytes: int
    session: Session


def compare(
    names: Sequence[str],
    *,
    widths: Sequence[float] = (),
    resolutions: Sequence[int] = (224,),
    latency: bool = False,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: int = 1,
    batch: int = 8,
    reporter: Reporter | None = None,
) -> SideBySide:
    """Every name x width x resolution, each network once, in the order of the names.

    Names may be in torchvision's or timm's spelling. widths: none: each name's own. latency: also
    export each network untrained and time it, all against each other, one image and `batch` images
    at a time; nothing is taken from earlier runs, so that the figures can be compared. runtimes,
    precisions: what is timed; none: ONNX Runtime, in all precisions it has. All sessions are open
    at once: memory must hold all the networks.

    Raises: ConfigError: no name, an unknown one, a value outside what is allowed, a precision that
    none of the runtimes offers, runtimes or precisions without latency. MissingExtraError: a
    runtime is not installed.
    """
    if not names:
        raise ConfigError("there is no network to compare; give at least one name.")
    in_range("threads", threads, 1, MAX_THREADS)
    in_range("batch", batch, 1, MAX_BATCH)
    if not latency and (runtimes or precisions):
        raise ConfigError("runtimes and precisions say what is timed; ask for the latency too.")
    asked = _check_runtimes(runtimes or DEFAULT_RUNTIMES, tuple(precisions)) if latency else {}
    candidates = [as_candidate(spec) for spec in _specs(names, widths, resolutions)]
    if not latency:
        sides = tuple(_side(candidate, []) for candidate in candidates)
        return SideBySide(networks=sides, threads=threads, batch=batch)
    reporter = reporter or Silent()
    reporter.say(_forecast(candidates, asked, threads, batch))
    timed = _time(candidates, asked, threads, batch, reporter)
    return SideBySide(
        networks=tuple(_side(candidate, timed) for candidate in candidates),
        threads=threads,
        batch=batch,
        machine=machine(),
    )


def check_page(path: Path) -> None:
    """Raises: DataError: the file exists. ConfigError: a name that does not end in .html."""
    if path.suffix.lower() != ".html":
        raise ConfigError(f"{str(path)!r} is no page; give a name that ends in .html.")
    if path.exists():
        raise DataError(f"{str(path)!r} exists; give a file that does not, or remove it.")


def write_page(found: SideBySide, path: Path) -> None:
    """Write the comparison as one page that works offline.

    Raises: DataError: the file exists. ConfigError: a name that does not end in .html.
    """
    from pocketvision.report.side_by_side_page import render_page  # plotly takes its time to load

    check_page(path)
    write_atomic(path, render_page(found))


def _specs(
    names: Sequence[str], widths: Sequence[float], resolutions: Sequence[int]
) -> list[ArchSpec]:
    specs = [
        registry.spec(name, width=width, resolution=resolution)
        for name in names
        for width in widths or (None,)
        for resolution in resolutions
    ]
    return list(dict.fromkeys(specs))


def _check_runtimes(
    names: Sequence[str], precisions: tuple[str, ...]
) -> dict[Runtime, tuple[Precision, ...]]:
    """What to time, by runtime."""
    for precision in precisions:
        choice("precision", precision, get_args(Precision))
    runtimes = [get_runtime(name) for name in dict.fromkeys(names)]
    for runtime in runtimes:
        runtime.check()
    asked = {runtime: chosen_precisions(runtime, precisions) for runtime in runtimes}
    if not any(asked.values()):
        offered = sorted({precision for runtime in runtimes for precision in runtime.precisions})
        raise ConfigError(f"precision={list(precisions)} is not offered here; expected {offered}.")
    return asked


def _forecast(
    candidates: Sequence[Candidate],
    asked: dict[Runtime, tuple[Precision, ...]],
    threads: int,
    batch: int,
) -> str:
    """The first line of a run: what will happen and how long it should take."""
    each, count = sum(map(len, asked.values())), len(candidates)
    seconds = 0.0
    for candidate in candidates:
        image_s = candidate.count.macs / (_MACS_PER_S * threads)
        timing = sum(max(BATCHED.seconds, _RUNS * images * image_s) for images in (1, batch))
        seconds += _EXPORT_S + each * (_FILE_S + timing)
    return (
        f"Will export {count_of(count, 'untrained network')} and time "
        f"{count_of(each * count, 'file')} in turns, 1 image and {count_of(batch, 'image')} at a "
        f"time: about {format_time(seconds / count)} per network, {format_time(seconds)} in all."
    )


def _time(
    candidates: Sequence[Candidate],
    asked: dict[Runtime, tuple[Precision, ...]],
    threads: int,
    batch: int,
    reporter: Reporter,
) -> list[tuple[_Open, TimedFile]]:
    with tempfile.TemporaryDirectory() as folder:
        files: list[_Open] = []
        with reporter.progress("Writing files") as advance:
            for number, candidate in enumerate(candidates):
                advance(number, len(candidates), candidate.spec.label)
                place = Path(folder) / str(number)
                files += _open_files(candidate.classifier, asked, place, threads)
            advance(len(candidates), len(candidates), "")
        single = _in_turns("Timing 1 image", files, 1, threads, reporter)
        batched = _in_turns(f"Timing {count_of(batch, 'image')}", files, batch, threads, reporter)
    return [
        (
            file,
            TimedFile(
                runtime=file.runtime,
                precision=file.precision,
                size_bytes=file.size_bytes,
                latency=one,
                batched=many,
                images_per_s=as_throughput(many).images_per_s,
            ),
        )
        for file, one, many in zip(files, single, batched, strict=True)
    ]


def _open_files(
    spec: ArchSpec,
    asked: dict[Runtime, tuple[Precision, ...]],
    folder: Path,
    threads: int,
) -> list[_Open]:
    exported, card = folder.with_suffix(".onnx"), untrained_card(spec)
    write_untrained(spec, exported)
    return [
        _Open(
            spec=spec,
            runtime=runtime.name,
            precision=precision,
            size_bytes=shipped_bytes(runtime, path, precision, threads, card),
            session=runtime.session(path, precision, threads),
        )
        for runtime, precisions in asked.items()
        for precision, path in build_files(runtime, exported, folder, precisions).items()
    ]


def _in_turns(
    title: str, files: Sequence[_Open], batch: int, threads: int, reporter: Reporter
) -> list[Latency]:
    """Latency of all files against each other, in their order."""
    sessions = {
        str(number): partial(file.session.run, noise(batch, file.spec))
        for number, file in enumerate(files)
    }
    with reporter.progress(title) as advance, watch_conditions(threads) as seen:
        latencies = measure_latency(
            sessions,
            BATCHED,
            threads,
            batch=batch,
            progress=counted(advance),
        )
    return [judged(latencies[name], seen[0]) for name in sessions]


def _side(candidate: Candidate, timed: Sequence[tuple[_Open, TimedFile]]) -> Side:
    spec = candidate.spec
    return Side(
        network=spec.label,
        name=spec.name,
        width=spec.width,
        resolution=spec.resolution,
        macs=candidate.count.macs,
        parameters=candidate.count.parameters,
        peak_activation_bytes=candidate.count.peak_activation_bytes,
        published=candidate.prior,
        files=tuple(file for opened, file in timed if opened.spec == spec),
    )
