"""How much of a file really runs in integers, counted in the graph that the runtime executes.

A quantized file only asks for integers; the runtime decides operator by operator. OpenVINO, for
one, computes depthwise convolutions of INT8 files in float on some processors.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pocketvision.record.files import IntegerWork
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxfile import INPUT, inspect_onnx, random_inputs, read_model
from pocketvision.runtimes.onnxsession import open_session
from pocketvision.runtimes.openvino import OpenVino

INTEGERS = ("u8", "i8", "uint8", "int8")  # as OpenVINO and ONNX Runtime write them
KERNEL = "_kernel_time"  # what a profile of ONNX Runtime puts after the name of an operator


class Product(NamedTuple):
    """A convolution or matrix product as it is executed, for one image."""

    macs: int
    in_integers: bool


def integer_work(path: Path, runtime: str, precision: Precision, threads: int) -> IntegerWork:
    """Count the products of a file that its runtime runs in integers; it is run once on noise.

    What is computed is counted: zeros that fill up channels and groups of pixels too.

    Raises: ArtefactError: a file that cannot be run. MissingExtraError: the runtime is not there.
    """
    if runtime == OpenVino.name:
        products = list(_openvino_products(path, precision, threads))
    else:
        products = list(_onnx_products(path, threads))
    integers = [product for product in products if product.in_integers]
    total = sum(product.macs for product in products)
    return IntegerWork(
        layers=len(integers),
        of=len(products),
        share=sum(product.macs for product in integers) / max(total, 1),
    )


def _onnx_products(path: Path, threads: int) -> Iterator[Product]:
    pixels = random_inputs(inspect_onnx(path))
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "run"
        session = open_session(read_model(path), path, threads, profile=traced)
        session.run(None, {INPUT: pixels[INPUT]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = read_model(traced.with_suffix(".onnx")).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(KERNEL):
            continue
        facts = event["args"]
        operator = facts["op_name"]
        (kind, given), (_, made) = (
            _tensor(facts["input_type_shape"]),
            _tensor(facts["output_type_shape"]),
        )
        if "Conv" in operator:
            names = nodes[event["name"].removesuffix(KERNEL)].input
            weight = next(shape for name in names if len(shape := shapes.get(name, ())) > 2)
            yield Product(math.prod(made) * math.prod(weight[1:]), kind in INTEGERS)
        elif "Gemm" in operator or "MatMul" in operator:
            yield Product(math.prod(made) * given[-1], kind in INTEGERS)


def _tensor(entries: list[dict[str, list[int]]]) -> tuple[str, list[int]]:
    """Type and shape of the first tensor in a list of a profile."""
    ((kind, shape),) = entries[0].items()
    return kind, shape


def _openvino_products(path: Path, precision: Precision, threads: int) -> Iterator[Product]:
    graph: Any = OpenVino().session(path, precision, threads).executed_graph()
    for node in graph.get_ordered_ops():
        facts = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        made = list(node.get_output_shape(0))
        in_integers = facts["runtimePrecision"] in INTEGERS
        if facts["layerType"] == "Convolution":
            weight = list(node.get_input_shape(1))
            yield Product(math.prod(made) * math.prod(weight) // made[1], in_integers)
        elif facts["layerType"] in ("FullyConnected", "MatMul"):
            yield Product(math.prod(made) * node.get_input_shape(0)[-1], in_integers)
