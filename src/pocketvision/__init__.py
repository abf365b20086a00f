"""pocketvision fits a vision network to a device.

Labelled images and a budget in; a trained, quantized, exported, verified and measured network out.
Importing this package imports no torch; names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketvision.budget import Budget as Budget
    from pocketvision.fitting.artefact import Artefact as Artefact
    from pocketvision.fitting.artefact import load as load
    from pocketvision.fitting.compare import compare as compare
    from pocketvision.fitting.pipeline import fit as fit
    from pocketvision.fitting.verify import verify as verify
    from pocketvision.measure.count import count as count
    from pocketvision.models.create import create_model as create_model
    from pocketvision.models.registry import list_models as list_models
    from pocketvision.models.registry import spec as spec

__version__ = "0.1.0"

_HOMES = {
    "Artefact": "pocketvision.fitting.artefact",
    "Budget": "pocketvision.budget",
    "compare": "pocketvision.fitting.compare",
    "count": "pocketvision.measure.count",
    "create_model": "pocketvision.models.create",
    "fit": "pocketvision.fitting.pipeline",
    "list_models": "pocketvision.models.registry",
    "load": "pocketvision.fitting.artefact",
    "spec": "pocketvision.models.registry",
    "verify": "pocketvision.fitting.verify",
}

__all__ = [
    "Artefact",
    "Budget",
    "__version__",
    "compare",
    "count",
    "create_model",
    "fit",
    "list_models",
    "load",
    "spec",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketvision' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
