"""pocketvision fits a vision network to a device.

Labelled images, or a hyperspectral scene, and a budget in; a trained, quantized, exported, verified
and measured network out.
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
    from pocketvision.fitting.quantize import quantize as quantize
    from pocketvision.fitting.reproduce import reproduce as reproduce
    from pocketvision.fitting.verify import verify as verify
    from pocketvision.mapping.artefact import SceneArtefact as SceneArtefact
    from pocketvision.mapping.maps import map_scene as map_scene
    from pocketvision.mapping.pipeline import fit_scene as fit_scene
    from pocketvision.mapping.shrink import shrink_scene as shrink_scene
    from pocketvision.measure.count import count as count
    from pocketvision.models.create import create_model as create_model
    from pocketvision.models.registry import list_models as list_models
    from pocketvision.models.registry import spec as spec
    from pocketvision.searching.search import search as search
    from pocketvision.searching.shrink import shrink as shrink

__version__ = "0.1.0"

_HOMES = {
    "Artefact": "pocketvision.fitting.artefact",
    "Budget": "pocketvision.budget",
    "SceneArtefact": "pocketvision.mapping.artefact",
    "compare": "pocketvision.fitting.compare",
    "count": "pocketvision.measure.count",
    "create_model": "pocketvision.models.create",
    "fit": "pocketvision.fitting.pipeline",
    "fit_scene": "pocketvision.mapping.pipeline",
    "list_models": "pocketvision.models.registry",
    "load": "pocketvision.fitting.artefact",
    "map_scene": "pocketvision.mapping.maps",
    "quantize": "pocketvision.fitting.quantize",
    "reproduce": "pocketvision.fitting.reproduce",
    "search": "pocketvision.searching.search",
    "shrink": "pocketvision.searching.shrink",
    "shrink_scene": "pocketvision.mapping.shrink",
    "spec": "pocketvision.models.registry",
    "verify": "pocketvision.fitting.verify",
}

__all__ = [
    "Artefact",
    "Budget",
    "SceneArtefact",
    "__version__",
    "compare",
    "count",
    "create_model",
    "fit",
    "fit_scene",
    "list_models",
    "load",
    "map_scene",
    "quantize",
    "reproduce",
    "search",
    "shrink",
    "shrink_scene",
    "spec",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketvision' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
