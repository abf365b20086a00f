"""Files of networks that were never trained: for timing, which content does not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.record.words import Precision
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.onnxfile import inspect_onnx
from pocketvision.runtimes.runtime import PLAIN_INT8, Calibration, FileCard, Runtime


def write_untrained(spec: AnySpec, path: Path) -> None:
    """A file of `spec` to be timed, into a folder that must be there."""
    write_directly(stand_in(spec), path, untrained_card(spec))


def stand_in(spec: AnySpec) -> AnyNetwork:
    """The untrained network with batch-norm statistics and biases as varied as trained ones.

    Fresh ones are all equal, and exporters store equal tensors once: files would come out a tenth
    smaller than after training.
    """
    network = spec.build(seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                low = 0.5 if name.endswith(("norm.weight", "running_var")) else -0.1
                tensor.copy_(low + torch.rand(tensor.shape, generator=generator) * 2 * abs(low))
    return network


def build_files(
    runtime: Runtime,
    exported: Path,
    folder: Path,
    precisions: tuple[Precision, ...],
    calibration: Calibration | None = None,
) -> dict[Precision, Path]:
    """The files of one runtime by precision, in `folder`; calibrated on noise if on nothing.

    The folder above `folder` must be there: one that vanished is not made anew.
    """
    files: dict[Precision, Path] = {}
    for precision in precisions:
        path = (
            folder
            / runtime.name
            / (precision if precision in ("int8", "w8") else "float")
            / runtime.file_name("model")
        )
        files[precision] = path
        if path.exists():
            continue
        for part in (folder, path.parent.parent, path.parent):
            part.mkdir(exist_ok=True)
        if precision == "int8":
            runtime.quantize(exported, path, calibration or _noise_calibration(exported))
        elif precision == "w8":
            runtime.compress_weights(exported, path)
        else:
            runtime.convert(exported, path)
    return files


def noise(count: int, spec: AnySpec) -> np.ndarray:
    """Seeded uint8 noise (count, resolution, resolution, in_chans): timing does not see content."""
    shape = (count, spec.resolution, spec.resolution, spec.in_chans)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def untrained_card(spec: AnySpec) -> FileCard:
    """The card of a file that is only timed."""
    is_classifier = isinstance(spec, ArchSpec)
    usual = Preprocessing.for_resolution if is_classifier else Preprocessing.of_whole
    return FileCard(
        name=spec.label,
        classes=tuple(str(k) for k in range(spec.num_classes)),
        preprocessing=usual(spec.resolution),
        task=task_of(spec),
    )


def _noise_calibration(exported: Path) -> Calibration:
    shape = [d if isinstance(d, int) else 1 for d in inspect_onnx(exported).inputs[0].shape]
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Calibration(pixels=pixels, config=PLAIN_INT8)
