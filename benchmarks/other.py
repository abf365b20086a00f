"""Importing other implementations, which may be absent or built for another PyTorch.

Lightning imports torchvision where it is installed: a script that uses both imports this module
before any of pocketvision.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from typing import Any

import torch

_LIBRARIES: list[torch.library.Library] = []  # an operator lives as long as its library object


class AbsentError(Exception):
    """The other implementation cannot be imported; the message says why."""


def import_other(name: str) -> Any:
    """The module torchvision or timm. Raises: AbsentError: it is absent or broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs are not ours to fail on
        try:
            try:
                return importlib.import_module(name)
            except RuntimeError as error:
                if "torchvision::nms" not in str(error):
                    raise
            _declare_nms()
            return importlib.import_module(name)
        except ImportError as error:
            raise AbsentError(f"needs {name} (make reference): {error}") from error
        except (RuntimeError, OSError) as error:
            raise AbsentError(f"{name} is broken here: {error}") from error


def _declare_nms() -> None:
    """Make torchvision built for CUDA importable beside PyTorch for the CPU.

    Its compiled operators do not load there, and it stops where it describes `nms`, which nobody
    then declared. A declaration without a body is enough for classification networks.
    """
    for module in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)


with contextlib.suppress(AbsentError):
    import_other("torchvision")
