"""What single operators of a file take, as the runtimes' own profilers tell it.

A profiled session is slower than another: it reads the clock around every operator, and what its
operators take together is more than its latency. So these times are good for shares alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from pocketvision.runtimes.onnxfile import INPUT
from pocketvision.runtimes.runtime import OperatorRuns

WARMUP_RUNS = 3
MICROSECONDS_PER_MS = 1e3
NO_KERNEL = ("undef", "unknown")  # how OpenVINO's inputs and merged operators run
_KERNEL = "_kernel_time"  # what ONNX Runtime puts after the name of an operator


def onnxruntime_operators(
    session: onnxruntime.InferenceSession, pixels: NDArray[Any], runs: int
) -> tuple[OperatorRuns, ...]:
    """Operators of a session opened to profile, in the order of their execution; it ends that."""
    for _ in range(WARMUP_RUNS + runs):
        session.run(None, {INPUT: pixels})
    return _from_events(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def openvino_operators(request: Any, pixels: NDArray[Any], runs: int) -> tuple[OperatorRuns, ...]:
    """Operators of a request that was compiled to count; those merged into others are left out."""
    times: dict[tuple[str, str], list[float]] = {}
    for run in range(WARMUP_RUNS + runs):
        request.infer([pixels], share_inputs=True)
        if run < WARMUP_RUNS:
            continue
        for one in request.get_profiling_info():
            # Not by its status: what takes less than a microsecond counts as not run.
            if one.exec_type.startswith(NO_KERNEL):
                continue
            key = (one.node_name, f"{one.node_type} {_precision(one.exec_type)}".strip())
            times.setdefault(key, []).append(1e3 * one.real_time.total_seconds())
    return tuple(
        OperatorRuns(name=name, operator=operator, times_ms=tuple(values))
        for (name, operator), values in times.items()
    )


def _from_events(events: Iterable[dict[str, Any]]) -> tuple[OperatorRuns, ...]:
    """Operators of a profile of ONNX Runtime, the runs that warm up left out."""
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
            continue
        operator = event["args"]["op_name"]
        name = event["name"].removesuffix(_KERNEL) or f"{operator} {event['args']['node_index']}"
        times.setdefault((name, operator), []).append(event["dur"] / MICROSECONDS_PER_MS)
    return tuple(
        OperatorRuns(name=name, operator=operator, times_ms=tuple(values[WARMUP_RUNS:]))
        for (name, operator), values in times.items()
    )


def _precision(kernel: str) -> str:
    """'brgconv_avx512_dw_f32' -> 'f32': what OpenVINO computes an operator in."""
    ending = kernel.rsplit("_", 1)[-1].lower()
    return ending if ending[:1] in "fbiu" and ending.lstrip("bfiu").isdigit() else ""
