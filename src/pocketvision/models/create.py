"""A network from its name: the one call that does everything."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.checkpoint import Checkpoint, read_checkpoint
from pocketvision.models.download import Progress
from pocketvision.models.foreign import CLASSIFIER, STEM, style_of
from pocketvision.models.identify import HEAD, identify, with_channels
from pocketvision.models.taps import FeatureNetwork
from pocketvision.models.weights import (
    WeightsReport,
    described,
    load_checkpoint,
    weights_path,
)

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
    progress: Progress | None = ...,
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
    progress: Progress | None = ...,
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
    progress: Progress | None = None,
) -> Network | FeatureNetwork:
    """The module, from a name or a specification.

    The options are `registry.spec`'s, and for names only; None takes the default there. seed is
    `ArchSpec.build`'s. features_only: the body alone, which returns a list of maps; out_indices:
    which of them, counted from the largest, negative from the smallest; None: all.

    weights: None: new ones; else what `weights.weights_path` takes: a file or folder of ours, a
    file of torchvision's or timm's, an address, or "torchvision", "timm", "torchvision:
    IMAGENET1K_V1". num_classes and in_chans are then the file's unless given or fixed by a
    specification; a head of other classes is new, and of a stem for one channel in place of three
    the sum over them is taken. What leaves no trace in the tensors cannot be seen: blur pools, or
    one-sided padding in a tf_ file under another name. The full report (norms, preprocessing,
    classes) is what `weights.load_weights` returns, for a network that is there already.
    progress: called with bytes (done, all) while weights are downloaded.

    Warns: UserWarning: a new head that was not asked for; why answers differ from the published.
    Raises: ConfigError: as `registry.spec`; options beside a specification; indices of maps that
        the network does not have, or without features_only. ArtefactError: as `load_weights`.
    """
    _check_types(model, weights, out_indices)
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
    _check_indices(arch, out_indices, features_only)  # before anything is downloaded
    if weights is None:
        network = arch.build(seed)
    else:
        name = arch.name if isinstance(model, ArchSpec) else model
        checkpoint = read_checkpoint(weights_path(weights, name, arch.width, progress))
        if not isinstance(model, ArchSpec):
            found = _of_file(arch, checkpoint) if attention is None else None
            arch = _sized(arch, found or arch, checkpoint, num_classes, in_chans)
        network = arch.build(seed)
        report = load_checkpoint(network, checkpoint)
        asked_for = HEAD if features_only else CLASSIFIER if num_classes is not None else None
        _warn(report, checkpoint.path, asked_for)
    if not features_only:
        return network
    return FeatureNetwork(network, _check_indices(network.spec, out_indices, features_only))


def _of_file(asked: ArchSpec, checkpoint: Checkpoint) -> ArchSpec | None:
    """The network of the weights if it has the name and width asked for; None otherwise."""
    file = described(checkpoint.path)
    if file and (file.spec.name, file.spec.width) == (asked.name, asked.width):
        return file.classifier(checkpoint.path)
    return identify(checkpoint, name=asked.name, width=asked.width)


def _sized(
    asked: ArchSpec,
    body: ArchSpec,
    checkpoint: Checkpoint,
    num_classes: int | None,
    in_chans: int | None,
) -> ArchSpec:
    """`body` with the classes and input channels given, else the file's; the rest as asked."""
    style = style_of(checkpoint.state, checkpoint.path.name)
    theirs = dict(style.rule(asked)) if style and style.suits(asked.name) else {}
    modules = (CLASSIFIER, STEM.removesuffix(".weight"))
    classifier, stem = (
        checkpoint.state.get(f"{theirs.get(module, module)}.weight") for module in modules
    )
    if num_classes is None and classifier is not None and classifier.ndim == 2:
        num_classes = len(classifier)
    if in_chans is None and stem is not None and stem.ndim == 4:
        in_chans = stem.shape[1]
    num_classes, in_chans = num_classes or asked.num_classes, in_chans or asked.in_chans
    head = replace(body.head, num_classes=num_classes, dropout=asked.head.dropout)
    return replace(with_channels(body, in_chans), resolution=asked.resolution, head=head)


def _warn(report: WeightsReport, path: Path, new: str | None) -> None:
    """Say what a user must know. new: the part that was to be new, or is left away."""
    for caution in report.cautions:
        warnings.warn(caution, UserWarning, stacklevel=3)
    unasked = [name for name in report.replaced if new is None or not name.startswith(new)]
    if unasked:
        warnings.warn(
            f"{path} does not fit the head of the network: {', '.join(unasked)} are new. Train "
            "them before use.",
            UserWarning,
            stacklevel=3,
        )


def _check_types(model: object, weights: object, out_indices: object) -> None:
    """Raises: ConfigError: what a call without a type checker gets wrong most easily."""
    if not isinstance(model, str | ArchSpec):
        raise ConfigError(
            f"model={model!r} is not allowed; expected a name such as 'mobilenet_v3_small', or an "
            "ArchSpec."
        )
    if not isinstance(weights, str | Path | None):
        raise ConfigError(
            f"weights={weights!r} is not allowed; expected a file, a folder, an address, or "
            "published weights such as 'torchvision' or 'timm'."
        )
    if not isinstance(out_indices, tuple | list | None):
        raise ConfigError(
            f"out_indices={out_indices!r} is not allowed; expected a tuple such as (1, 2, 4)."
        )


def _check_indices(
    arch: ArchSpec, out_indices: tuple[int, ...] | None, features_only: bool
) -> tuple[int, ...]:
    """The maps to return, counted from the largest. Raises: ConfigError."""
    maps = len(arch.taps)
    if out_indices is None:
        return tuple(range(maps))
    if not features_only:
        raise ConfigError(f"out_indices={out_indices} needs features_only=True.")
    allowed = range(-maps, maps)
    if not out_indices or not all(index in allowed for index in out_indices):
        raise ConfigError(
            f"out_indices={out_indices} is not allowed; {arch.label} has {maps} maps, of strides "
            f"{sorted(arch.taps)}: expected indices {-maps} to {maps - 1}."
        )
    return tuple(sorted({index % maps for index in out_indices}))
