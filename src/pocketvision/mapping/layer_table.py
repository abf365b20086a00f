"""How long patch classifiers take on this machine: the sum of their layers, each timed by itself.

A layer is timed as the dense file of a network has it: a 3-D convolution over slices, the first
linear one as a convolution over its whole map. In INT8 bytes go in and come out, as between the
layers of a file. What stands between layers (slices, sums, gates) is left out; a whole file that
was timed sets the scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketvision.measure.latency import LatencyProtocol, Run, measure_beside, measure_latency
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import LayerForm, layer_forms
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.direct import IR_VERSION, OPSET
from pocketvision.runtimes.onnxsession import open_session

LAYERS = LatencyProtocol(rounds=20, min_runs=1, seconds=0.2)
SCALES = (0.02, 0.01, 0.02)  # of input, weights and output: integers of any scale take as long


class LayerTable:
    """Sums over layers; layers that are new are timed beside the first that was."""

    def __init__(self, precision: Precision, threads: int) -> None:
        self.precision, self.threads = precision, threads
        self.scale = 1.0
        self.known: dict[LayerForm, Latency] = {}
        self._anchor: tuple[Run, float] | None = None

    def ensure(self, specs: Iterable[PatchSpec]) -> None:
        """Time the layers that are new."""
        self.time(form for spec in specs for form in layer_forms(spec))

    def time(self, forms: Iterable[LayerForm]) -> None:
        """As `ensure`, for the layers themselves."""
        runs = {
            form: layer_run(form, self.precision, self.threads)
            for form in dict.fromkeys(forms)
            if form not in self.known
        }
        if not runs:
            return
        named = {str(number): run for number, run in enumerate(runs.values())}
        if self._anchor is None:
            found = measure_latency(named, LAYERS, self.threads)
            self._anchor = named["0"], found["0"].median_ms
        else:
            anchor, anchor_ms = self._anchor
            found = measure_beside(anchor, named, LAYERS, self.threads, anchor_ms=anchor_ms)
        for number, form in enumerate(runs):
            self.known[form] = found[str(number)]

    def latency_ms(self, spec: PatchSpec) -> float:
        """The sum of the layers, scaled."""
        self.ensure([spec])
        return self.scale * sum(self.known[form].median_ms for form in layer_forms(spec))

    def meet(self, spec: PatchSpec, latency: Latency) -> None:
        """From now on, `spec` takes by the table what its whole file took when it was timed."""
        self.scale *= latency.median_ms / self.latency_ms(spec)


def layer_run(form: LayerForm, precision: Precision, threads: int) -> Run:
    """One run of a layer with a ReLU behind it, its input being in memory."""
    model = layer_model(form, integers=precision == "int8")
    session = open_session(model, f"a layer of {form}", threads)
    generator = np.random.default_rng(0)
    pixels: NDArray[Any] = generator.uniform(0, 1, form.in_shape).astype(np.float32)
    if precision == "int8":
        pixels = generator.integers(0, 256, form.in_shape, dtype=np.uint8)
    return partial(session.run, None, {"x": pixels})


def layer_model(form: LayerForm, *, integers: bool) -> onnx.ModelProto:
    """A file of one layer; in integers, bytes go in and come out."""
    generator = np.random.default_rng(0)
    shape = (form.c_out, form.c_in // form.groups, form.kernel, form.kernel)
    weights: NDArray[Any] = generator.normal(0, 0.05, shape).astype(np.float32)
    bias: NDArray[Any] = generator.normal(0, 0.05, form.c_out).astype(np.float32)
    kind = TensorProto.UINT8 if integers else TensorProto.FLOAT
    conv = helper.make_node("Conv", ["a", "w", "b"], ["c"], group=form.groups)
    relu = helper.make_node("Relu", ["c"], ["r" if integers else "y"])
    constants = {"w": weights, "b": bias}
    nodes = [conv, relu]
    if integers:
        x_scale, w_scale, y_scale = (np.float32(scale) for scale in SCALES)
        per_channel = np.full(form.c_out, w_scale, np.float32)
        constants = {
            "q": generator.integers(-60, 60, shape, dtype=np.int8),
            "z": np.zeros(form.c_out, np.int8),
            "k": generator.integers(-60, 60, form.c_out, dtype=np.int32),
            "i": np.zeros(form.c_out, np.int32),
            "xs": np.array(x_scale),
            "xz": np.array(0, np.uint8),
            "ws": per_channel,
            "bs": per_channel * x_scale,
            "ys": np.array(y_scale),
            "yz": np.array(0, np.uint8),
        }
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["a"]),
            helper.make_node("DequantizeLinear", ["q", "ws", "z"], ["w"], axis=0),
            helper.make_node("DequantizeLinear", ["k", "bs", "i"], ["b"], axis=0),
            *nodes,
            helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["y"]),
        ]
    else:
        conv.input[0] = "x"
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", kind, form.in_shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
