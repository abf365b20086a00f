"""Kill small runs of the main job at random moments, go on with them, and compare the results.

One run is left in peace. Every other gets SIGKILL after a random share of the time that one took,
is gone on with to the end, and must come to the same weights, the same shipped file, the same plan
and the same learning curves. Exit code 1 if one does not.

python scripts/kill_runs.py [--kills 20] [--seed 0] [--folder DIR]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from killing import PLAN, Job, arguments_of, main

from pocketvision.budget import Budget
from pocketvision.data.samples import write_sample
from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import RECORD, TRAINING, read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.models.weights import WEIGHTS_FILE
from pocketvision.record.run import Record
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


def job_in(folder: Path) -> Job:
    """A small run on the digits."""
    config = replace(SMALL, data=str(write_sample("digits", folder / "digits")))
    return Job(
        name=f"fit of {SMALL.models[0]}",
        same="weights, file, plan, curves",
        work=lambda out: run_fit(config, out),
        phase=phase_of,
        comparable=comparable,
    )


def phase_of(out: Path) -> str:
    """What an interrupted run was doing, by what it has saved."""
    try:
        state = read_state(out)
    except ArtefactError:
        return PLAN
    if not state.trained:
        made = len(read_metrics(out / TRAINING / METRICS))
        return f"training, {made} of {SMALL.epochs} epochs made"
    names = [step.name for step in state.steps]
    following = ("quantize", "gate", "measure", "verify", "report")
    return next(name for name in following if name not in names or name == "report")


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
    sys.exit(main(arguments_of(__doc__).parse_args(), job_in))
