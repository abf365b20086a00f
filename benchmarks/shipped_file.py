"""The files that `fit` can ship against what they replace: batch 1, one thread, in one run.

    python benchmarks/shipped_file.py          # with the openvino extra

Peers: the network in eager PyTorch; the ONNX file that `torch.onnx.export` makes of it in ONNX
Runtime, in float; and what ONNX Runtime's `quantize_static` makes of that file as documented, after
its pre-processing, with a scale per channel. All have default options but for the thread. Ours:
every precision of every installed runtime, with the normalisation of uint8 pixels in the file,
which the peers are spared.
All hold the same untrained weights (time does not see content; ranges for INT8 come from noise),
and are timed in turns. `fit` ships the fastest file whose accuracy on the user's photos holds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pocketvision.measure.device import machine
from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.measure.untrained import build_files, noise, stand_in, untrained_card
from pocketvision.models.arch import Network
from pocketvision.models.registry import spec
from pocketvision.record.timing import Latency
from pocketvision.runtimes.export import export_onnx, quiet_exporter
from pocketvision.runtimes.registry import installed_runtimes

PROTOCOL = LatencyProtocol(rounds=30, min_runs=3, seconds=6.0, retries=0)  # all in one run
NETWORKS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "shufflenet_v2_x1_0")
RESOLUTION = 224
EAGER, FLOAT = "torch eager f32", "onnxruntime f32, plain export"
PLAIN = "onnxruntime int8, plain quantize_static"

Run = Callable[[], object]


def peers(network: Network, folder: Path, threads: int) -> dict[str, Run]:
    """Eager PyTorch, a plain export, and its plain quantization, on normalised images."""
    images = torch.randn(1, 3, RESOLUTION, RESOLUTION)
    path = folder / "plain.onnx"
    with quiet_exporter(), torch.no_grad():
        torch.onnx.export(network, (images,), path, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = [
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for file in (path, quantized(path, images.numpy()))
    ]
    feeds = {sessions[0].get_inputs()[0].name: images.numpy()}
    plain, integers = (partial(session.run, None, feeds) for session in sessions)
    return {EAGER: partial(network, images), FLOAT: plain, PLAIN: integers}


class _Once(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """One batch."""

    def __init__(self, feeds: dict[str, NDArray[np.float32]]) -> None:
        self._left = [feeds]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return self._left.pop() if self._left else None


def quantized(path: Path, images: NDArray[np.float32]) -> Path:
    """ONNX Runtime's static quantization of a file, as its documentation has it."""
    prepared, target = path.with_name("prepared.onnx"), path.with_name("quantized.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    name = onnxruntime.InferenceSession(path).get_inputs()[0].name
    quantize_static(
        prepared, target, _Once({name: images}), quant_format=QuantFormat.QDQ, per_channel=True
    )
    return target


def ours(network: Network, folder: Path, threads: int) -> dict[str, Run]:
    """Each precision of each runtime, on uint8 pixels."""
    exported = folder / "exported.onnx"
    export_onnx(network, exported, untrained_card(network.spec))
    pixels = noise(1, network.spec)
    runs: dict[str, Run] = {}
    for runtime in installed_runtimes():
        files = build_files(runtime, exported, folder, runtime.precisions)
        for precision, path in files.items():
            session = runtime.session(path, precision, threads)
            runs[f"{runtime.name} {precision}"] = partial(session.run, pixels)
    return runs


def ratio(peer: Latency, latency: Latency) -> str:
    """How many times as fast as the peer, and the range that both intervals leave."""
    low, high = peer.low_ms / latency.high_ms, peer.high_ms / latency.low_ms
    return f"{peer.median_ms / latency.median_ms:.2f} ({low:.2f} to {high:.2f})"


@torch.inference_mode()
def compare(name: str, threads: int) -> None:
    """Print the table of one network."""
    network = stand_in(spec(name)).eval()
    assert isinstance(network, Network)
    with tempfile.TemporaryDirectory() as folder:
        theirs = peers(network, Path(folder), threads)
        files = ours(network, Path(folder), threads)
        found = measure_latency({**theirs, **files}, PROTOCOL, threads)
    fastest = min(files, key=lambda way: found[way].median_ms)
    print(f"\n{name} @{RESOLUTION}\n")
    print("| | ms | runs | times as fast as ONNX Runtime float | as torch eager |")
    print("|---|---:|---:|---:|---:|")
    for way, latency in found.items():
        mark = "**" if way == fastest else ""
        ms = f"{latency.median_ms:.2f} ({latency.low_ms:.2f} to {latency.high_ms:.2f})"
        ratios = " | ".join(ratio(found[peer], latency) for peer in (FLOAT, EAGER))
        print(f"| {mark}{way}{mark} | {ms} | {latency.runs} | {ratios} |", flush=True)
    for way in (way for way in found if found[way].noise):
        print(f"\nNot to be trusted: {way}, {found[way].noise}.")


def main(names: list[str], threads: int) -> None:
    """Print the tables as Markdown."""
    torch.set_num_threads(threads)
    here = machine()
    versions = (f"{name} {version}" for name, version in here.versions.items())
    print(
        f"{here.cpu}, {here.cores} cores, threads: {threads}, {here.system}, {', '.join(versions)}"
        f"; batch 1, medians of {PROTOCOL.rounds} rounds in turns, 95 % interval, the fastest file "
        f"in bold, load {here.load:.2f}"
    )
    for name in names:
        compare(name, threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Files that fit ships, beside other ways to run.")
    parser.add_argument("networks", nargs="*", metavar="network", help=", ".join(NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    main(options.networks or list(NETWORKS), options.threads)
