"""Kill small runs of the main job at random moments, go on with them, and compare the results.

One run is left in peace. Every other gets SIGKILL after a random share of the time that one took,
is gone on with to the end, and must come to the same weights, the same shipped file, the same plan
and the same learning curves. Exit code 1 if one does not.

python scripts/kill_runs.py [--kills 20] [--seed 0] [--folder DIR]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pocketvision.budget import Budget
from pocketvision.data.samples import write_sample
from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import RECORD, TRAINING, read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.measure.device import machine
from pocketvision.models.weights import WEIGHTS_FILE
from pocketvision.record import Record
from pocketvision.storage import from_json, sha256_file
from pocketvision.train.watch import METRICS, read_metrics

# One precision, so that the choice of the file that ships does not hang on a clock.
SMALL = FitConfig(
    data="",
    budget=Budget(latency_ms=1000, size_bytes=10_000_000),
    models=("mobilenet_v3_small",),  # its head has dropout
    widths=(0.35,),
    resolutions=(32,),
    runtimes=("onnxruntime",),
    precisions=("int8",),
    max_drop_points=100,
    epochs=3,
)
FORK = multiprocessing.get_context("fork")  # the libraries are loaded once


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One run: killed once, then gone on with. differs: what is not as in the run in peace."""

    after_s: float
    phase: str
    resumed_s: float
    differs: tuple[str, ...]


def main() -> int:
    """Read the arguments, kill, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the runs; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        kills, whole_s = kill_runs(arguments.kills, arguments.seed, Path(folder))
    here = machine()
    print(f"\n{here.cpu}, {here.cores} cores, torch {here.versions['torch']}; {SMALL.models[0]}")
    print(f"The run in peace took {whole_s:.1f} s.\n")
    print("| killed after | in | gone on, to the end | same weights, file, plan, curves |")
    print("| ---: | --- | ---: | --- |")
    for kill in sorted(kills, key=lambda kill: kill.after_s):
        same = "no: " + ", ".join(kill.differs) if kill.differs else "yes"
        print(f"| {kill.after_s:.2f} s | {kill.phase} | {kill.resumed_s:.1f} s | {same} |")
    wrong = sum(bool(kill.differs) for kill in kills)
    print(f"\n{len(kills) - wrong} of {len(kills)} came to the same result.")
    return 1 if wrong else 0


def kill_runs(kills: int, seed: int, folder: Path) -> tuple[list[Kill], float]:
    """Make the runs; the second figure is the seconds of the one in peace."""
    generator = np.random.default_rng(seed)
    config = replace(SMALL, data=str(write_sample("digits", folder / "digits")))
    whole = folder / "whole"
    start = time.monotonic()
    _live(config, whole)
    whole_s = time.monotonic() - start
    # One death in every part of the time, so that no phase is left out.
    shares = (np.arange(kills) + generator.random(kills)) / kills
    found: list[Kill] = []
    shortest_s, tries = whole_s, 0
    for share in generator.permutation(shares):
        kill = None
        while kill is None:  # on a machine with other work, a run can end before its death
            out, start = folder / f"run-{tries}", time.monotonic()
            tries += 1
            kill = _kill(config, out, float(share) * shortest_s, whole)
            if kill is None:
                shortest_s = min(shortest_s, time.monotonic() - start)
        found.append(kill)
        print(f"{len(found)} of {kills}: {kill.phase}", file=sys.stderr, flush=True)
    return found, whole_s


def _kill(config: FitConfig, out: Path, after_s: float, whole: Path) -> Kill | None:
    """None: it came to its end before."""
    process = _begin(config, out)
    process.join(after_s)
    if not process.is_alive():
        return None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    phase = phase_of(out)
    start = time.monotonic()
    if phase != "done":
        _live(config, out)
    resumed_s = time.monotonic() - start
    return Kill(after_s=after_s, phase=phase, resumed_s=resumed_s, differs=differences(out, whole))


def _live(config: FitConfig, out: Path) -> None:
    process = _begin(config, out)
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"The run in {out} ended with exit code {process.exitcode}.")


def _begin(config: FitConfig, out: Path) -> multiprocessing.context.ForkProcess:
    process = FORK.Process(target=_fit, args=(config, out))
    process.start()
    return process


def _fit(config: FitConfig, out: Path) -> None:
    os.environ["POCKETVISION_CACHE"] = str(out.with_name(f"{out.name}-cache"))
    run_fit(config, out)


def phase_of(out: Path) -> str:
    """What an interrupted run was doing, by what it has saved."""
    try:
        state = read_state(out)
    except ArtefactError:
        return "plan"
    if state.status == "done":
        return "done"
    if not state.trained:
        made = len(read_metrics(out / TRAINING / METRICS))
        return f"training, {made} of {SMALL.epochs} epochs made"
    names = [step.name for step in state.steps]
    following = ("quantize", "gate", "measure", "verify", "report")
    return next(name for name in following if name not in names or name == "report")


def differences(out: Path, whole: Path) -> tuple[str, ...]:
    """Names of what is not the same in two folders; figures of the clock are left out."""
    first, second = comparable(out), comparable(whole)
    return tuple(name for name in first if first[name] != second[name])


def comparable(out: Path) -> dict[str, object]:
    """What a finished run came to, without anything that a clock says."""
    state = read_state(out)
    record = from_json(Record, (out / RECORD).read_bytes(), source=str(out))
    return {
        "weights": sha256_file(out / WEIGHTS_FILE),
        "shipped files": record.shipped.files,
        "plan": (state.ranking, state.train),
        "tried": [
            (t.network, t.runtime, t.precision, t.size_bytes, t.chosen) for t in record.tried
        ],
        "curves": [replace(epoch, seconds=0.0) for epoch in record.epochs],
        "steps": [step.name for step in record.steps],
        "accuracy": (record.headline, record.confusion),
        "folder": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
    }


if __name__ == "__main__":
    sys.exit(main())
