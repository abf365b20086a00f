"""Times the files beside it on the machine it runs on, and writes table.json there.

    python measure.py

It needs Python 3.8 or later, numpy and onnxruntime, and nothing else. What was timed is kept after
every few files: run it again to go on after an interruption.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy
import onnxruntime

Json = Dict[str, Any]
Run = Callable[[], Any]

HERE = Path(__file__).resolve().parent
CHUNK = 40  # files of blocks that are open, and timed in turns, at once
WHOLE_CHUNK = 4  # of whole networks, which are larger
WHOLE = ("dense", "scenes")
ROUNDS = 20
ANCHOR_MS = "anchor_ms"  # in timed.json, beside the files
SECONDS = 0.2  # of counted runs, for each file


def main() -> None:
    """Time what is missing in table.json, a chunk at a time."""
    bundle = json.loads((HERE / "bundle.json").read_text())
    known = read_known()
    missing = [entry for entry in bundle["files"] if entry["file"] not in known]
    anchor = anchor_of(bundle["files"])
    print(f"{len(missing)} files to time.")
    shapes = {entry["file"]: entry.get("shape") for entry in bundle["files"]}
    done = 0
    for chunk in chunks(missing):
        names = [entry["file"] for entry in chunk]
        runs = {
            name: opened(HERE / name, bundle["threads"], shapes[name]) for name in {*names, anchor}
        }
        time_in_turns(names, runs, anchor, bundle["threads"], known)
        write(HERE / "timed.json", known)
        done += len(chunk)
        print(f"{done} of {len(missing)}", flush=True)
    write(HERE / "table.json", table(bundle, known))
    print(f"Wrote {HERE / 'table.json'}")


def read_known() -> Json:
    """Figures of an earlier, interrupted run."""
    path = HERE / "timed.json"
    known: Json = json.loads(path.read_text()) if path.exists() else {}
    return known if ANCHOR_MS in known else {}  # by a script that had no anchor


def chunks(files: List[Json]) -> List[List[Json]]:
    """Those that are opened at once: many that are small, few that are large."""
    found = []
    for is_whole, size in ((False, CHUNK), (True, WHOLE_CHUNK)):
        alike = [entry for entry in files if (entry["kind"] in WHOLE) == is_whole]
        found += [alike[start : start + size] for start in range(0, len(alike), size)]
    return found


def anchor_of(files: List[Json]) -> str:
    """The file that all others are timed beside: a whole network, if there is one."""
    order = ("wholes", *WHOLE, "carriers", "layers")
    name: str = min(files, key=lambda entry: order.index(entry["kind"]))["file"]
    return name


def time_in_turns(
    names: List[str], runs: Dict[str, Run], anchor: str, threads: int, known: Json
) -> None:
    """Add the figures of single runs to `known`, by file, in milliseconds.

    Every round takes the files in another order, and the anchor with them: what the others take is
    told for a device as fast as it was at first, however warm or busy it became.
    """
    counts = {name: runs_per_round(run) for name, run in runs.items()}
    times: Json = {name: [] for name in runs}
    order = list(runs)
    for _ in range(ROUNDS):
        random.shuffle(order)
        for name in order:
            runs[name]()  # after another file, caches are cold
            times[name].append([once(runs[name]) for _ in range(counts[name])])
    anchors = numpy.median(numpy.array(times[anchor]), axis=1)
    anchor_ms = known.setdefault(ANCHOR_MS, float(numpy.median(anchors)))
    for name in names:
        scaled = numpy.array(times[name]) * (anchor_ms / anchors)[:, None]
        known[name] = figures(scaled, threads)


def opened(path: Path, threads: int, shape: Optional[List[int]]) -> Run:
    """As pocketvision opens it. shape: of what it takes; None: one image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    generator = numpy.random.default_rng(0)
    sides = shape or [1 if isinstance(axis, str) else axis for axis in wanted.shape]
    if wanted.type == "tensor(uint8)":
        pixels = generator.integers(0, 256, sides, dtype=numpy.uint8)
    else:  # raw spectra, or what a layer in float takes
        pixels = generator.uniform(0, 10_000, sides).astype(numpy.float32)
    return lambda: session.run(None, {wanted.name: pixels})


def runs_per_round(run: Run) -> int:
    """So many that the rounds together take SECONDS."""
    typical = sorted(once(run) for _ in range(5))[2]
    return max(1, min(2000, round(1000 * SECONDS / ROUNDS / max(typical, 1e-4))))


def once(run: Run) -> float:
    """Milliseconds."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def figures(times: Any, threads: int) -> Json:
    """Median and its 95 % interval, from rounds drawn again; times: (rounds, runs)."""
    draws = numpy.random.default_rng(0).integers(0, len(times), (400, len(times)))
    medians = [float(numpy.median(times[draw])) for draw in draws]
    median = float(numpy.median(times))
    return {
        "median_ms": median,
        "p95_ms": float(numpy.percentile(times, 95)),
        "low_ms": min(median, float(numpy.percentile(medians, 2.5))),
        "high_ms": max(median, float(numpy.percentile(medians, 97.5))),
        "runs": int(times.size),
        "threads": threads,
        "batch": 1,
        "noise": "",
    }


def table(bundle: Json, known: Json) -> Json:
    """What `--target` takes."""
    timed: Json = {"carriers": [], "wholes": [], "dense": [], "scenes": [], "layers": []}
    for entry in bundle["files"]:
        row = {name: entry[name] for name in ("network", "bands", "form") if name in entry}
        row["latency"] = known[entry["file"]]
        timed[entry["kind"]].append(row)
    return {
        "schema_version": bundle["schema_version"],
        "machine": machine(),
        "runtime": "onnxruntime",
        "precision": bundle["precision"],
        "threads": bundle["threads"],
        ANCHOR_MS: known[ANCHOR_MS],
        **timed,
    }


def machine() -> Json:
    """This machine, as far as Python says."""
    return {
        "cpu": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "features": [],
        "memory_bytes": 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {"numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0,
    }


def processor() -> str:
    """Its name where the system tells it."""
    for path, key in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text().strip("\0")
        except OSError:
            continue
        if not key:
            return text.strip()
        for line in text.splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def write(path: Path, value: Json) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)


if __name__ == "__main__":
    main()
