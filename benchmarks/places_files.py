"""LR-ASPP and SSDLite as `fit` can ship them, against torchvision's own exports, in one run.

    .venv-reference/bin/python benchmarks/places_files.py     # after make reference

Peers: torchvision's lraspp_mobilenet_v3_large and ssdlite320_mobilenet_v3_large with the same
weights, exported by torch.onnx.export with default options and run by ONNX Runtime in float, with
the same thread. Of SSDLite the peer is the network alone: it is spared what ours does behind it,
boxes and probabilities, as both are spared the suppression. Ours takes uint8 pixels and gives the
class of every pixel, or boxes and probabilities. All are timed in turns, with one image a run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from other import import_other
from shipped_file import ratio
from torch import Tensor, nn

from pocketvision.measure.device import machine
from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.measure.untrained import build_files, noise, untrained_card
from pocketvision.models.answering import answering
from pocketvision.models.dense_weights import start_dense
from pocketvision.models.detector import ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.models.networks import AnyNetwork, DenseSpec
from pocketvision.models.segmenter import lr_aspp
from pocketvision.runtimes.export import export_onnx, quiet_exporter
from pocketvision.runtimes.registry import installed_runtimes

PROTOCOL = LatencyProtocol(rounds=30, min_runs=3, seconds=8.0, retries=0)  # all in one run
PEER = "torchvision, onnxruntime f32"
CASES = ((256, "segment"), (520, "segment"), (320, "detect"))  # pixels, task

Run = Callable[[], object]


class _Maps(nn.Module):
    """torchvision's segmenter, or its detector without what follows the network, as a graph."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.theirs = theirs

    def forward(self, images: Tensor) -> Any:
        if hasattr(self.theirs, "classifier"):
            return self.theirs(images)["out"]
        found = self.theirs.head(list(self.theirs.backbone(images).values()))
        return found["cls_logits"], found["bbox_regression"]


def pair_of(task: str, resolution: int, folder: Path) -> tuple[nn.Module, AnyNetwork]:
    """torchvision's network and ours with the same weights."""
    torchvision = import_other("torchvision")
    spec: DenseSpec
    if task == "segment":
        theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=21
        )
        spec = lr_aspp(mobilenet_v3_large(resolution=resolution), 21)
    else:
        theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=91
        )
        spec = ssdlite(mobilenet_v3_large(resolution=resolution, reduced_tail=True), 91)
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    ours, _ = start_dense(spec, folder / "theirs.pth")
    return _Maps(theirs).eval(), ours.eval()


def peer(theirs: nn.Module, resolution: int, folder: Path, threads: int) -> Run:
    """torchvision's network as exported by default, on a normalised image."""
    images, path = torch.randn(1, 3, resolution, resolution), folder / "peer.onnx"
    with quiet_exporter(), torch.no_grad():
        torch.onnx.export(theirs, (images,), path, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {session.get_inputs()[0].name: images.numpy()})


def ours_of(network: AnyNetwork, folder: Path, threads: int) -> dict[str, Run]:
    """Each precision of each runtime that is installed, on uint8 pixels."""
    exported, pixels = folder / "ours.onnx", noise(1, network.spec)
    export_onnx(answering(network), exported, untrained_card(network.spec))
    runs: dict[str, Run] = {}
    for runtime in installed_runtimes():
        wanted = tuple(one for one in runtime.precisions if one != "w8")
        for precision, path in build_files(runtime, exported, folder, wanted).items():
            session = runtime.session(path, precision, threads)
            runs[f"{runtime.name} {precision}"] = partial(session.run, pixels)
    return runs


def compare(task: str, resolution: int, threads: int) -> None:
    """Print the rows of one network."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs, ours = pair_of(task, resolution, folder)
        runs = {PEER: peer(theirs, resolution, folder, threads), **ours_of(ours, folder, threads)}
        with torch.inference_mode():
            found = measure_latency(runs, PROTOCOL, threads)
    for key, latency in found.items():
        print(
            f"| {ours.spec.label} | {key} | {latency.median_ms:.2f} ({latency.low_ms:.2f} to "
            f"{latency.high_ms:.2f}) | {ratio(found[PEER], latency)} | {latency.runs} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {threads} threads, {here.system}, torch "
        f"{torch.__version__}, torchvision {import_other('torchvision').__version__}, onnxruntime "
        f"{onnxruntime.__version__}; load {here.load:.2f}\n"
    )
    print("| network | file | median, ms (95 %) | times as fast as the peer | runs |")
    print("|---|---|---:|---:|---:|")
    for resolution, task in CASES:
        compare(task, resolution, threads)


if __name__ == "__main__":
    main()
