"""About how long `quantize` takes, from what one image takes in float."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pocketvision.fitting.quantize_images import Images
from pocketvision.fitting.quantize_source import Source
from pocketvision.measure.latency import FINAL
from pocketvision.runtimes.graph import PRODUCTS
from pocketvision.runtimes.onnxfile import read_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.registry import installed_runtimes

RUNS = 5  # that one image is timed in
# In passes of an image through the float file, and in seconds, from the times that the four runs of
# recipes/int8_cifar10.py recorded; it tells each of them within a third.
CALIBRATION_PASSES = 14.0  # of each calibration image: ranges, weights, biases
LAYER_S = 0.35  # of each layer: a session or two of its own
ALONE_PASSES = 160.0  # for what a layer costs alone; on all cores
OTHER_PASSES = 6.0  # of each calibration image, in the quantizer of another runtime
OTHER_S = 8.0
DECODE_S = 0.001  # of an image of test, which the shipped and the float file see once each


def forecast_s(
    source: Source, images: Images, *, threads: int, explain: bool, runtimes: Sequence[str]
) -> float:
    """Seconds, without training for integers, which few networks need.

    runtimes: whose files are made; empty: of all that are installed. The ladder is climbed on ONNX
    Runtime, whether its files are asked for or not.
    """
    session = OnnxRuntime().session(source.float_onnx, "f32", threads)
    session.run(images.judged[:1])
    began = time.perf_counter()
    for _ in range(RUNS):
        session.run(images.judged[:1])
    image_s = (time.perf_counter() - began) / RUNS
    layers = sum(node.op_type in PRODUCTS for node in read_model(source.float_onnx).graph.node)
    names = runtimes or [runtime.name for runtime in installed_runtimes()]
    others = len(set(names) - {OnnxRuntime.name})
    judging = 3 + 4 * others  # files that see all judged images
    passes = CALIBRATION_PASSES * len(images.calibration) + judging * len(images.judged)
    passes += others * OTHER_PASSES * len(images.calibration)
    passes += ALONE_PASSES * layers if explain else 0
    tested = 0
    if images.test is not None and images.samples is not None:
        tested = len(images.samples.indices("test"))
    passes += 2 * tested
    fixed = FINAL.span_s + layers * LAYER_S * (2 if explain else 1) + others * OTHER_S
    return passes * image_s + fixed + DECODE_S * tested
