"""Kill small searches at random moments, go on with them, and compare the results.

As kill_runs.py, for `search`: supernet, scores, finalists, then NetAdapt and fine-tuning of what
the search and random search found, timing in turns and shipping, on the digits, in a space of a few
small networks. A network takes here what its work says and not what a clock says, so that two
searches come to the same; all else is as ever, the processes, the files and SIGKILL. The scores,
the members that were found, the steps of NetAdapt, the weights and the shipped file must be the
same. Exit code 1 if one is not.

python scripts/kill_searches.py [--kills 20] [--seed 0] [--folder DIR] [--workers N|ray]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from killing import PLAN, Job, arguments_of, main

from pocketvision.budget import Budget
from pocketvision.cli.options import parse_workers
from pocketvision.data.samples import write_sample
from pocketvision.errors import BudgetError
from pocketvision.fitting.artefact import RECORD, RUN
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.weights import WEIGHTS_FILE
from pocketvision.narrowing.state import STATE as SHRINK_STATE
from pocketvision.record.run import Record
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime
from pocketvision.searching import fastest, search_rivals, search_start, shrink_start
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SearchConfig, SearchState
from pocketvision.searching.search_log import LOG
from pocketvision.searching.search_run import ARMS, SEARCHING, STATE
from pocketvision.storage import from_json, sha256_file
from pocketvision.workers.pool import Workers

SPACE = """
name = "small"
stem = 8
last = 32
hidden = 32
resolutions = [32]

[[stages]]
c_out = 8
stride = 2
depths = [1, 2]
kernels = [3, 5]

[[stages]]
c_out = 16
stride = 2
depths = [1, 2]
expansions = [2.0, 3.0]
"""
MACS_A_MS = 1_000.0  # members take 155 ms and more, far more than their files do here
LIMIT_MS = 260.0


class Work:
    """A machine whose latency is the work of a network."""

    scale = 1.0

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.threads = threads

    def ensure(self, specs: Iterable[ArchSpec]) -> None:
        """Nothing has to be timed."""

    def meet(self, spec: ArchSpec, latency: Latency) -> None:
        """It is right as it is."""

    def latency_ms(self, spec: ArchSpec) -> float:
        return count(spec).macs / MACS_A_MS

    def timed_whole(self, spec: ArchSpec) -> Latency:
        ms = self.latency_ms(spec)
        return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=self.threads)


def job_in(folder: Path, workers: Workers) -> Job:
    """A small search on the digits. workers: that score; of a cluster, it must be running."""
    torch.set_num_threads(1)  # else their number is chosen by a clock, and bits depend on it
    # Until this process and its children end.
    for module in (search_start, shrink_start, fastest):
        mock.patch.object(module, "ScaledTable", Work).start()
    # Rivals are chosen by a clock; they are whole runs of `fit`, which kill_runs.py kills.
    mock.patch.object(search_rivals.Planner, "among", _no_rivals).start()
    space = folder / "small.toml"
    space.write_text(SPACE)
    config = SearchConfig(
        data=str(write_sample("digits", folder / "digits")),
        budget=Budget(latency_ms=LIMIT_MS),
        space=str(space),
        resolutions=(32,),
        runtime="onnxruntime",
        precision="int8",
        supernet_steps=60,
        evaluations=48,
        baselines="all",
        epochs=3,
        max_drop_points=100,
        workers=workers,
    )
    return Job(
        name="search",
        same="scores, members, narrowing, weights, file",
        work=lambda out: run_search(config, out),
        phase=phase_of,
        comparable=comparable,
    )


def _no_rivals(*arguments: object, **named: object) -> None:
    raise BudgetError("None is tried here.")


def state_of(out: Path) -> SearchState:
    path = out / SEARCHING / STATE
    return from_json(SearchState, path.read_bytes(), source=str(path))


def phase_of(out: Path) -> str:
    """What an interrupted search was doing, by what it has saved."""
    if not (out / SEARCHING / STATE).exists():
        return PLAN
    state = state_of(out)
    if not state.steps_made:
        return "supernet"
    if state.found is None:
        log = out / SEARCHING / LOG
        scored = log.read_text().count("\n") if log.exists() else 0
        return f"scoring, {scored} scored"
    done = {arm.name for arm in state.arms}
    name = next((name for name in state.arm_names if name not in done), None)
    if name is None:
        return "shipping"
    arm = out / SEARCHING / ARMS / name
    narrows = any(arm.rglob(SHRINK_STATE)) and not (arm / RUN).exists()
    return f"{'NetAdapt' if narrows else 'fine-tuning and files'} of {name}"


def comparable(out: Path) -> dict[str, object]:
    """What a finished search came to, without anything that a clock says."""
    record = from_json(Record, (out / RECORD).read_bytes(), source=str(out))
    state = state_of(out)
    assert record.search is not None
    return {
        "scores": (out / SEARCHING / LOG).read_text(),
        "members": (state.found, state.drawn),
        "finalists": state.finalists,
        "narrowing": record.narrowing,
        "weights": sha256_file(out / WEIGHTS_FILE),
        "shipped files": record.shipped.files,
        "curves": [replace(epoch, seconds=0.0) for epoch in record.epochs],
        "accuracy": (record.headline, record.confusion),
        "arms": [(arm.name, arm.network, arm.accuracy, arm.shipped) for arm in record.search.arms],
    }


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--workers", help="processes, or ray: a cluster; default: this process")
    asked = parser.parse_args()
    sys.exit(main(asked, partial(job_in, workers=parse_workers(asked.workers))))
