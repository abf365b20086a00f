"""What figures and post-processing take beside the networks they are about.

    python benchmarks/places_figures.py     # with the detection extra

SSDLite and LR-ASPP on MobileNetV3-Large, untrained, in ONNX Runtime with one thread: the time of
the network for one image, of `boxes.select` behind it, and of scoring an image with all figures
and their intervals, over IMAGES made-up images (answers near made-up truths, with noise).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.boxes import TOLD, Objects, select
from pocketvision.measure.detection import detection_scores
from pocketvision.measure.detection_judge import DetectionJudge
from pocketvision.measure.device import machine
from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.measure.segmentation import SegmentationJudge, iou_score
from pocketvision.measure.untrained import build_files, noise, write_untrained
from pocketvision.models.detector import ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.models.networks import AnySpec
from pocketvision.models.segmenter import lr_aspp
from pocketvision.runtimes.registry import get_runtime

PROTOCOL = LatencyProtocol(rounds=20, min_runs=3, seconds=4.0, retries=0)
IMAGES, CLASSES, OBJECTS = 500, 20, 10
HEIGHT, WIDTH = 360, 480  # of the images
REPEATS = 3


def network_ms(spec: AnySpec, threads: int) -> dict[str, float]:
    """Median of one image, by precision."""
    runtime = get_runtime("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "float.onnx"
        write_untrained(spec, exported)
        files = build_files(runtime, exported, Path(folder), ("f32", "int8"))
        runs: dict[str, Callable[[], object]] = {
            precision: partial(runtime.session(path, precision, threads).run, noise(1, spec))
            for precision, path in files.items()
        }
        found = measure_latency(runs, PROTOCOL, threads)
    return {name: latency.median_ms for name, latency in found.items()}


def each_ms(work: Callable[[], object], images: int) -> float:
    """Median milliseconds an image of a few repeats."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start) / images)
    return statistics.median(times)


def detections(anchors: int) -> tuple[DetectionJudge, np.ndarray]:
    """Truths, and answers of which one anchor an object is near it."""
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 0.7, (IMAGES * OBJECTS, 2))
    boxes = np.concatenate([low, low + generator.uniform(0.05, 0.3, low.shape)], 1)
    labels = generator.integers(0, CLASSES, len(boxes)).astype(np.int32)
    objects = Objects(
        boxes=boxes.astype(np.float32),
        labels=labels,
        ignored=np.zeros(len(boxes), bool),
        starts=np.arange(0, len(boxes) + 1, OBJECTS),
    )
    answers = np.zeros((IMAGES, anchors, 5 + CLASSES), np.float32)
    corners = generator.uniform(0, 0.8, (IMAGES, anchors, 2))
    answers[..., :2], answers[..., 2:4] = corners, corners + 0.2
    # Most anchors are sure of the background, as a trained detector's are.
    chances = generator.random((IMAGES, anchors, CLASSES)) ** 12 * 0.05
    answers[..., 5:] = chances
    for image in range(IMAGES):
        rows = generator.choice(anchors, OBJECTS, replace=False)
        one = slice(image * OBJECTS, (image + 1) * OBJECTS)
        answers[image, rows, :4] = boxes[one] + generator.normal(0, 0.01, (OBJECTS, 4))
        answers[image, rows, 5 + labels[one]] = generator.uniform(0.2, 0.9, OBJECTS)
    answers[..., 4] = np.clip(1 - answers[..., 5:].sum(-1), 0, 1)
    sizes = np.tile(np.array([[WIDTH, HEIGHT]], np.int32), (IMAGES, 1))
    names = tuple(map(str, range(CLASSES)))
    return DetectionJudge(objects=objects, sizes=sizes, classes=names), answers


def maps(side: int) -> tuple[SegmentationJudge, np.ndarray]:
    """Truths of whole photos, and maps of the network's size that are wrong in a tenth."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, CLASSES, (IMAGES, 6, 8)).astype(np.uint8)
    truth = coarse.repeat(HEIGHT // 6, 1).repeat(WIDTH // 8, 2)
    answers = generator.integers(0, CLASSES, (IMAGES, side, side)).astype(np.uint8)
    rows, columns = (np.arange(side) * n // side for n in (6, 8))
    right = generator.random(answers.shape) < 0.9
    answers = np.where(right, coarse[:, rows[:, None], columns], answers)
    judge = SegmentationJudge(read=lambda row: truth[row], rows=np.arange(IMAGES), classes=CLASSES)
    return judge, answers


def row(name: str, networks: dict[str, float], after: float, figures: float) -> str:
    """One line of the table."""
    fast = min(networks.values())
    cells = ", ".join(f"{ms:.2f} {precision}" for precision, ms in networks.items())
    return (
        f"| {name} | {cells} | {after:.3f} ({after / (fast + after):.1%} of the fastest) | "
        f"{figures:.2f} ({figures / (fast + figures):.1%}) |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {threads} threads, {here.system}; {IMAGES} images of "
        f"{WIDTH}x{HEIGHT}, {CLASSES} classes, {OBJECTS} objects each; medians of {REPEATS}; load "
        f"{here.load:.2f}\n"
    )
    print("| network | network, ms | behind it, ms | figures an image, ms |")
    print("|---|---|---:|---:|")
    detector = ssdlite(mobilenet_v3_large(resolution=320, reduced_tail=True), CLASSES + 1)
    judge, answers = detections(detector.num_anchors)
    behind = each_ms(lambda: [select(one[:, :4], one[:, 4:], TOLD) for one in answers], IMAGES)

    def figures() -> None:
        found = judge.found(answers)
        judge.score(found)
        detection_scores(found, judge.objects, judge.sizes, judge.classes)

    print(row(detector.label, network_ms(detector, threads), behind, each_ms(figures, IMAGES)))
    segmenter = lr_aspp(mobilenet_v3_large(resolution=256), CLASSES)
    seen, said = maps(256)
    counted = each_ms(lambda: iou_score(seen.counts(said)), IMAGES)
    print(row(segmenter.label, network_ms(segmenter, threads), 0.0, counted))


if __name__ == "__main__":
    main()
