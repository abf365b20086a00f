"""Inference in eager PyTorch: this package's modules against torchvision's, in one run.

    make reference && .venv-reference/bin/python benchmarks/eager_inference.py

Both hold the same weights (checked: equal logits), take the same images and run on the same
threads, in turns; the ratio of their medians is what counts.
"""

from __future__ import annotations

from functools import partial

import torch
from other import import_other

from pocketvision.measure.device import machine
from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.models.registry import spec
from pocketvision.nn.conv import BatchNormSpec
from pocketvision.record.timing import Latency

PROTOCOL = LatencyProtocol(rounds=30, min_runs=3, seconds=8.0, retries=2)
NORM = BatchNormSpec(eps=1e-3, momentum=0.01)  # torchvision's for MobileNetV3
NETWORKS = {  # torchvision's name -> ours
    "mobilenet_v2": spec("mobilenet_v2"),
    "mobilenet_v3_large": mobilenet_v3_large(norm=NORM),
    "mobilenet_v3_small": mobilenet_v3_small(norm=NORM),
    "shufflenet_v2_x1_0": spec("shufflenet_v2_x1_0"),
}
THREADS, SIDE, BATCHES = 1, 224, (1, 8)


def twins(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our module and torchvision's with the same weights, in eval mode."""
    ours = NETWORKS[name].build(seed=0).eval()
    theirs = import_other("torchvision").models.get_model(name, weights=None).eval()
    given, places = ours.state_dict(), theirs.state_dict()
    moved = zip(places.items(), given.values(), strict=True)
    theirs.load_state_dict({key: value.reshape(place.shape) for (key, place), value in moved})
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
    return ours, theirs


def cell(latency: Latency) -> str:
    """The median with its interval."""
    return f"{latency.median_ms:.2f} ({latency.low_ms:.2f} to {latency.high_ms:.2f})"


@torch.inference_mode()
def main() -> None:
    """Print the table as Markdown."""
    torch.set_num_threads(THREADS)
    here, rows, runs = machine(), [], 0
    for name in NETWORKS:
        ours, theirs = twins(name)
        for batch in BATCHES:
            images = torch.randn(batch, 3, SIDE, SIDE)
            sessions = {"ours": partial(ours, images), "torchvision": partial(theirs, images)}
            found = measure_latency(sessions, PROTOCOL, THREADS, batch=batch)
            runs = found["ours"].runs
            ratio = found["ours"].median_ms / found["torchvision"].median_ms
            cells = f"{cell(found['torchvision'])} | {cell(found['ours'])} | {ratio:.3f}"
            rows.append(f"| {name} @{SIDE}, batch {batch} | {cells} |")
    print(
        f"{here.cpu}, {here.cores} cores, {THREADS} thread, {here.system}, torch "
        f"{torch.__version__}, torchvision {import_other('torchvision').__version__}; medians of "
        f"{PROTOCOL.rounds} rounds in turns (n = {runs} runs and more), 95 % interval, "
        f"load {here.load:.2f}\n"
    )
    print("| network | torchvision, ms | ours, ms | ours / torchvision |")
    print("|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
