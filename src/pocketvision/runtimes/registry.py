"""The runtimes by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pocketvision.errors import MissingExtraError, choice
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxruntime import OnnxRuntime, in_batches
from pocketvision.runtimes.openvino import OpenVino
from pocketvision.runtimes.runtime import Answers, Pixels, Runtime

BATCH = 8  # images at a time, when accuracy is measured

RUNTIMES: Mapping[str, Runtime] = MappingProxyType(
    {runtime.name: runtime for runtime in (OnnxRuntime(), OpenVino())}
)


def get_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises: ConfigError: an unknown name."""
    return RUNTIMES[choice("runtime", name, RUNTIMES)]


def file_answers(
    runtime: str, precision: Precision, path: Path, threads: int, pixels: Pixels
) -> Answers:
    """(N, ...) of a file under the options that ship. Raises: as `Runtime.session`."""
    session = get_runtime(runtime).session(path, precision, threads)
    return np.concatenate([session.run(batch) for batch in in_batches(pixels, BATCH)])


def installed_runtimes() -> list[Runtime]:
    """Those whose packages are installed, in the order of the table."""
    return [runtime for runtime in RUNTIMES.values() if _is_installed(runtime)]


def _is_installed(runtime: Runtime) -> bool:
    try:
        runtime.check()
    except MissingExtraError:
        return False
    return True
