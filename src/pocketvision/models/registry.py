"""The networks by name. Reading the names imports no torch; building one does."""

from __future__ import annotations

import fnmatch
import importlib
from typing import TYPE_CHECKING, NamedTuple

from pocketvision.errors import ConfigError, choice, did_you_mean

if TYPE_CHECKING:
    from pocketvision.models.arch import ArchSpec, Network


class Entry(NamedTuple):
    """Where a network's builder is, and the width multipliers the planner may try."""

    module: str
    widths: tuple[float, ...]


_V1_WIDTHS = (0.25, 0.5, 0.75, 1.0)
_V2_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_V3_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
_MINIMALISTIC_WIDTHS = (0.5, 0.75, 1.0)

MODELS = {  # the builder has the network's name
    "mobilenet_v1": Entry("pocketvision.models.mobilenet_v1", _V1_WIDTHS),
    "mobilenet_v2": Entry("pocketvision.models.mobilenet_v2", _V2_WIDTHS),
    "mobilenet_v3_large": Entry("pocketvision.models.mobilenet_v3", _V3_WIDTHS),
    "mobilenet_v3_large_minimalistic": Entry(
        "pocketvision.models.mobilenet_v3", _MINIMALISTIC_WIDTHS
    ),
    "mobilenet_v3_small": Entry("pocketvision.models.mobilenet_v3", _V3_WIDTHS),
    "mobilenet_v3_small_minimalistic": Entry(
        "pocketvision.models.mobilenet_v3", _MINIMALISTIC_WIDTHS
    ),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern such as "mobilenet_v3*", sorted; none: an empty list."""
    return sorted(fnmatch.filter(MODELS, pattern))


def find_models(pattern: str = "*") -> list[str]:
    """As `list_models`, for a pattern a person typed.

    Raises: ConfigError: nothing matches; with the names there are, and the nearest one.
    """
    names = list_models(pattern)
    if not names:
        raise ConfigError(
            f"model {pattern!r} is unknown; expected one of {list_models()}, or a pattern such as "
            f"'mobilenet_v3*'.{did_you_mean(pattern, MODELS)}"
        )
    return names


def widths(name: str) -> tuple[float, ...]:
    """Multipliers worth trying, ascending. Raises: ConfigError: an unknown name."""
    return MODELS[choice("model", name, MODELS)].widths


def spec(
    name: str,
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float | None = None,
) -> ArchSpec:
    """The network as data. dropout: None takes the paper's.

    Raises: ConfigError: an unknown name, an option outside what is allowed.
    """
    module = importlib.import_module(MODELS[choice("model", name, MODELS)].module)
    arch: ArchSpec = getattr(module, name)(
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        **({} if dropout is None else {"dropout": dropout}),
    )
    return arch


def create_model(
    model: str | ArchSpec,
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float | None = None,
    seed: int | None = None,
) -> Network:
    """The module with new weights, from a name or a specification.

    The options are `spec`'s, and for names only; seed is `ArchSpec.build`'s.

    Raises: ConfigError: as `spec`; options beside a specification.
    """
    if isinstance(model, str):
        return spec(
            model,
            width=width,
            resolution=resolution,
            num_classes=num_classes,
            in_chans=in_chans,
            dropout=dropout,
        ).build(seed)
    if (width, resolution, num_classes, in_chans, dropout) != (1.0, 224, 1000, 3, None):
        raise ConfigError(
            f"{model.label} is a specification and already fixes width, resolution, num_classes, "
            "in_chans and dropout; change it with dataclasses.replace, or pass a name."
        )
    return model.build(seed)
