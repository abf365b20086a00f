"""Peers of our INT8 files: ONNX Runtime's static quantization and NNCF, on the same float file."""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pocketvision.runtimes.onnxfile import INPUT, read_model
from pocketvision.runtimes.onnxruntime import in_batches
from pocketvision.runtimes.onnxsession import open_session
from pocketvision.runtimes.runtime import Logits

BATCH = 64


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """Calibration images, one by one."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._left = iter(pixels)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {INPUT: image[None]}


def plain_file(float_onnx: Path, target: Path, calibration: np.ndarray) -> Path:
    """ONNX Runtime's static quantization, as documented."""
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(float_onnx, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, target, _Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True
    )
    return target


def peer_logits(
    float_onnx: Path, work: Path, calibration: np.ndarray, pixels: np.ndarray
) -> dict[str, Logits]:
    """What each peer's INT8 file answers; "float": the float file."""
    plain = plain_file(float_onnx, work / "plain.onnx", calibration)
    return {
        "float": onnx_logits(float_onnx, pixels),
        "ONNX Runtime, plain": onnx_logits(plain, pixels),
        "NNCF, default": nncf_logits(float_onnx, calibration, pixels),
    }


def nncf_logits(float_onnx: Path, calibration: np.ndarray, pixels: np.ndarray) -> Logits:
    """(N, K) of what NNCF makes of a file with its defaults, on OpenVINO."""
    core = openvino.Core()
    images = [image[None] for image in np.ascontiguousarray(calibration)]
    with contextlib.redirect_stdout(sys.stderr):
        quantized = nncf.quantize(
            core.read_model(float_onnx), nncf.Dataset(images), subset_size=len(images)
        )
    found = []
    for size, group in itertools.groupby(_whole_batches(pixels), key=len):
        quantized.reshape([size, *pixels.shape[1:]])
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(quantized, "CPU", options).create_infer_request()
        found += [request.infer([batch])[0].copy() for batch in group]
    return np.concatenate(found)


def onnx_logits(path: Path, pixels: np.ndarray) -> Logits:
    """(N, K) of any exported file, ours or a peer's."""
    session = open_session(read_model(path), path, 1)
    return np.concatenate(
        [session.run(None, {INPUT: batch})[0] for batch in in_batches(pixels, BATCH)]
    )


def _whole_batches(pixels: np.ndarray) -> list[np.ndarray]:
    """OpenVINO compiles anew for every batch size: equal batches, then single images."""
    whole = len(pixels) // BATCH * BATCH
    return [*np.split(pixels[:whole], whole // BATCH), *(image[None] for image in pixels[whole:])]
