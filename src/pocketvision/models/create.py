"""A network from its name: the one call that does everything."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, FeatureNetwork, Network
from pocketvision.models.checkpoint import read_checkpoint
from pocketvision.models.weights import as_trained, load_checkpoint, weights_path

_FIXED = "width, resolution, num_classes, in_chans, dropout and attention"


@overload
def create_model(
    model: str | ArchSpec,
    *,
    width: float | None = ...,
    resolution: int | None = ...,
    num_classes: int | None = ...,
    in_chans: int | None = ...,
    dropout: float | None = ...,
    attention: str | None = ...,
    weights: str | Path | None = ...,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
    seed: int | None = ...,
) -> Network: ...


@overload
def create_model(
    model: str | ArchSpec,
    *,
    width: float | None = ...,
    resolution: int | None = ...,
    num_classes: int | None = ...,
    in_chans: int | None = ...,
    dropout: float | None = ...,
    attention: str | None = ...,
    weights: str | Path | None = ...,
    features_only: Literal[True],
    out_indices: tuple[int, ...] | None = ...,
    seed: int | None = ...,
) -> FeatureNetwork: ...


def create_model(
    model: str | ArchSpec,
    *,
    width: float | None = None,
    resolution: int | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    dropout: float | None = None,
    attention: str | None = None,
    weights: str | Path | None = None,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    seed: int | None = None,
) -> Network | FeatureNetwork:
    """The module, from a name or a specification.

    The options are `registry.spec`'s, and for names only; None takes the default there. seed is
    `ArchSpec.build`'s. features_only: the body alone, which returns a list of maps; out_indices:
    which of them, counted from the largest, negative from the smallest; None: all.

    weights: None: new ones; else what `weights.weights_path` takes: a file or folder of ours, a
    file of torchvision's or timm's, an address, or "torchvision", "timm", "torchvision:
    IMAGENET1K_V1". num_classes and in_chans are then the file's unless given; a head of other
    classes is new, and of a stem for one channel in place of three the sum over them is taken.
    (`weights.load_weights` also tells which preprocessing and classes belong to them.)

    Raises: ConfigError: as `registry.spec`; options beside a specification; indices of maps that
        the network does not have, or without features_only. ArtefactError: as `load_weights`.
    """
    if isinstance(model, ArchSpec):
        given = (width, resolution, num_classes, in_chans, dropout, attention)
        if any(option is not None for option in given):
            raise ConfigError(
                f"{model.label} is a specification and already fixes {_FIXED}; change it with "
                "dataclasses.replace, or pass a name."
            )
        arch = model
    else:
        arch = registry.spec(
            model,
            width=width,
            resolution=224 if resolution is None else resolution,
            num_classes=1000 if num_classes is None else num_classes,
            in_chans=3 if in_chans is None else in_chans,
            dropout=dropout,
            attention=attention,
        )
    indices = _check_indices(arch, out_indices, features_only)
    if weights is None:
        network = arch.build(seed)
    else:
        name = arch.name if isinstance(model, ArchSpec) else model
        checkpoint = read_checkpoint(weights_path(weights, name, arch.width))
        if not isinstance(model, ArchSpec) and attention is None:
            arch = as_trained(arch, checkpoint, num_classes=num_classes, in_chans=in_chans)
        network = arch.build(seed)
        load_checkpoint(network, checkpoint)
    return FeatureNetwork(network, indices) if features_only else network


def _check_indices(
    arch: ArchSpec, out_indices: tuple[int, ...] | None, features_only: bool
) -> tuple[int, ...]:
    """The maps to return, counted from the largest. Raises: ConfigError."""
    maps = len(arch.taps)
    if out_indices is None:
        return tuple(range(maps))
    if not features_only:
        raise ConfigError(f"out_indices={out_indices} needs features_only=True.")
    if not out_indices or not all(-maps <= index < maps for index in out_indices):
        raise ConfigError(
            f"out_indices={out_indices} is not allowed; {arch.label} has {maps} maps, of strides "
            f"{sorted(arch.taps)}: expected indices {-maps} to {maps - 1}."
        )
    return tuple(sorted({index % maps for index in out_indices}))
