"""Where an INT8 file of ONNX Runtime spends its time, operator by operator, beside its float file.

    python benchmarks/int8_operators.py

Networks are untrained (time does not see content). The runtime's profiler slows what it looks at:
times are good for shares.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pocketvision.compress.explain import OperatorTime, operator_times
from pocketvision.measure.device import machine
from pocketvision.measure.untrained import build_files, noise, stand_in, untrained_card
from pocketvision.models.registry import spec
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.registry import get_runtime

NETWORKS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "shufflenet_v2_x1_0")
RUNS = 50
LEAST = 0.01  # of the time of a file: operators that take less are left out


def cell(found: list[OperatorTime]) -> str:
    """Operators by kind, with their number and share."""
    total = sum(one.total_ms for one in found)
    shown = [one for one in found if one.total_ms >= LEAST * total]
    return ", ".join(f"{one.operator} ({one.count}) {one.total_ms / total:.0%}" for one in shown)


def row(name: str, threads: int) -> str:
    """One network's line of the table."""
    network = spec(name)
    runtime = get_runtime("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported.onnx"
        export_onnx(stand_in(network), exported, untrained_card(network))
        files = build_files(runtime, exported, Path(folder), ("f32", "int8"))
        pixels = noise(1, network)
        before, after = (
            operator_times(runtime.profile(files[precision], precision, threads, pixels, RUNS))
            for precision in ("f32", "int8")
        )
    products = [sum(o.total_ms for o in found if o.is_product) for found in (before, after)]
    return f"| {name} | {products[0]:.2f} | {products[1]:.2f} | {cell(after)} |"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Operators of INT8 files.")
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, threads: {threads}, {here.system}, onnxruntime "
        f"{here.versions['onnxruntime']}; 224 px, medians of {RUNS} runs, load {here.load:.2f}\n"
    )
    print("| network | products in float, ms | in integers, ms | time in integers by operator |")
    print("|---|---:|---:|---|")
    for name in NETWORKS:
        print(row(name, threads), flush=True)


if __name__ == "__main__":
    main()
