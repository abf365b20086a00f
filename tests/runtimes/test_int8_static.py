"""From a float graph to an INT8 one: which layers, what stays, what is refused, what is odd."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from pocketvision.errors import ConfigError
from pocketvision.runtimes.graph import PRODUCTS, Graph
from pocketvision.runtimes.int8.choose import scale_of
from pocketvision.runtimes.int8.rounding import integer_products
from pocketvision.runtimes.int8.static import (
    Quantized,
    layer_name,
    nodes_of,
    static_int8,
    with_float_layers,
)
from pocketvision.runtimes.onnxsession import open_session
from pocketvision.runtimes.runtime import PLAIN_INT8, Int8Config, Pixels

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]
Quantize = Callable[..., Quantized]

MINMAX = Int8Config(ranges="minmax")
LAYERS = {
    "s": "stem",
    "e": "expand",
    "d": "depthwise",
    "r": "reduce",
    "q": "restore",
    "p": "project",
    "w": "widen",
    "f": "filter",
    "n": "narrow",
    "logits": "head",
}


@pytest.fixture(scope="module")
def plain(tiny_model: onnx.ModelProto, quantize_model: Quantize) -> Quantized:
    return quantize_model(tiny_model, MINMAX)


@pytest.fixture(scope="module")
def chosen(tiny_model: onnx.ModelProto, quantize_model: Quantize) -> Quantized:
    return quantize_model(tiny_model, Int8Config())


def constant(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return np.array(Graph(model).constants[name])


def in_integers(model: onnx.ModelProto) -> list[str]:
    return [product.node.name for product in integer_products(Graph(model))]


def executed(model: onnx.ModelProto, folder: Path) -> set[str]:
    """The operators that ONNX Runtime runs."""
    session = open_session(model, "the model", 1, profile=folder / "run")
    session.end_profiling()
    return {node.op_type for node in onnx.load(folder / "run.onnx").graph.node}


def test_nodes_keep_their_names(tiny_model: onnx.ModelProto, plain: Quantized) -> None:
    """But for what is taken over: the normalisation, and caps, which saturation sees to."""
    names = [node.name for node in plain.model.graph.node]
    assert len(set(names)) == len(names)
    gone = {node.name for node in tiny_model.graph.node} - set(names)
    assert gone == {"floats", "centred", "images", "e2", "r2", "w2", "f2"}
    assert {node.name for node in plain.prepared.graph.node} - set(names) == gone
    assert plain.source.SerializeToString() == tiny_model.SerializeToString()


def test_layers_have_the_names_of_the_network(plain: Quantized) -> None:
    layers = [node for node in plain.prepared.graph.node if node.op_type in PRODUCTS]
    assert {node.name: layer_name(node) for node in layers} == LAYERS
    assert nodes_of(plain.prepared, ["expand", "head"]) == ["e", "e2", "logits"]


def test_every_layer_is_in_integers(plain: Quantized, tmp_path: Path) -> None:
    assert in_integers(plain.model) == list(LAYERS)
    kernels = {"QLinearConv", "QGemm", "QLinearMul", "QLinearAdd", "QLinearLeakyRelu"}
    kernels |= {"QLinearGlobalAveragePool", "Reshape", "Transpose", "Flatten"}
    kernels |= {"Slice", "Shape", "Expand", "Concat"}  # the border of the pixels
    assert executed(plain.model, tmp_path) == kernels


def test_int8_stays_near_the_float_network(
    tiny_model: onnx.ModelProto,
    plain: Quantized,
    chosen: Quantized,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
    evaluate: Evaluate,
) -> None:
    pixels = np.concatenate(tiny_batches)
    expected = evaluate(tiny_model, pixels)
    for found in (quantize_model(tiny_model, PLAIN_INT8), plain, chosen):
        logits = evaluate(found.model, pixels)
        same_class = (logits.argmax(1) == expected.argmax(1)).mean()
        assert same_class > 0.9
        assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.99
        assert sum(found.methods.values()) == len(found.ranges)


def test_the_file_means_what_its_kernels_compute(
    chosen: Quantized, tiny_batches: list[Pixels], evaluate: Evaluate
) -> None:
    """Operator by operator, as the ONNX standard has them, the logits are the same."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(chosen.model.SerializeToString(), options)
    expected = session.run(None, {"input": tiny_batches[0]})[0]
    logits = evaluate(chosen.model, tiny_batches[0])
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())


def test_quantizing_twice_gives_the_same_bytes(
    tiny_model: onnx.ModelProto, chosen: Quantized, quantize_model: Quantize
) -> None:
    again = quantize_model(tiny_model, Int8Config())
    assert again.ranges == chosen.ranges
    assert again.model.SerializeToString(deterministic=True) == chosen.model.SerializeToString(
        deterministic=True
    )


def test_integers_have_the_ranges_that_were_chosen(chosen: Quantized) -> None:
    assert chosen.entry is not None
    for product in integer_products(Graph(chosen.model)):
        method, found = chosen.ranges[product.source]
        assert (method == "pixels") is (product.source == chosen.entry.tensor)
        assert product.scale.scale == pytest.approx(scale_of(found).scale, rel=1e-6)
        assert product.scale.zero == scale_of(found).zero


@pytest.mark.parametrize(
    "layers", [("head",), ("stem",), ("expand", "filter"), tuple(LAYERS.values())]
)
def test_float_layers_alone_stay_in_float(
    layers: tuple[str, ...],
    tiny_model: onnx.ModelProto,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
    evaluate: Evaluate,
) -> None:
    config = Int8Config(ranges="minmax", float_layers=layers)
    found = quantize_model(tiny_model, config)
    expected = [node for node, layer in LAYERS.items() if layer not in layers]
    assert in_integers(found.model) == expected
    stored = {t.name: numpy_helper.to_array(t) for t in found.model.graph.initializer}
    for layer in layers:
        np.testing.assert_array_equal(
            stored[f"network.{layer}.weight"], constant(found.prepared, f"network.{layer}.weight")
        )
    logits = evaluate(found.model, tiny_batches[1])
    reference = evaluate(tiny_model, tiny_batches[1])
    assert np.corrcoef(logits.ravel(), reference.ravel())[0, 1] > 0.99


def test_layers_put_into_float_later_give_the_same_graph(
    tiny_model: onnx.ModelProto,
    plain: Quantized,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
) -> None:
    config = Int8Config(ranges="minmax", float_layers=("project", "stem"))
    later = with_float_layers(plain, config, tiny_batches)
    at_once = quantize_model(tiny_model, config)
    assert later.model.SerializeToString(deterministic=True) == at_once.model.SerializeToString(
        deterministic=True
    )
    assert later.corrected == at_once.corrected
    assert at_once.corrected in (0, 8)  # all where it helps, which the processor decides
    assert in_integers(plain.model) == list(LAYERS)  # what it was made from is as it was


@pytest.mark.parametrize(("unknown", "meant"), [("expnad", "expand"), ("depth", "depthwise")])
def test_an_unknown_float_layer_is_refused(
    unknown: str, meant: str, plain: Quantized, tiny_batches: list[Pixels]
) -> None:
    config = Int8Config(ranges="minmax", float_layers=("head", unknown))
    sentence = f"the network has no layer '{unknown}' to leave in float. Did you mean '{meant}'?"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        with_float_layers(plain, config, tiny_batches)


@pytest.mark.parametrize("layer", LAYERS.values())
def test_only_quantizes_one_layer(
    layer: str, plain: Quantized, tiny_batches: list[Pixels], evaluate: Evaluate
) -> None:
    names = nodes_of(plain.prepared, [layer])
    model = plain.only(names)
    onnx.checker.check_model(model, full_check=True)
    assert in_integers(model) == names[:1]
    kernels = [
        n
        for n in model.graph.node
        if n.op_type == "DequantizeLinear"
        and n.input[0] in {t.name for t in model.graph.initializer}
    ]
    assert len(kernels) == 2  # its weights and its bias
    pixels = tiny_batches[0]
    expected, logits = evaluate(plain.prepared, pixels), evaluate(model, pixels)
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_quantizing_leaves_its_source_and_nothing_else(
    tiny_model: onnx.ModelProto, tiny_batches: list[Pixels], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model.SerializeToString())
    found = static_int8(path, tmp_path / "new" / "folder", tiny_batches, MINMAX)
    assert path.read_bytes() == tiny_model.SerializeToString()
    assert found.source.SerializeToString() == tiny_model.SerializeToString()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"model.onnx", "new", "new/folder"}
