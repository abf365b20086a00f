"""ONNX Runtime: its INT8 files hold integers, stay near the float network, and keep their card."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from pocketvision.cpu import Cpu
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.runtimes import onnxruntime as module
from pocketvision.runtimes.int8 import static
from pocketvision.runtimes.onnxfile import metadata, read_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import PLAIN_INT8, Calibration, FileCard, Logits, Pixels

RUNTIME = OnnxRuntime()


def cosine(left: Logits, right: Logits) -> float:
    a, b = (x - x.mean(0) for x in (left, right))  # what differs from image to image
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def weight_bytes(path: Path) -> Counter[int]:
    """Bytes of stored tensors by element type."""
    counts: Counter[int] = Counter()
    for tensor in read_model(path).graph.initializer:
        counts[tensor.data_type] += numpy_helper.to_array(tensor).nbytes
    return counts


def test_int8_file_stays_near_the_float_one(
    float_file: Path, int8_file: Path, pixels: Pixels
) -> None:
    reference = RUNTIME.session(float_file, "f32", 1).run(pixels)
    logits = RUNTIME.session(int8_file, "int8", 1).run(pixels)
    assert logits.dtype == np.float32
    assert logits.shape == (24, 4)
    assert cosine(logits, reference) > 0.98


def test_int8_weights_are_integers_per_channel(float_file: Path, int8_file: Path) -> None:
    stored = weight_bytes(int8_file)
    assert stored[TensorProto.INT8] > 0.8 * sum(stored.values())
    assert int8_file.stat().st_size < 0.6 * float_file.stat().st_size
    model = read_model(int8_file)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    scales = [
        tensors[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in kernels
    ]
    assert len(scales) == len(kernels)
    assert all(scale.ndim == 1 for scale in scales)


def test_every_layer_runs_in_integers(int8_file: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(int8_file), options)
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert found["QLinearConv"] > 10
    assert found["QLinearGlobalAveragePool"] > 1
    floats = {"Conv", "HardSigmoid", "HardSwish", "Mul", "Sub", "Cast", "Gemm", "MatMul"}
    assert not floats & set(found)
    # The bytes of the pixels go in as they are, and the sums of the last layer come out.
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == 0


def test_int8_file_keeps_its_card(float_file: Path, int8_file: Path, card: FileCard) -> None:
    pairs = metadata(read_model(int8_file))
    assert FileCard.from_metadata(pairs, source="file") == card
    how = json.loads(pairs.pop("quantization"))
    assert pairs == metadata(read_model(float_file))
    assert (how["ranges"], how["percentile"], how["images"]) == ("chosen", 99.99, 24)
    assert [path.name for path in int8_file.parent.iterdir()] == ["model.onnx"]


def test_minmax_needs_one_image_and_batches_change_nothing(
    float_file: Path, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RUNTIME.quantize(float_file, tmp_path / "a", Calibration(pixels=pixels[:1], config=PLAIN_INT8))
    assert RUNTIME.session(tmp_path / "a", "int8", 1).run(pixels[:2]).shape == (2, 4)
    RUNTIME.quantize(float_file, tmp_path / "a", Calibration(pixels=pixels, config=PLAIN_INT8))
    monkeypatch.setattr(module, "BATCH_PIXELS", 5 * 32 * 32)  # 5 + 5 + 5 + 5 + 4 images
    RUNTIME.quantize(float_file, tmp_path / "b", Calibration(pixels=pixels, config=PLAIN_INT8))
    np.testing.assert_allclose(
        RUNTIME.session(tmp_path / "a", "int8", 1).run(pixels),
        RUNTIME.session(tmp_path / "b", "int8", 1).run(pixels),
        rtol=1e-4,
    )


def test_weights_take_seven_bits_without_vnni(
    float_file: Path, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = {}
    for features in (("avx2",), ("avx2", "avx512_vnni")):
        processor = Cpu(name="test", architecture="x86_64", features=features)
        monkeypatch.setattr(static, "cpu", lambda processor=processor: processor)
        path = tmp_path / "model.onnx"
        RUNTIME.quantize(float_file, path, Calibration(pixels=pixels[:2], config=PLAIN_INT8))
        model = read_model(path)
        largest = max(
            np.abs(numpy_helper.to_array(tensor).astype(int)).max()
            for tensor in model.graph.initializer
            if tensor.data_type == TensorProto.INT8 and tensor.dims
        )
        bits[json.loads(metadata(model)["quantization"])["weight_bits"]] = int(largest)
    assert bits == {7: 64, 8: 127}


def test_quantizing_is_silent(float_file: Path, pixels: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", pixels[:4])
    program = (
        "import sys, pathlib, numpy as np\n"
        "from pocketvision.runtimes.onnxruntime import OnnxRuntime\n"
        "from pocketvision.runtimes.runtime import Calibration\n"
        "source, pixels, target = map(pathlib.Path, sys.argv[1:])\n"
        "OnnxRuntime().quantize(source, target, Calibration(pixels=np.load(pixels)))\n"
        "OnnxRuntime().session(target, 'int8', 2).run(np.load(pixels))\n"
    )
    files = (float_file, tmp_path / "pixels.npy", tmp_path / "int8.onnx")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_convert_copies(float_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / RUNTIME.file_name("model")
    RUNTIME.convert(float_file, target)
    assert target.read_bytes() == float_file.read_bytes()
    assert RUNTIME.files(target) == (target,)
    RUNTIME.check()


def test_session_describes_itself_and_gives_the_same_with_more_threads(
    float_file: Path, pixels: Pixels
) -> None:
    session = RUNTIME.session(float_file, "f32", 2)
    described = session.describe()
    assert (described["precision"], described["threads"]) == ("f32", "2")
    single = RUNTIME.session(float_file, "f32", 1)
    np.testing.assert_allclose(session.run(pixels), single.run(pixels), atol=1e-5)
    np.testing.assert_allclose(single.run(pixels)[3:4], single.run(pixels[3:4]), atol=1e-5)


def test_wrong_use_is_refused(
    float_file: Path, int8_file: Path, pixels: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match="is a file in f32; it cannot be run as int8"):
        RUNTIME.session(float_file, "int8", 1)
    with pytest.raises(ArtefactError, match="is a file in int8; it cannot be run as f32"):
        RUNTIME.session(int8_file, "f32", 1)
    with pytest.raises(ConfigError, match="precision='bf16' is unknown"):
        RUNTIME.session(float_file, "bf16", 1)
    with pytest.raises(ConfigError, match=r"threads=0 is out of range; expected 1 to 256"):
        RUNTIME.session(float_file, "f32", 0)
    with pytest.raises(ConfigError, match="calibration pixels is 24x16x16x3; expected anyx32x32x3"):
        RUNTIME.quantize(float_file, tmp_path / "x", Calibration(pixels=pixels[:, ::2, ::2].copy()))
    with pytest.raises(ConfigError, match="pixels is 24x16x16x3; expected anyx32x32x3"):
        RUNTIME.session(float_file, "f32", 1).run(pixels[:, ::2, ::2])
    foreign = read_model(float_file)
    foreign.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    with pytest.raises(ArtefactError, match="must take one uint8 input 'input' of four axes"):
        RUNTIME.session(tmp_path / "foreign.onnx", "f32", 1)
