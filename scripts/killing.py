"""Work that is killed at random moments of every phase, gone on with, and compared with work in
peace."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import read_state
from pocketvision.measure.device import machine

DONE, PLAN = "done", "plan"  # phases
LOOK_S = 0.05  # at what work in peace is doing
FORK = multiprocessing.get_context("fork")  # the libraries are loaded once


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is killed. work: into a folder, going on there. phase: what work in a folder is doing,
    or was when it was interrupted; details behind a comma. comparable: what finished work came to,
    without anything that a clock says.
    """

    name: str
    same: str  # what is compared, in words
    work: Callable[[Path], object]
    phase: Callable[[Path], str]
    comparable: Callable[[Path], dict[str, object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """Work that was killed once, then gone on with. differs: what is not as in that in peace."""

    after_s: float
    phase: str
    resumed_s: float
    differs: tuple[str, ...]


def arguments_of(description: str | None) -> argparse.ArgumentParser:
    """A parser of what every script that kills takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="to work in; default: a temporary one")
    return parser


def main(arguments: argparse.Namespace, job_in: Callable[[Path], Job]) -> int:
    """Kill, and print the table; 1 where one came to something else.

    job_in: the job, whose data lie in a folder.
    """
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        job = job_in(Path(folder))
        kills, whole_s = kill_all(job, arguments.kills, arguments.seed, Path(folder))
    here = machine()
    print(f"\n{here.cpu}, {here.cores} cores, torch {here.versions['torch']}; {job.name}")
    print(f"In peace it took {whole_s:.1f} s.\n")
    print(f"| killed after | in | gone on, to the end | same {job.same} |")
    print("| ---: | --- | ---: | --- |")
    for kill in sorted(kills, key=lambda kill: kill.after_s):
        same = "no: " + ", ".join(kill.differs) if kill.differs else "yes"
        print(f"| {kill.after_s:.2f} s | {kill.phase} | {kill.resumed_s:.1f} s | {same} |")
    wrong = sum(bool(kill.differs) for kill in kills)
    print(f"\n{len(kills) - wrong} of {len(kills)} came to the same result.")
    return 1 if wrong else 0


def kill_all(job: Job, kills: int, seed: int, folder: Path) -> tuple[list[Kill], float]:
    """Work that often; the second figure is the seconds of the work in peace."""
    generator = np.random.default_rng(seed)
    whole = folder / "whole"
    start = time.monotonic()
    phases = _observed(job, whole)
    whole_s = time.monotonic() - start
    print(f"{whole_s:.0f} s: {', '.join(phases)}", file=sys.stderr, flush=True)
    found: list[Kill] = []
    tries, pace = 0, 1.0
    while len(found) < kills:
        # In every phase in turn, so that none is left out, however short it is.
        begun_s, ended_s = list(phases.values())[len(found) % len(phases)]
        kill = None
        while kill is None:
            after_s = pace * (begun_s + float(generator.random()) * (ended_s - begun_s))
            start = time.monotonic()
            kill = _kill(job, folder / f"run-{tries}", after_s, whole)
            tries += 1
            if kill is None:  # it is faster than the first was, and ended before its death
                pace = min(pace, (time.monotonic() - start) / whole_s)
        found.append(kill)
        same = f"differs in {', '.join(kill.differs)}" if kill.differs else "the same"
        print(f"{len(found)} of {kills}: {kill.phase}, {same}", file=sys.stderr, flush=True)
    return found, whole_s


def _observed(job: Job, out: Path) -> dict[str, tuple[float, float]]:
    """Work in peace, and from when to when it was in each phase, in seconds."""
    start, found = time.monotonic(), dict[str, tuple[float, float]]()
    process = _begin(job, out)
    while process.is_alive():
        name = _phase(job, out).partition(",")[0]
        now = time.monotonic() - start
        if name != DONE:
            found[name] = (found[name][0] if name in found else now, now)
        process.join(LOOK_S)
    _check_ended(job, out, process)
    return found


def _kill(job: Job, out: Path, after_s: float, whole: Path) -> Kill | None:
    """None: it came to its end before."""
    process = _begin(job, out)
    process.join(after_s)
    if not process.is_alive():
        return None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    phase = _phase(job, out)
    start = time.monotonic()
    if phase != DONE:
        _live(job, out)
    resumed_s = time.monotonic() - start
    first, second = job.comparable(out), job.comparable(whole)
    differs = tuple(name for name in first if first[name] != second[name])
    return Kill(after_s=after_s, phase=phase, resumed_s=resumed_s, differs=differs)


def _phase(job: Job, out: Path) -> str:
    try:
        if read_state(out).status == "done":
            return DONE
    except ArtefactError:
        pass
    return job.phase(out)


def _live(job: Job, out: Path) -> None:
    process = _begin(job, out)
    process.join()
    _check_ended(job, out, process)


def _check_ended(job: Job, out: Path, process: multiprocessing.context.ForkProcess) -> None:
    if process.exitcode != 0:
        raise SystemExit(f"{job.name} in {out} ended with exit code {process.exitcode}.")


def _begin(job: Job, out: Path) -> multiprocessing.context.ForkProcess:
    process = FORK.Process(target=_work, args=(job, out))
    process.start()
    return process


def _work(job: Job, out: Path) -> None:
    os.environ["POCKETVISION_CACHE"] = str(out.with_name(f"{out.name}-cache"))
    job.work(out)
