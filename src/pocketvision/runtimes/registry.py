"""The runtimes by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pocketvision.errors import MissingExtraError, choice
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino import OpenVino
from pocketvision.runtimes.runtime import Runtime

RUNTIMES: Mapping[str, Runtime] = MappingProxyType(
    {runtime.name: runtime for runtime in (OnnxRuntime(), OpenVino())}
)


def get_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises: ConfigError: an unknown name."""
    return RUNTIMES[choice("runtime", name, RUNTIMES)]


def installed_runtimes() -> list[Runtime]:
    """Those whose packages are installed, in the order of the table."""
    return [runtime for runtime in RUNTIMES.values() if _is_installed(runtime)]


def _is_installed(runtime: Runtime) -> bool:
    try:
        runtime.check()
    except MissingExtraError:
        return False
    return True
