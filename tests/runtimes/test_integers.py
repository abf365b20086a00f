"""Integers are counted in the graph that runs, and all multiply-accumulates are found in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketvision.errors import ArtefactError
from pocketvision.measure.count import count
from pocketvision.models.arch import Network
from pocketvision.nn.layer import Layer
from pocketvision.runtimes import integers
from pocketvision.runtimes.integers import integer_work
from pocketvision.runtimes.openvino import OpenVino
from pocketvision.runtimes.runtime import PLAIN_INT8, Calibration, Pixels


def layers(network: Network) -> tuple[Layer, ...]:
    return count(network.spec).layers


def test_int8_file_of_onnxruntime_is_integers_throughout(int8_file: Path, network: Network) -> None:
    work = integer_work(int8_file, "onnxruntime", "int8", 1)
    assert work.layers == work.of == len(layers(network))
    assert work.share == 1
    macs = sum(product.macs for product in integers._onnx_products(int8_file, 1))
    # What fills up channels, and the grouped pixels of the stem, come on top.
    assert count(network.spec).macs < macs < 1.5 * count(network.spec).macs


def test_float_file_has_none(float_file: Path, network: Network) -> None:
    work = integer_work(float_file, "onnxruntime", "f32", 1)
    assert (work.layers, work.of, work.share) == (0, len(layers(network)), 0)


def test_openvino_says_what_it_computes_in_float(
    float_file: Path, network: Network, pixels: Pixels, tmp_path: Path
) -> None:
    """Depthwise convolutions are the ones it may leave in float, as the processor has it."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    runtime, path = OpenVino(), tmp_path / "model.xml"
    runtime.quantize(float_file, path, Calibration(pixels=pixels, config=PLAIN_INT8))
    products = list(integers._openvino_products(path, "int8", 1))
    assert sum(product.macs for product in products) == count(network.spec).macs
    work = integer_work(path, "openvino", "int8", 1)
    dense = [layer for layer in layers(network) if layer.groups == 1]
    assert work.of == len(layers(network))
    assert work.layers >= len(dense)
    assert work.share >= sum(layer.macs for layer in dense) / count(network.spec).macs


def test_half_of_a_file_is_half(monkeypatch: pytest.MonkeyPatch) -> None:
    half = [integers.Product(75, True), integers.Product(25, False)]
    monkeypatch.setattr(integers, "_onnx_products", lambda *_: half)
    work = integer_work(Path("any"), "onnxruntime", "int8", 1)
    assert (work.layers, work.of, work.share) == (1, 2, 0.75)


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("text")
    with pytest.raises(ArtefactError, match=r"model\.onnx is not an ONNX model: it is a text file"):
        integer_work(tmp_path / "model.onnx", "onnxruntime", "f32", 1)
